"""`labels.jsonl`: labels and splits of a later list, which replace those that the shards hold.

The first line says how many videos follow, and the SHA-256 of the lines behind it; then a line a video:

    {"format": "vidclip-labels", "version": 1, "videos": 1, "sha256": "..."}
    {"id": "yoga/1.mp4", "labels": ["yoga"], "split": "test"}

`labels-before.jsonl` has the same form: what the videos had that `vidclip label` changed last.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .files import folder_turn
from .sealed import read_sealed, text_of, write_sealed

LABELS_FILE = "labels.jsonl"
BEFORE_FILE = "labels-before.jsonl"
_KIND = ("vidclip-labels", 1)
_ADVICE = "Delete it and run `vidclip extract` with the list again: no video is encoded anew."
_ADVICE_BEFORE = "Delete it: only `vidclip label --undo` reads it."


class ListFacts(NamedTuple):
    """What a list says of a video: facts of the list, not of the pixels."""

    labels: tuple[str, ...]
    split: str


def read_labels(folder: Path, n_videos: int) -> dict[str, ListFacts]:
    """Return what the file says, by id; empty where no list has changed any.

    n_videos    how many the cache has: a far larger file is not read
    Raises CacheError where the file is damaged.
    """
    return read_sealed(folder / LABELS_FILE, _KIND, n_videos, _row, _ADVICE)


def read_labels_before(folder: Path, n_videos: int) -> dict[str, ListFacts]:
    """Return what the videos had that were labeled last, by id; empty where none were. Raises CacheError."""
    return read_sealed(folder / BEFORE_FILE, _KIND, n_videos, _row, _ADVICE_BEFORE)


def update_labels(
    folder: Path,
    facts: Mapping[str, ListFacts],
    n_videos: int,
    *,
    before: Mapping[str, ListFacts] | None = None,
) -> None:
    """Replace what the file says of these videos; the file is written whole.

    before    what they have now, to be kept for `read_labels_before`; None: nothing is kept
    Raises CacheError where the file that is there is damaged, OSError.
    """
    if not facts:
        return
    with folder_turn(folder):
        known = {**read_labels(folder, n_videos), **facts}
        if before is not None:  # first: after a kill between the two, undoing changes nothing
            _write(folder / BEFORE_FILE, before)
        _write(folder / LABELS_FILE, known)


def _write(path: Path, facts: Mapping[str, ListFacts]) -> None:
    write_sealed(
        path,
        _KIND,
        ({"id": id, "labels": list(each.labels), "split": each.split} for id, each in sorted(facts.items())),
    )


def _row(values: dict[str, Any]) -> tuple[str, ListFacts]:
    labels = values.get("labels")
    if not isinstance(labels, list):
        raise ValueError("a line has no id, labels and split")
    id, split = (text_of(values.get(key), f"the {key} of a line") for key in ("id", "split"))
    return id, ListFacts(tuple(text_of(label, "a label") for label in labels), split)
