"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _set_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta["vidclip.debug"] = True


def vidclip_command(
    name: str | None = None, **attributes: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with `--debug`."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        debug = click.option(
            "--debug",
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_debug,
            help="Show the traceback of an error.",
        )
        return click.command(name, **attributes)(debug(function))

    return decorate


cache_option: Decorator = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("features"),
    show_default=True,
    envvar="VIDCLIP_CACHE",
    help="Folder of the cache.",
)
json_option: Decorator = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the result as JSON too; - for standard output, instead of the table.",
)
device_option: Decorator = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."
)
lexicon_option: Decorator = click.option(
    "--lexicon", help="The class names: a lexicon or a text file.  [default: the cache's own labels]"
)


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--workers` and `--timeout` of the commands that read videos."""
    workers = click.option(
        "--workers",
        type=click.IntRange(1),
        default=processors,
        show_default="processors",
        help="Decoding processes.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        help="Seconds a decoder may take for one video.",
    )
    return workers(timeout(function))
