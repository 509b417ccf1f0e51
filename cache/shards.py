"""Shards, the closed files of a cache with features: which there are, and reading parts of their columns."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from .errors import CacheError
from .hdf5 import Column, Contents
from .open_file import OpenFile, describe

_PIECE = 1 << 20
"""Bytes that are read, checked and put in place at once: they stay in the processor's cache."""
WORTH_THREADS = 4 << 20
"""Bytes of a reading from which on several threads are faster than one."""
SHARD_PATTERN = "frames-*.h5"


class Shard:
    """A closed file of features."""

    def __init__(
        self,
        path: Path,
        num_videos: int,
        precision: str,
        shape: tuple[int, int, int],
        patch_shape: tuple[int, int] | None,
        size: int,
        digest: bytes,
        *,
        contents: Contents | None = None,
        indexed: bool = False,
    ) -> None:
        self.path, self.num_videos = path, num_videos
        self.precision = precision
        """In which the encoder ran: fp32, fp16, bf16."""
        self.shape, self.patch_shape = shape, patch_shape
        """(V, T, D) of its features; (P, d) of its patch tokens, None where it has none."""
        self.size, self.digest = size, digest
        """Bytes of the file, and the digest of its header, by which it is known; empty for version 1."""
        self.indexed = indexed
        """Whether what is known of it comes from the cache's index, not from the file."""
        self._contents = contents

    @property
    def contents(self) -> Contents:
        """Where its columns lie. Raises CacheError where the file has gone, or is another now."""
        if self._contents is None:
            try:
                contents = describe(self.path)
            except CacheError:
                if not self.path.exists():
                    raise gone(self.path) from None
                raise
            if contents.stamp[-32:] != self.digest:
                raise CacheError(f"{self.path} has been replaced while it was in use; start again.")
            self._contents = contents
        return self._contents


def gone(path: Path) -> CacheError:
    return CacheError(
        f"{path} has gone since the cache was opened: `vidclip compact` has written its videos to other files, or somebody "
        "has deleted it. Start again."
    )


def shard_paths(folder: Path) -> list[Path]:
    """Return the closed shards of a cache, `frames-2.h5` before `frames-10.h5`."""

    def natural(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted(folder.glob(SHARD_PATTERN), key=natural)


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def copy_rows(
    file: OpenFile,
    column: Column,
    source: np.ndarray,
    out: np.ndarray,
    targets: np.ndarray,
    pool: ThreadPoolExecutor | None = None,
) -> None:
    """Set out[targets] = column[source]; with a pool, in several threads. Raises CacheError."""
    reads = _reads(file, column, source, out, targets)
    if pool is None:
        for read in reads:
            read()
        return
    started = [pool.submit(read) for read in reads]
    wait(started)  # before an error is raised and the file closed
    for each in started:
        each.result()


def _reads(
    file: OpenFile, column: Column, source: np.ndarray, out: np.ndarray, targets: np.ndarray
) -> Iterator[Callable[[], None]]:
    """Yield the steps of out[targets] = column[source], each of about `_PIECE` bytes; they may be taken in any order."""
    order = np.argsort(source, kind="stable")
    source, targets = source[order], targets[order]
    row_bytes = max(1, math.prod(column.shape[1:]) * column.dtype.itemsize)
    # Rows that lie near each other are read together, with what is between them.
    near = file.contents.block_bytes // row_bytes + 1
    most = max(1, _PIECE // row_bytes)
    start = 0
    for end in [*(np.flatnonzero(np.diff(source) > near) + 1).tolist(), len(source)]:
        while start < end:
            first = int(source[start])
            stop = min(end, int(np.searchsorted(source, first + most)))
            yield _read_rows(file, column, source[start:stop], out, targets[start:stop])
            start = stop


def _read_rows(
    file: OpenFile, column: Column, source: np.ndarray, out: np.ndarray, targets: np.ndarray
) -> Callable[[], None]:
    def read() -> None:
        first, last, count = int(source[0]), int(source[-1]) + 1, len(source)
        in_order = last - first == count and (np.diff(source) == 1).all()
        if in_order and (np.diff(targets) == 1).all() and column.dtype == out.dtype:
            file.read(column, first, last, out[targets[0] : targets[0] + count])
        else:
            rows = file.read(column, first, last)
            with np.errstate(over="ignore"):
                out[targets] = rows if in_order else rows[source - first]

    return read
