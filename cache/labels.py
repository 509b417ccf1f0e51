"""`labels.jsonl`: labels and splits of a later list, which replace those that the shards hold.

The first line says how many videos follow, and the SHA-256 of the lines behind it; then a line a video:

    {"format": "vidclip-labels", "version": 1, "videos": 1, "sha256": "..."}
    {"id": "yoga/1.mp4", "labels": ["yoga"], "split": "test"}
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import CacheError
from .files import folder_turn, read_regular, write_whole

LABELS_FILE = "labels.jsonl"
LABELS_FORMAT = "vidclip-labels"
LABELS_VERSION = 1
_BYTES = (2**24, 2**14)
"""Bytes that the file may have, and more for each video of the cache."""


class ListFacts(NamedTuple):
    """What a list says of a video: facts of the list, not of the pixels."""

    labels: tuple[str, ...]
    split: str


def read_labels(folder: Path, n_videos: int) -> dict[str, ListFacts]:
    """Return what the file says, by id; empty where no list has changed any.

    n_videos    how many the cache has: a far larger file is not read
    Raises CacheError where the file is damaged.
    """
    path = folder / LABELS_FILE
    limit = _BYTES[0] + _BYTES[1] * n_videos
    try:
        data = read_regular(path, limit)
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = (
            f"{error.strerror}, for {n_videos:,} videos"
            if error.errno == errno.EFBIG
            else str(error.strerror)
        )
        raise _damaged(path, reason) from None
    first, _, rest = data.partition(b"\n")
    try:
        head = _object(first)
        if head.get("format") != LABELS_FORMAT or head.get("version") != LABELS_VERSION:
            raise ValueError(f"its first line is no {LABELS_FORMAT}, version {LABELS_VERSION}")
        if head.get("sha256") != hashlib.sha256(rest).hexdigest():
            raise ValueError("its checksum does not fit its content")
        facts = dict(_row(line) for line in rest.splitlines())
        if head.get("videos") != len(facts):
            raise ValueError("it does not hold as many videos as it says")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    return facts


def update_labels(folder: Path, facts: Mapping[str, ListFacts], n_videos: int) -> None:
    """Replace what the file says of these videos; the file is written whole.

    Raises CacheError where the file that is there is damaged, OSError.
    """
    if not facts:
        return
    with folder_turn(folder):
        known = {**read_labels(folder, n_videos), **facts}
        rest = "".join(
            json.dumps({"id": id, "labels": list(each.labels), "split": each.split}) + "\n"
            for id, each in sorted(known.items())
        ).encode()
        head = {
            "format": LABELS_FORMAT,
            "version": LABELS_VERSION,
            "videos": len(known),
            "sha256": hashlib.sha256(rest).hexdigest(),
        }
        write_whole(folder / LABELS_FILE, json.dumps(head).encode() + b"\n" + rest)


def _object(line: bytes) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("a line is no object")
    return value


def _row(line: bytes) -> tuple[str, ListFacts]:
    values = _object(line)
    id, labels, split = (values.get(key) for key in ("id", "labels", "split"))
    if not (isinstance(id, str) and isinstance(split, str) and isinstance(labels, list)):
        raise ValueError("a line has no id, labels and split")
    texts = (id, split, *labels)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a label is no text")
    for text in texts:
        text.encode("utf-8", "surrogateescape")  # names on disk need not be UTF-8; anything else is no name
    return id, ListFacts(tuple(labels), split)


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"{path} is damaged ({reason}). Delete it and run `vidclip extract` with the list again: no video is "
        "encoded anew."
    )
