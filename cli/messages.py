"""Text on its way to the terminal: names, labels and paths come from files, and may hold anything."""

from __future__ import annotations

import click


def printable(text: object) -> str:
    """Names of files and labels as any terminal can show them: no control characters, no broken Unicode."""
    shown = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)


def one_line(message: object) -> str:
    """A message of several lines as one, printable: what is quoted in it can neither move the cursor nor begin a
    line of its own."""
    return printable(" ".join(part.strip() for part in str(message).splitlines()))


def note(message: str) -> None:
    click.echo(f"Note: {one_line(message)}", err=True)


def warn(message: str) -> None:
    click.echo(f"Warning: {one_line(message)}", err=True)
