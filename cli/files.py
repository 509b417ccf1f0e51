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

from .messages import either, printable


def check_writable(path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
    """Raise click.UsageError, before the work begins, where `path` could not be written afterwards."""
    from ..cache.files import check_folder_writable

    shown = f"{option} {printable(path)}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise click.UsageError(f"{shown}: the name must end in {either(suffixes)}.")
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
        with contextlib.suppress(FileNotFoundError):  # its very name may be too long
            target.lstat()
        # Under another name: a kill at this moment must not leave an empty file that passes for a result.
        check_folder_writable(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.UsageError(
            f"{shown}: {printable(path.parent)} cannot be written to ({reason})."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write to a file, whole or not at all; or to standard output for `-`. Raises OSError."""
    from ..cache import write_whole

    if str(path) == "-":
        click.echo(text, nl=False)
        return
    target = _target(path)
    if target.exists() and not target.is_file():  # a pipe or a device has no second name
        target.write_text(text, encoding="utf-8")
        return
    write_whole(target, text.encode())


def write_predictions(path: Path, rows: Sequence[Any]) -> None:
    """Write what was said of videos, whole or not at all. Raises OSError, and as `encode_predictions` does."""
    from ..cache import write_whole
    from ..pipeline.evaluation import encode_predictions

    write_whole(_target(path), encode_predictions(path, rows))


def write_json(path: Path, document: Any) -> None:
    """Write as `write_text` does. Raises Failed for nan and inf, which JSON does not have, by the name of the
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
    """Yield where such numbers are, such as `results[0].figures.top1`."""
    if isinstance(document, float) and not math.isfinite(document):
        yield field or "it"
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield from _not_finite(value, f"{field}.{key}" if field else str(key))
    elif isinstance(document, (list, tuple)):
        for place, value in enumerate(document):
            yield from _not_finite(value, f"{field}[{place}]")


def _target(path: Path) -> Path:
    """Return what a link stands for: it stays a link."""
    return Path(os.path.realpath(path))
