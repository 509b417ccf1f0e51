"""Standard output for results, standard error for the rest; plain text where it is no terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


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


def printable(text: object) -> str:
    """Names of files and labels as any terminal can show them: no control characters, no broken Unicode."""
    shown = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are text and whose others are figures."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for position, name in enumerate(columns):
        made.add_column(Text(name), justify="left" if position < left else "right")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 video`, `2,000 videos`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


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


def warn(message: str) -> None:
    click.echo(f"Warning: {printable(message)}", err=True)


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
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None, now="")
        yield lambda done, total, now: bar.update(task, completed=done, total=total, now=now)


def check_writable(path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
    """Before the work begins: raises click.UsageError where `path` could not be written afterwards."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise click.UsageError(f"{option} {printable(path)}: the name must end in {' or '.join(suffixes)}.")
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        state = "is not a folder" if not folder.is_dir() else "cannot be written to"
        raise click.UsageError(f"{option} {printable(path)}: {printable(folder)} {state}.")


def write_json(path: Path, document: Any) -> None:
    """To a file, whole or not at all; or to standard output for `-`. Raises OSError."""
    text = json.dumps(document, indent=2) + "\n"
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
