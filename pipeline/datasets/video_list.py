"""A list of videos: what each is called, where it is, its labels and its split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from ..video import RemotePath

PROBLEMS_SHOWN = 5
"""How many faults of a kind a message names; the others are counted."""


class DatasetError(ValueError):
    """A list of videos that cannot be read, or that contradicts itself, the disk, or its lexicon."""


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a list: a file, a segment of a file, or a folder of frame images."""

    id: str
    """Its path below the root of the list, with ``/`` between folders; of a segment, with ``#t=START,END``
    behind it (seconds, as in media fragments of the web). No two videos share one."""

    path: Path | RemotePath
    """Where its file is, on a disk or in an object store (an image is a video of one frame), or the folder whose images are its frames, in natural
    order."""

    labels: tuple[str, ...] = ()
    """The classes it belongs to, as the list spells them; empty when unknown."""

    split: str = ""
    """Such as ``train`` or ``test``, as the list spells it; several with spaces between them, such as
    ``train1 test2``; empty when there is none."""

    origin: str = ""
    """Where it was listed, such as ``list.csv, row 12``; empty when it was found in a folder."""

    start_seconds: float | None = None
    """Where its segment begins, for a part of a longer video. None: at the start."""

    end_seconds: float | None = None
    """Where its segment ends. None: at the end."""

    @property
    def where(self) -> str:
        """What to show a person who has to find the entry: its origin, or else its id."""
        return self.origin or self.id


class VideoList(Sequence[Video]):
    """Videos in a fixed order, no two of one id. Slices are lists too.

    Raises DatasetError when an id repeats.
    """

    def __init__(
        self,
        videos: Iterable[Video],
        *,
        n_other_files: int = 0,
        missing: Iterable[Video] = (),
        notes: Iterable[str] = (),
        source: str = "",
    ) -> None:
        self.videos: tuple[Video, ...] = tuple(videos)
        """The videos, in order."""
        self.n_other_files = n_other_files
        """Files of the folder that were left out: hidden, or not called like a video."""
        self.missing: tuple[Video, ...] = tuple(missing)
        """Listed videos without a file, left out because the caller allowed it."""
        self.notes: tuple[str, ...] = tuple(notes)
        """What a person should know about the list though nothing in it is wrong, a sentence each."""
        self.source = source
        """What the list was read from. By it, a cache finds the missing videos of a list that is read again."""
        first: dict[str, Video] = {}
        twice = [
            f"{video.id!r} ({first[video.id].where} and {video.where})"
            for video in self.videos
            if first.setdefault(video.id, video) is not video
        ]
        if twice:
            raise DatasetError(f"Videos listed twice: {preview(twice)}. List each video once.")

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Video]:
        return iter(self.videos)

    @overload
    def __getitem__(self, index: int) -> Video: ...
    @overload
    def __getitem__(self, index: slice) -> VideoList: ...
    def __getitem__(self, index: int | slice) -> Video | VideoList:
        return self.subset(self.videos[index]) if isinstance(index, slice) else self.videos[index]

    def subset(self, videos: Iterable[Video]) -> VideoList:
        """Return a list of some of the videos, which otherwise says what this one says."""
        return VideoList(
            videos,
            n_other_files=self.n_other_files,
            missing=self.missing,
            notes=self.notes,
            source=self.source,
        )

    def __repr__(self) -> str:
        return f"VideoList({len(self)} videos, {len(self.labels)} labels)"

    @property
    def labels(self) -> tuple[str, ...]:
        """The different labels of the list, in natural order."""
        return tuple(sorted({label for video in self.videos for label in video.labels}, key=natural_key))


def natural_key(text: str) -> str:
    """Return a sort key that orders numbers by their value and paths folder by folder: ``a2/x``, ``a10/x``."""
    # The text itself comes last, for names that differ only in leading zeros.
    padded = re.sub(r"[0-9]+", lambda digits: digits.group().zfill(20), text)
    return f"{padded.replace('/', chr(0))}{chr(0)}{text}"


def preview(problems: Sequence[str], count: int | None = None) -> str:
    """Return the first few problems, and how many more there are."""
    more = (len(problems) if count is None else count) - PROBLEMS_SHOWN
    return "; ".join(problems[:PROBLEMS_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")


def plural(count: int, noun: str) -> str:
    """Return ``1 video``, ``2,000 videos``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
