"""`missing.jsonl`: one line a video that was listed, but not there, when videos were last read into the cache."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .files import write_whole

MISSING_FILE = "missing.jsonl"


@dataclass(frozen=True)
class MissingVideo:
    """A video that a list names, and that has no file."""

    id: str
    """What the list calls it."""
    split: str = ""
    labels: tuple[str, ...] = ()
    listed_in: str = ""
    """File and row."""


def write_missing(folder: Path, videos: Iterable[MissingVideo]) -> None:
    """Says which videos the list of today misses, in the place of what was said before; no file where none is."""
    lines = "".join(json.dumps(vars(video)) + "\n" for video in videos)
    if lines:
        write_whole(folder / MISSING_FILE, lines.encode())
    else:
        (folder / MISSING_FILE).unlink(missing_ok=True)


def read_missing(folder: Path) -> list[MissingVideo]:
    """In the order of the file; lines of another form are passed over."""
    found: list[MissingVideo] = []
    path = folder / MISSING_FILE
    if not path.exists():
        return found
    for line in path.read_bytes().splitlines():
        try:
            values = json.loads(line)
            labels = tuple(str(label) for label in values["labels"])
            found.append(
                MissingVideo(str(values["id"]), str(values["split"]), labels, str(values["listed_in"]))
            )
        except (ValueError, KeyError, TypeError):
            continue
    return found
