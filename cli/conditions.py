"""When an option has a part in what was asked: declared beside the option, checked once for every command.

    option("--words", needs=with_option("--pool", "vcs"))
    option("--top", needs=with_option("--attributes"))

Conditions are joined with `&` and `|`. An option whose condition does not hold is refused where it was typed, with
the words of the condition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from .messages import either

NEARNESS = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
"""Where a setting comes from, the nearest first: command line, environment, file."""


@dataclass(frozen=True)
class Condition:
    """What has to be asked for, that an option have a part in it."""

    holds: Callable[[Call], bool]
    words: str
    """What the option goes with, such as `--pool vcs`."""

    def __and__(self, other: Condition) -> Condition:
        return Condition(
            lambda call: self.holds(call) and other.holds(call), f"{self.words} and {other.words}"
        )

    def __or__(self, other: Condition) -> Condition:
        return Condition(
            lambda call: self.holds(call) or other.holds(call), f"{self.words}, or {other.words}"
        )


def with_option(option: str, *values: object) -> Condition:
    """Return the condition that `option` has one of the values, among others where it may be repeated; without values, that it was
    given at all."""

    def holds(call: Call) -> bool:
        found = call.values(option)
        return any(value in values for value in found) if values else bool(found)

    return Condition(holds, f"{option} {either(map(str, values))}" if values else option)


def without_option(option: str) -> Condition:
    """Return the condition that `option` was not given."""
    return Condition(lambda call: not call.values(option), f"calls without {option}")


class Call:
    """A call of a command: its parameters, by the names that its user knows."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        self._by_name = {
            spelling: parameter for parameter in ctx.command.params for spelling in parameter.opts
        }

    def values(self, option: str) -> tuple[Any, ...]:
        """Return what an option stands at, one or several; nothing where it is not given, or has no part itself."""
        parameter = self._by_name[option]
        value = self._ctx.params.get(parameter.name or "")
        if value is None or value is False or not self.has_part(parameter):
            return ()
        return tuple(value) if isinstance(value, (tuple, list)) else (value,)

    def has_part(self, parameter: click.Parameter) -> bool:
        needs: Condition | None = getattr(parameter, "needs", None)
        return needs is None or needs.holds(self)

    def nearness(self, option: str) -> int:
        """Return 0 on the command line, 1 in the environment, 2 in the file, 3 nowhere."""
        source = self._ctx.get_parameter_source(self._by_name[option].name or "")
        return NEARNESS.index(source) if source in NEARNESS else len(NEARNESS)
