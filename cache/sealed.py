"""Small files of a cache that are rewritten whole: a head that seals the JSON lines behind it.

    {"format": "vidclip-labels", "version": 1, "videos": 1, "sha256": "..."}
    {"id": "yoga/1.mp4", ...}

The head says how many lines follow, and their SHA-256. What these files say changes what a cache holds, so damage is an
error, and no line is skipped.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import CacheError
from .files import read_regular, write_whole

T = TypeVar("T")
_BYTES = (2**24, 2**14)
"""Bytes that a file may have, and more for each video of the cache."""


def read_sealed(
    path: Path,
    kind: tuple[str, int],
    n_videos: int,
    parse: Callable[[dict[str, Any]], tuple[str, T]],
    advice: str,
) -> dict[str, T]:
    """Return what `parse` makes of each line, by id; empty where there is no file.

    kind        format and version
    n_videos    how many the cache has: a far larger file is not read
    parse       returns the id and the value of an object; raises ValueError for another form
    advice      what to do about a damaged file, a sentence
    Raises CacheError where the file is damaged.
    """
    try:
        data = read_regular(path, _BYTES[0] + _BYTES[1] * n_videos)
    except FileNotFoundError:
        return {}
    except OSError as error:
        too_large = f"{error.strerror}, for {n_videos:,} videos"
        reason = too_large if error.errno == errno.EFBIG else str(error.strerror)
        raise _damaged(path, reason, advice) from None
    first, _, rest = data.partition(b"\n")
    try:
        head = _object(first)
        if (head.get("format"), head.get("version")) != kind:
            raise ValueError(f"its first line is no {kind[0]}, version {kind[1]}")
        if head.get("sha256") != hashlib.sha256(rest).hexdigest():
            raise ValueError("its checksum does not fit its content")
        found = dict(parse(_object(line)) for line in rest.splitlines())
        if head.get("videos") != len(found):
            raise ValueError("it does not hold as many videos as it says")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error), advice) from None
    return found


def write_sealed(path: Path, kind: tuple[str, int], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one line for each row, whole. Raises OSError."""
    lines = [json.dumps(row) + "\n" for row in rows]
    rest = "".join(lines).encode()
    head = {
        "format": kind[0],
        "version": kind[1],
        "videos": len(lines),
        "sha256": hashlib.sha256(rest).hexdigest(),
    }
    write_whole(path, json.dumps(head).encode() + b"\n" + rest)


def text_of(value: Any, what: str) -> str:
    """Return a text of a line. Raises ValueError for anything else, and for what no name can be."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    value.encode("utf-8", "surrogateescape")  # names on disk need not be UTF-8; anything else is no name
    return value


def _object(line: bytes) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("a line is no object")
    return value


def _damaged(path: Path, reason: str, advice: str) -> CacheError:
    return CacheError(f"{path} is damaged ({reason}). {advice}")
