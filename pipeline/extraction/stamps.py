"""How a video file is recognized without reading it, and where its id begins."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..datasets import Video
from ..video import IMAGE_SUFFIXES, DecodeError, RemotePath, is_remote, remote_stamp

STAMPS_AHEAD = 32


class Stamp(NamedTuple):
    """Size and modification time of a file; of a folder of images, those of its images together; of an object in a
    store, its size and a number made from its content tag (ETag), or from its time of change where it has none."""

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
    """Return the stamp of a video file, a folder of images, or an object, which is asked for and not read; `UNKNOWN`
    where there is none or it cannot be read."""
    try:
        if is_remote(path):
            return Stamp(*remote_stamp(os.fspath(path)))
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
    except (OSError, ValueError, DecodeError):
        return UNKNOWN


def stamps_of(paths: Iterable[Path | RemotePath]) -> dict[str, Stamp]:
    """Return the stamps of many files by `str` of their paths, read by several threads: a network file system is waited for, not worked."""
    rest = iter({str(path): path for path in paths}.items())
    pieces = iter(lambda: list(islice(rest, 256)), [])
    found: dict[str, Stamp] = {}
    with ThreadPoolExecutor(16) as pool:
        for stamps in pool.map(lambda piece: [(name, stamp_of(path)) for name, path in piece], pieces):
            found.update(stamps)
    return found


def stamps_ahead(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Stamp]:
    """Yield the stamp of each path in turn; stores are asked for several at a time, `STAMPS_AHEAD` before they are needed."""
    with ThreadPoolExecutor(16) as pool:
        coming: deque[Future[Stamp]] = deque()
        for path in paths:
            if not is_remote(path):
                while coming:
                    yield coming.popleft().result()
                yield stamp_of(path)
                continue
            coming.append(pool.submit(stamp_of, path))
            if len(coming) > STAMPS_AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def root_of(video: Video) -> str:
    """Return the folder where the id of a video begins; empty where its path does not end in its id."""
    id, path = video.id, str(video.path)
    if video.start_seconds is not None or video.end_seconds is not None:
        id = id.rpartition("#t=")[0]
    return path[: -len(id) - 1] if path.endswith(f"/{id}") else ""
