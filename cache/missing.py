"""`missing.jsonl`: one line a video that a list names and that was not there when it was last read into the cache."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from .files import folder_turn, write_whole

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
    source: str = ""
    """The list, so that its entries are found when it is read again: what it was read from, and where its ids begin."""


def write_missing(folder: Path, videos: Iterable[MissingVideo]) -> None:
    """Says which videos are missing, in the place of all that was said before; no file where none is."""
    lines = "".join(json.dumps(vars(video)) + "\n" for video in videos)
    if lines:
        write_whole(folder / MISSING_FILE, lines.encode())
    else:
        (folder / MISSING_FILE).unlink(missing_ok=True)


def update_missing(
    folder: Path, videos: Iterable[MissingVideo], source: str, present: Collection[str]
) -> None:
    """Puts what a list misses in the place of what was said of this list before; other lists' entries stay.

    present    ids that are missing no more, whoever said so: in the cache, or found by this list
    """
    videos = list(videos)
    if not videos and not (folder / MISSING_FILE).exists():
        return
    with folder_turn(folder):
        before = read_missing(folder)
        ours = {video.id for video in videos}
        others = [
            video
            for video in before
            if video.id not in ours and video.id not in present and not (source and video.source == source)
        ]
        after = [*others, *videos]
        if after != before:
            write_missing(folder, after)


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
            texts = (str(values[key]) for key in ("id", "split"))
            listed_in, source = str(values["listed_in"]), str(values.get("source", ""))
            found.append(MissingVideo(*texts, labels, listed_in, source))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found
