"""`--quiet` and `--verbose` of every command, before or behind its name.

quiet      results and errors alone, with the warnings that a result is not what it may seem; no progress, no notes, no
           word on what was written
verbose    also where settings come from, which files and weights are used, times and memory, on standard error
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
from click.core import ParameterSource

from .conditions import NEARNESS
from .messages import one_line

_LOG = "vidclip"
_KEY = "vidclip.verbosity"
_BARS_OFF = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""For libraries that download weights."""


def remember(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Keep how near to the user a flag was set: of --quiet and --verbose the nearer one counts."""
    source = ctx.get_parameter_source(parameter.name or "")
    if value and source in NEARNESS:
        found: dict[str, int] = ctx.meta.setdefault(_KEY, {})
        name = parameter.name or ""
        found[name] = min(NEARNESS.index(source), found.get(name, len(NEARNESS)))


def settle(ctx: click.Context) -> None:
    """Raise click.UsageError where both flags are set in one place."""
    found: dict[str, int] = ctx.meta.get(_KEY, {})
    if len(found) == 2:
        if len(set(found.values())) == 1:
            raise click.UsageError("--quiet and --verbose exclude each other: give one of them.", ctx)
        del found[max(found, key=lambda name: found[name])]


def flags() -> list[str]:
    """Return the flag of the running command, for another that it runs."""
    ctx = click.get_current_context(silent=True)
    return [f"--{name}" for name in (ctx.meta.get(_KEY, {}) if ctx else {})]


@contextlib.contextmanager
def heeded(ctx: click.Context, where: Callable[[click.Parameter], str]) -> Iterator[None]:
    """Run a command with its verbosity.

    where    returns what a parameter is called and where it was set
    """
    found = ctx.meta.get(_KEY, {})
    if "quiet" in found:
        with _environment(_BARS_OFF):
            yield
    elif "verbose" in found:
        with _details():
            log, start = logging.getLogger(f"{_LOG}.cli"), time.perf_counter()
            for parameter in ctx.command.params:
                source = ctx.get_parameter_source(parameter.name or "")
                value = ctx.params.get(parameter.name or "")
                if source is not ParameterSource.DEFAULT and value not in (None, ()):
                    log.debug("%s: %s", where(parameter), value)
            try:
                yield
            finally:
                log.debug(
                    "%.1f s in all, peak memory %.0f MiB", time.perf_counter() - start, _peak_mebibytes()
                )
    else:
        yield


class _Details(logging.Handler):
    """Writes details, and the warnings that would be written without it, to standard error as it is now."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "Detail" if record.levelno < logging.WARNING else "Warning"
        click.echo(f"{kind}: {one_line(record.getMessage())}", err=True)


@contextlib.contextmanager
def _details() -> Iterator[None]:
    log, handler = logging.getLogger(_LOG), _Details()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set variables that are not set, for as long as this takes."""
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _peak_mebibytes() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
