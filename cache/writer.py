"""Writing a cache: `CacheWriter`."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .cache_json import check_identity, ensure_identity
from .failures import Failure, append_failure
from .features import FeatureCache
from .files import folder_turn, remove_abandoned_files, write_whole, writer_lock
from .hdf5 import file_parts
from .identity import Identity
from .layout import FRAMES_FORMAT, VideoRecord, columns_of
from .removal import remove_while_writing

INDEX_FROM = 20_000
"""Videos from which on a writer leaves an index behind: fewer are opened as fast without."""


class CacheWriter:
    """Adds videos to the cache in `folder`, which is made if it is not there; one writer at a time.

    Videos gather in memory until a shard of them is full (`shard_videos`, or `shard_bytes` of
    features) or old (`shard_seconds`); it is then written whole. A kill costs what had gathered, at
    most; a full disk raises OSError and leaves what was written before.

    part            (i, n): one of n jobs that share the cache, each with videos of its own
    precision       in which the encoder runs, kept with the shards
    created_by      name and version of the program, kept with the shards
    stored          the cache, where it is open already; it is refreshed then

    Raises CacheMismatch when the cache is of another identity, CacheBusy when another writes to it,
    ValueError for embeddings that are not finite, all zero or of another shape, or a video that is there.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: Identity,
        *,
        part: tuple[int, int] | None = None,
        precision: str = "fp32",
        created_by: str = "vidclip",
        shard_videos: int = 1024,
        shard_bytes: int = 64 * 2**20,
        shard_seconds: float = 60.0,
        stored: FeatureCache | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.identity = identity
        self._attributes: dict[str, Any] = {
            "format": FRAMES_FORMAT,
            "identity": identity.digest,
            "precision": precision,
            "created_by": created_by,
        }
        self._part = part
        self._limits = (shard_videos, shard_bytes, shard_seconds)
        self._gathered: list[VideoRecord] = []
        self._gathered_bytes = 0
        self._gathering_since = 0.0
        self._generations: dict[str, int] = {}
        self._written = False
        self._next_number: int | None = None
        self._resources = contextlib.ExitStack()
        self.folder.mkdir(parents=True, exist_ok=True)
        with folder_turn(self.folder):
            alone = self._resources.enter_context(writer_lock(self.folder, part))
            try:
                ensure_identity(self.folder, identity, alone=alone)
            except BaseException:
                self._resources.close()
                raise
        try:
            remove_abandoned_files(self.folder)
            if stored is None:
                stored = FeatureCache(self.folder)
            else:
                stored.refresh()
            check_identity(self.folder, stored.identity, identity)  # another may have made it just now
            self._shape = stored.shape[1:] if len(stored) else None
            self._patch_shape: tuple[int, ...] | None = stored.patch_shape
            self.stored = stored
            """The cache as it was when the writer opened it; `refresh` brings what was written since."""
            self._added: set[str] = set()
            self._hidden: set[str] = set()  # by failures since
            self._generations = stored.generations()
            self._removed = {id: each.generation for id, each in stored.removals.items()}
            self.failed_ids: set[str] = {failure.id for failure in stored.failures()}
            """The videos recorded as failed, and not in the cache."""
        except BaseException:
            self._resources.close()
            raise

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or not isinstance(error, OSError):
                self.flush()  # also on Ctrl-C and on errors elsewhere: what was computed is kept
                if self._written and len(self.stored) + len(self._added) >= INDEX_FROM:
                    self.stored.refresh()
                    self.stored.store_index()
        finally:
            self._resources.close()

    def __contains__(self, id: object) -> bool:
        """Whether a video is in the cache, or gathers."""
        return id in self._added or (id not in self._hidden and id in self.stored)

    def add(self, record: VideoRecord) -> None:
        """Add one video; it is safe on disk after the next `flush`, which may happen at once.

        A video that is there already is replaced by a record of a higher generation: its earlier features stay in
        their shard, for readers that have opened it, and count no more. One that was removed is there again.
        """
        record = replace(record, generation=max(record.generation, self._removed.get(record.id, 0)))
        frames = np.asarray(record.frames)
        if record.id in self and record.generation <= self._generations.get(record.id, 0):
            raise ValueError(f"{record.id!r} is in {self.folder} already")
        if frames.ndim != 3 or (self._shape is not None and frames.shape != self._shape):
            expected = self._shape or "[V, T, D]"
            raise ValueError(f"{record.id!r} has features of shape {frames.shape}, expected {expected}")
        patches = None if record.patches is None else np.asarray(record.patches, np.float16)
        patch_shape = None if patches is None else patches.shape[1:]
        if self._shape is not None and patch_shape != self._patch_shape:
            raise ValueError(
                f"{record.id!r} has patch tokens of shape {patch_shape}, expected {self._patch_shape}"
            )
        if patches is not None and not (len(patches) == len(frames) and np.isfinite(patches).all()):
            raise ValueError(f"{record.id!r} has patch tokens that are not finite, or not of every view")
        with np.errstate(over="ignore"):
            stored = frames.astype(np.float16)
        if not np.isfinite(stored).all():
            raise ValueError(f"{record.id!r} has embeddings that are not finite in float16")
        if not stored.any(axis=-1).all():
            raise ValueError(f"{record.id!r} has embeddings that are all zero in float16")
        self._shape, self._patch_shape = frames.shape, patch_shape
        if not self._gathered:
            self._gathering_since = time.monotonic()
        self._gathered.append(replace(record, frames=stored, patches=patches))
        self._gathered_bytes += stored.nbytes + (0 if patches is None else patches.nbytes)
        self._added.add(record.id)
        if record.generation:
            self._generations[record.id] = record.generation
        self.failed_ids.discard(record.id)
        videos, size, seconds = self._limits
        if (
            len(self._gathered) >= videos
            or self._gathered_bytes >= size
            or time.monotonic() - self._gathering_since >= seconds
        ):
            self.flush()

    def remove(self, ids: Iterable[str]) -> None:
        """Take videos out of the cache, as `remove_videos` does; what was added before is on disk then.

        Raises CacheError, OSError.
        """
        self.flush()
        gone = remove_while_writing(self.folder, ids)
        self._added.difference_update(gone)
        self._hidden.update(gone)
        self._removed.update({id: each.generation for id, each in gone.items()})

    def use_precision(self, precision: str) -> None:
        """Say in which precision the features that are added from now on were computed. Raises OSError."""
        if precision != self._attributes["precision"]:
            self.flush()
            self._attributes = {**self._attributes, "precision": precision}

    def add_failure(self, failure: Failure) -> None:
        """Record a video that could not be read, at once."""
        failure = replace(failure, generation=max(failure.generation, self._removed.get(failure.id, 0)))
        append_failure(self.folder, failure)
        if failure.generation > self._generations.get(failure.id, 0):
            self._added.discard(failure.id)
            self._hidden.add(failure.id)
        self.failed_ids.add(failure.id)

    def flush(self) -> None:
        """Close the shard: all videos added so far are on disk when this returns. Raises OSError."""
        if not self._gathered:
            return
        write_whole(self._next_path(), *file_parts(columns_of(self._gathered), self._attributes))
        self._gathered = []
        self._gathered_bytes = 0
        self._written = True

    def take_in_shards(self) -> None:
        """Take in what others have written for the holder of this writer, see `leased`. Raises CacheError."""
        self.stored.refresh()
        self._written = True  # the index is to follow

    def _next_path(self) -> Path:
        # Jobs that share a cache number their shards apart, so no two ever pick one name.
        prefix = "frames-" if self._part is None else f"frames-{self._part[0]}of{self._part[1]}-"
        if self._next_number is None:  # listed once: no other writer takes a number of this prefix
            self._next_number = next_number(self.folder, prefix)
        self._next_number += 1
        return self.folder / f"{prefix}{self._next_number - 1:05d}.h5"


def next_number(folder: Path, prefix: str) -> int:
    """Return the number of the next shard whose name begins so."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.h5")
    numbers = (int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name)))
    return max(numbers, default=-1) + 1
