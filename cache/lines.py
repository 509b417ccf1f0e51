"""The lists of a cache, `failures.jsonl` and `missing.jsonl`: a JSON object a line, with a checksum of its own.

    {"id": "yoga/1.mp4", ..., "sha256": "0123456789abcdef"}

The checksum is the beginning of the SHA-256 of the object without it, as canonical JSON; the lines of older versions
have none. A line that is damaged, or was cut short by a crash, is skipped, with a warning.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import CacheError
from .files import read_regular
from .identity import digest_of

T = TypeVar("T")
_DIGITS = 16
_log = logging.getLogger(__name__)


def to_line(values: Mapping[str, Any]) -> str:
    """Return an object as a line, without its end."""
    return json.dumps({**values, "sha256": digest_of(dict(values))[:_DIGITS]})


def read_lines(path: Path, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """Return what `parse` makes of each line; none where there is no file. Damaged lines are named in the log, once.

    parse    raises KeyError, TypeError, ValueError or AttributeError for an object of another form
    Raises CacheError for a file that cannot be read.
    """
    found, damaged = _read(path, parse)
    if damaged:
        _say_once(str(path), damage_message(path, damaged))
    return found


def damaged_lines(path: Path, parse: Callable[[dict[str, Any]], Any]) -> tuple[int, ...]:
    """Return the numbers of the lines that `read_lines` skips, from 1. Raises CacheError."""
    return _read(path, parse)[1]


def damage_message(path: Path, numbers: tuple[int, ...]) -> str:
    """Return a message that names the damaged lines of a file."""
    which = f"line {numbers[0]} is" if len(numbers) == 1 else f"{len(numbers)} lines are"
    first = "" if len(numbers) == 1 else f" (the first is line {numbers[0]})"
    return (
        f"{path}: {which} damaged and skipped{first}. Run `vidclip extract` with the list again: what is "
        "missing or cannot be read is then recorded anew."
    )


def _read(path: Path, parse: Callable[[dict[str, Any]], T]) -> tuple[list[T], tuple[int, ...]]:
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return [], ()
    except OSError as error:
        raise CacheError(f"{path} cannot be read ({error.strerror}). Restore it, or delete it.") from None
    found, damaged = [], []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            values = json.loads(line)
            digest = values.pop("sha256", None)
            if digest is not None and digest != digest_of(values)[:_DIGITS]:
                raise ValueError("its checksum does not fit")
            found.append(parse(values))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged.append(number)
    return found, tuple(damaged)


@functools.lru_cache(maxsize=1000)
def _say_once(_path: str, message: str) -> None:
    _log.warning("%s", message)
