"""Text on its way to the terminal: names, labels and paths come from files, and may hold anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click


def printable(text: object) -> str:
    """Return names of files and labels as any terminal can show them: no control characters, no broken Unicode."""
    shown = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)


def one_line(message: object) -> str:
    """Return a message of several lines as one, printable: what is quoted in it can neither move the cursor nor begin a
    line of its own."""
    return printable(" ".join(part.strip() for part in str(message).splitlines()))


def quoted(arguments: Sequence[str]) -> str:
    """Return a command line for a shell, printable, that means these arguments."""
    import shlex

    return " ".join(shlex.quote(each) if each.isprintable() else f"$'{_escaped(each)}'" for each in arguments)


def _escaped(text: str) -> str:
    """As bash and zsh read it between $' and '."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "\\'" else f"\\x{byte:02x}" for byte in raw
    )


def either(values: Iterable[str]) -> str:
    """Return `a, b or c`."""
    several = list(values)
    return several[0] if len(several) == 1 else f"{', '.join(several[:-1])} or {several[-1]}"


def suggestion(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return ` Did you mean ...?` where one of the known names is much like this one, else `otherwise`."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else otherwise


def is_quiet() -> bool:
    """Return whether the running command has --quiet."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and "quiet" in ctx.meta.get("vidclip.verbosity", {})


def say(message: str) -> None:
    """Print what was done, which is no result: nothing with --quiet. The message is printable."""
    if not is_quiet():
        click.echo(message)


def note(message: str) -> None:
    """Print what a user may want to know: nothing with --quiet."""
    if is_quiet():
        return
    click.echo(f"Note: {one_line(message)}", err=True)


def warn(message: str) -> None:
    """Print why a result may not be what it seems, with --quiet too."""
    click.echo(f"Warning: {one_line(message)}", err=True)
