"""How a video file is recognized without reading it, and where its id begins."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from ..datasets import Video
from ..video import IMAGE_SUFFIXES


class Stamp(NamedTuple):
    """Size and modification time of a file; of a folder of images, those of its images together."""

    size: int
    """Bytes; -1 where they are not known."""
    modified_ns: int
    """The newest modification, in nanoseconds since 1970."""

    @property
    def known(self) -> bool:
        return self.size >= 0

    def same(self, other: Stamp) -> bool:
        """Return whether two files are taken for the same: size and time agree.

        A copy may have lost what its file system does not store: a time in whole seconds, or microseconds,
        is compared as such.
        """
        mine, theirs = self.modified_ns, other.modified_ns
        coarse = next((unit for unit in (10**9, 10**3) if mine % unit == 0 or theirs % unit == 0), 1)
        return self.size == other.size and mine // coarse == theirs // coarse


UNKNOWN = Stamp(-1, -1)


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Return the stamp of a video file or a folder of images; `UNKNOWN` where there is none or it cannot be read."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return Stamp(status.st_size, status.st_mtime_ns)
        size = newest = 0
        with os.scandir(path) as scan:
            for entry in scan:
                if not entry.name.startswith(".") and entry.name.lower().endswith(tuple(IMAGE_SUFFIXES)):
                    status = entry.stat()
                    size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
        return Stamp(size, newest) if newest else UNKNOWN
    except (OSError, ValueError):
        return UNKNOWN


def stamps_of(paths: Iterable[str]) -> dict[str, Stamp]:
    """Return the stamps of many files, read by several threads: a network file system is waited for, not worked."""
    rest = iter(dict.fromkeys(paths))
    pieces = iter(lambda: list(islice(rest, 256)), [])
    found: dict[str, Stamp] = {}
    with ThreadPoolExecutor(16) as pool:
        for piece, stamps in pool.map(lambda piece: (piece, [stamp_of(path) for path in piece]), pieces):
            found.update(zip(piece, stamps, strict=True))
    return found


def root_of(video: Video) -> str:
    """Return the folder where the id of a video begins; empty where its path does not end in its id."""
    id, path = video.id, str(video.path)
    if video.start_seconds is not None or video.end_seconds is not None:
        id = id.rpartition("#t=")[0]
    return path[: -len(id) - 1] if path.endswith(f"/{id}") else ""
