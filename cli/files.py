"""Files that commands write: looked at before the work begins, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .messages import printable


def check_writable(path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
    """Before the work begins: raises click.UsageError where `path` could not be written afterwards."""
    shown = f"{option} {printable(path)}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise click.UsageError(f"{shown}: the name must end in {' or '.join(suffixes)}.")
    try:
        target = _target(path)
        if target.is_dir():
            raise click.UsageError(f"{shown}: this is a folder.")
        if target.exists() and not os.access(target, os.W_OK):
            raise click.UsageError(f"{shown}: the file is there, and cannot be written to.")
        if target.exists() and not target.is_file():
            return  # a pipe or a device
        if not target.parent.is_dir():
            raise click.UsageError(f"{shown}: {printable(path.parent)} is not a folder.")
        if target.exists():
            _temporary(target).touch()
            _temporary(target).unlink()
        else:
            # Its very name may be too long.
            target.touch(exist_ok=False)
            target.unlink()
    except FileExistsError:  # another process has just written it
        return
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.UsageError(
            f"{shown}: {printable(path.parent)} cannot be written to ({reason})."
        ) from None


def write_text(path: Path, text: str) -> None:
    """To a file, whole or not at all; or to standard output for `-`. Raises OSError."""
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    target = _target(path)
    if target.exists() and not target.is_file():  # a pipe or a device has no second name
        target.write_text(text, encoding="utf-8")
        return
    temporary = _temporary(target)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """As `write_text`. Raises Failed for nan and inf, which JSON does not have, by the name of the
    field: what may be unknown is None, and any other such number is the sign of damaged data."""
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
    except ValueError:
        field = next(_not_finite(document), "a field")
        from .main import Failed

        raise Failed(
            f"{path} is not written: {field} is not a finite number, and JSON has no other. `vidclip verify` looks for "
            "damage in the cache."
        ) from None
    write_text(path, text + "\n")


def _not_finite(document: Any, field: str = "") -> Iterator[str]:
    """`results[0].figures.top1`: where such numbers are."""
    if isinstance(document, float) and not math.isfinite(document):
        yield field or "it"
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield from _not_finite(value, f"{field}.{key}" if field else str(key))
    elif isinstance(document, (list, tuple)):
        for place, value in enumerate(document):
            yield from _not_finite(value, f"{field}[{place}]")


def _target(path: Path) -> Path:
    """What a link stands for: it stays a link."""
    return Path(os.path.realpath(path))


def _temporary(target: Path) -> Path:
    return target.with_name(f".vidclip-{os.getpid()}.tmp")
