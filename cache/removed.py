"""`removed.jsonl`: videos that were taken out of a cache. Their features stay in the shards, and count no more.

    {"format": "vidclip-removed", "version": 1, "videos": 1, "sha256": "..."}
    {"id": "yoga/1.mp4", "generation": 1, "removal": 1}

Features of a lower generation than a line says do not count, and neither do failures of one. A video that is read again
gets this generation, and is there again; see `FeatureCache.next_generation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .sealed import read_sealed, text_of, write_sealed

REMOVED_FILE = "removed.jsonl"
_KIND = ("vidclip-removed", 1)
_ADVICE = "Delete it: the videos that were removed are there again then, and `vidclip remove` takes them out."


class Removed(NamedTuple):
    """That a video was taken out of a cache."""

    generation: int
    """Features with a lower one do not count."""
    removal: int
    """Which removal it was, from 1: those of one call are given back together."""


def read_removed(folder: Path, n_videos: int) -> dict[str, Removed]:
    """Return what was removed, by id; empty where nothing was.

    n_videos    how many rows the shards of the cache have: a far larger file is not read
    Raises CacheError where the file is damaged.
    """
    return read_sealed(folder / REMOVED_FILE, _KIND, n_videos, _row, _ADVICE)


def write_removed(folder: Path, removed: Mapping[str, Removed]) -> None:
    """Write the file, whole; none where nothing is removed. Raises OSError."""
    if removed:
        write_sealed(
            folder / REMOVED_FILE,
            _KIND,
            ({"id": id, **each._asdict()} for id, each in sorted(removed.items())),
        )
    else:
        (folder / REMOVED_FILE).unlink(missing_ok=True)


def _row(values: dict[str, Any]) -> tuple[str, Removed]:
    generation, removal = (values.get(key) for key in ("generation", "removal"))
    if not all(type(number) is int and 1 <= number < 2**62 for number in (generation, removal)):
        raise ValueError("a line has no generation and removal")
    return text_of(values.get("id"), "the id of a line"), Removed(int(generation or 0), int(removal or 0))
