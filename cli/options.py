"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

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
