"""Values of options that are numbers, and more than one number."""

from __future__ import annotations

import math
import re
from typing import Any

import click

from .parameters import FiniteRange


class Temperature(click.ParamType):
    """A number above 0, or `trained`."""

    name = "X|trained"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str | None:
        if value is None or value == "trained":
            return value
        return FiniteRange(1e-6, 1e6).convert(value, param, ctx)


class Share(click.ParamType):
    """A number above 0, or `vita`."""

    name = "X|vita"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str | None:
        if value is None or value == "vita":
            return value
        return FiniteRange(0, 1000, min_open=True).convert(value, param, ctx)


class Layers(click.ParamType):
    """`all`, or `last:K`."""

    name = "all|last:K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | None:
        if value is not None and not re.fullmatch(r"all|last:[1-9][0-9]{0,3}", str(value), re.ASCII):
            self.fail(f"{value!r} is neither all nor last:K, such as last:4.", param, ctx)
        return value


class Numbers(click.ParamType):
    """Several numbers with commas between them."""

    def __init__(self, name: str, kind: type[int] | type[float]) -> None:
        self.name, self._kind, self._count = name, kind, name.count(",") + 1

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            numbers = tuple(self._kind(each) for each in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self._count or not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is not {self._count} numbers with commas between them", param, ctx)
        return numbers
