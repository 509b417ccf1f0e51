"""Standard output for results, standard error for the rest; plain text where it is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .files import write_json as write_json
from .messages import is_quiet
from .messages import printable as printable
from .messages import quoted as quoted
from .messages import warn as warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def console(*, err: bool = False) -> Console:
    """Labels may look like markup; nothing here is ever read as such."""
    stream = sys.stderr if err else sys.stdout
    return Console(
        file=stream,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not stream.isatty(),
        width=None if stream.isatty() else 200,
    )


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are text and whose others are figures."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for position, name in enumerate(columns):
        made.add_column(Text(name), justify="left" if position < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def save_picture(figure: Figure, path: Path) -> None:
    """Write a picture, with a warning where a font lacks characters."""
    from ..pipeline.report import advice, save_figure

    boxes = save_figure(figure, path)
    if boxes:
        warn(f"{path}: {advice(boxes)}")


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 video`, `2,000 videos`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def echo_some(lines: Sequence[str], more: str = "") -> None:
    """The first five lines, indented, and how many more there are.

    more    what is said behind that number
    """
    for line in lines[:5]:
        click.echo(f"  {printable(line)}")
    if len(lines) > 5:
        click.echo(f"  ... and {len(lines) - 5:,} more{more}")


def size(n_bytes: float) -> str:
    """`12.3 MB`, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """`1.2 s`, `3:04`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """On standard error, where that is a terminal: call with done, total, and what is done now."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(err=True)
    columns = (
        TextColumn(what, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}", markup=False),
    )
    with Progress(
        *columns, console=screen, disable=is_quiet() or not screen.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=None, now="")
        yield lambda done, total, now: bar.update(task, completed=done, total=total, now=now)
