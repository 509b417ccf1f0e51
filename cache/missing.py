"""`missing.jsonl`: one line for each video that a list names and that was not there when it was last extracted."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import folder_turn, write_whole
from .lines import read_lines, to_line

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
    """Write the missing videos in the place of all that were listed before; no file where none is missing."""
    lines = "".join(to_line(vars(video)) + "\n" for video in videos)
    if lines:
        write_whole(folder / MISSING_FILE, lines.encode())
    else:
        (folder / MISSING_FILE).unlink(missing_ok=True)


def update_missing(
    folder: Path, videos: Iterable[MissingVideo], source: str, *present: Container[str]
) -> None:
    """Replace the entries of one list by the videos that it misses today; the entries of other lists stay.

    present    what holds ids that no list misses any more: a cache, or what this list has found
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
            if video.id not in ours
            and not any(video.id in ids for ids in present)
            and not (source and video.source == source)
        ]
        after = [*others, *videos]
        if after != before:
            write_missing(folder, after)


def read_missing(folder: Path) -> list[MissingVideo]:
    """Return the missing videos in the order of the file; a damaged line is skipped, and named in the log.

    Raises CacheError for a file that cannot be read.
    """
    return read_lines(folder / MISSING_FILE, parse_missing)


def parse_missing(values: dict[str, Any]) -> MissingVideo:
    """Return a missing video from a JSON object. Raises one of several errors for another form; see `lines.read_lines`."""
    labels = tuple(str(label) for label in values["labels"])
    id, split, listed_in = (str(values[key]) for key in ("id", "split", "listed_in"))
    return MissingVideo(id, split, labels, listed_in, str(values.get("source", "")))
