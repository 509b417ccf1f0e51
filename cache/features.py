"""Reading a cache: `FeatureCache`."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .cache_json import read_identity
from .columns import CodedColumn, Finder, TextColumn
from .counting import counted_rows
from .errors import CacheError
from .failures import Failure, read_failures, standing
from .labels import read_labels
from .missing import MissingVideo, read_missing
from .removed import Removed, read_removed
from .rows import StoredRows
from .shards import Shard
from .table import Videos

_log = logging.getLogger(__name__)

_Indices = Sequence[int] | np.ndarray | slice | None


class FeatureCache:
    """The features of a folder, read out of core; safe to use while an extraction writes there.

    Videos are in the order of their ids, whatever the order or number of extractions that brought
    them: position n of every array and list here is the same video. A cache is as it was when it was
    opened; `refresh` adds what has been closed since, and leaves out what was removed. Where a video was read again because its file
    had changed, the highest generation counts, and none where the changed file could not be read.

    Raises CacheError where the folder is no cache, a file is damaged, or a video stands there twice.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.identity = read_identity(self.folder)
        self.rows = StoredRows(self.folder, self.identity.digest)
        """All rows of the shards, those that do not count too."""
        self.counted = np.empty(0, np.int64)
        """[N] int64, the row of each video."""
        self._view: int | None = None
        self.replaced = 0
        """How many videos of the shards do not count, because they have been read again since."""
        self.removals: dict[str, Removed] = {}
        """What was taken out of the cache, by id; a video of these may have been read again since."""
        self.refresh()
        _log.debug(
            "%s: %s videos of %s, identity %s",
            folder,
            len(self),
            self.identity.encoder_name,
            self.identity.digest,
        )

    def refresh(self) -> int:
        """Add the shards closed since the cache was opened, and return how many videos they brought.

        A video that two shards hold identically counts once. Raises CacheError where they differ.
        """
        before = dict(vars(self))
        try:
            # Views of this cache share the rows so far: they are replaced, never changed.
            self.rows = self.rows.refreshed()
            self.removals = read_removed(self.folder, len(self.rows.table))
            # After the shards: what a writer records before it closes one is then seen.
            self._failures = read_failures(self.folder)
            facts = self.list_facts = read_labels(self.folder, len(self.rows.table))
            """What later lists say of videos, by id."""
            self.counted, self.replaced = counted_rows(self.rows, self._failures, self.removals, facts)
            table = self.rows.table
            self.ids: TextColumn = table.ids.take(self.counted)
            self._finder = Finder(self.ids)
            self.labels: CodedColumn[tuple[str, ...]] = table["labels"].take(self.counted)
            """The labels of each video: none, one or several."""
            self.splits: CodedColumn[str] = table["split"].take(self.counted)
            if facts:  # a later list's stand before those of the shards
                known = {index: each for id, each in facts.items() if (index := self._finder(id)) >= 0}
                self.labels = self.labels.replaced(list(known), [each.labels for each in known.values()])
                self.splits = self.splits.replaced(list(known), [each.split for each in known.values()])
        except BaseException:
            vars(self).update(before)
            raise
        return len(self.counted) - len(before["counted"])

    def next_generation(self, id: str) -> int:
        """Return the generation that the next reading of a video must have, to count: 0 for a new video."""
        index = self._finder(id)
        failure = self._failures.get(id)
        after = 0 if index < 0 else int(self.rows.table["generation"][self.counted[index]]) + 1
        removed = self.removals[id].generation if id in self.removals else 0
        return max(after, failure.generation if failure else 0, removed)

    def generations(self) -> dict[str, int]:
        """Return the generation of each video that has one above 0, by id."""
        generation = self.rows.table["generation"][self.counted]
        again = np.flatnonzero(generation)
        return dict(zip(self.ids.take(again), generation[again].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.counted)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self._finder(id) >= 0

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.folder)!r}: {len(self)} videos, {self.identity})"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, V, T, D) of all features. With no shard yet, V, T, D are 0."""
        views, times, dimensions = self.rows.shape or (0, 0, 0)
        return len(self), views if self._view is None else 1, times, dimensions

    @property
    def patch_shape(self) -> tuple[int, int] | None:
        """(P, d) of the patch tokens of each view; None where the cache has none."""
        return self.rows.patch_shape

    @property
    def view(self) -> int | None:
        """Which of several views `single_view` has kept; None where all there are, one or more, are here."""
        return self._view if self.rows.shape and self.rows.shape[0] > 1 else None

    def single_view(self) -> FeatureCache:
        """Return this cache with one view of each video, [N, 1, T, D]: the center crop of the first clip, which is what
        an extraction with one clip and one crop keeps."""
        one = copy.copy(self)  # its own cache from here on: neither follows the other's refresh
        one._view = int(self.identity.sampling.get("crops", 1)) // 2 if self.rows.shape else None
        return one

    @property
    def videos(self) -> Videos:
        """What is known of each video, in order; made when it is asked for."""
        return Videos(self.rows.table, self.counted, self.labels, self.splits)

    @property
    def shards(self) -> Sequence[Shard]:
        return self.rows.shards

    @property
    def precisions(self) -> list[str]:
        """In which the features were computed (fp32, fp16, bf16), the most frequent first."""
        n_videos: Counter[str] = Counter()
        for shard in self.shards:
            for precision in filter(None, shard.precision.split("+")):
                n_videos[precision] += shard.num_videos
        return [precision for precision, _ in n_videos.most_common()]

    def index(self, id: str) -> int:
        """Return the position of a video in the cache. Raises KeyError."""
        index = self._finder(id)
        if index < 0:
            raise KeyError(id)
        return index

    def shard_of(self, index: int) -> Shard:
        """Return the file that has the features of a video."""
        return self.rows.shard_of(int(self.counted[index]))

    def failures(self) -> list[Failure]:
        """Return the videos that could not be read, and have no features from a later attempt."""
        failures = standing(read_failures(self.folder).values(), self.removals)
        return [failure for failure in failures if failure.id not in self]

    @property
    def removed(self) -> list[str]:
        """The videos that were taken out and have not been read again; their features are still in the shards."""
        return [id for id in self.removals if id not in self]

    def missing(self) -> list[MissingVideo]:
        """Return the listed videos that were not there at the last extraction, and have no features from another."""
        return [video for video in read_missing(self.folder) if video.id not in self]

    def frames(self, indices: _Indices = None) -> np.ndarray:
        """Return frame embeddings [n, V, T, D] float16, not normalized; all, or those of `indices`, in that order."""
        return self._read("frames", indices, np.float16)

    def patches(self, indices: _Indices = None) -> np.ndarray:
        """Return the patch tokens of each view, [n, V, P, d] float16. Raises CacheError where the cache has none."""
        if self.patch_shape is None:
            raise CacheError(f"{self.folder} has no patch tokens.")
        return self._read("patches", indices, np.float16)

    def frame_indices(self, indices: _Indices = None) -> np.ndarray:
        """Return [n, V, T] int64: which frames of each video were embedded, zero-based."""
        return self._read("frame_indices", indices, np.int64)

    def timestamps(self, indices: _Indices = None) -> np.ndarray:
        """Return [n, V, T] float64 seconds from the start of each video."""
        return self._read("timestamps", indices, np.float64)

    def batches(self, size: int = 1024, indices: _Indices = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (indices [n], frames [n, V, T, D]) in pieces of at most `size` videos, in order of `indices`.

        Memory is that of one piece.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        wanted = self._positions(indices)
        for start in range(0, len(wanted), size):
            piece = wanted[start : start + size]
            yield piece, self.frames(piece)

    def scan(
        self, size: int = 1024, indices: _Indices = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (places [n], indices [n], frames [n, V, T, D]) in pieces of at most `size` videos, in the order in which
        they are stored: each byte is read once, whatever the order of `indices`.

        places    where the videos of a piece stand in `indices`: ``result[places]`` is what belongs to them
        Memory is that of one piece.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        wanted = self._positions(indices)
        places = self.storage_order(wanted)
        for start in range(0, len(wanted), size):
            piece = places[start : start + size]
            yield piece, wanted[piece], self.frames(wanted[piece])

    def storage_order(self, indices: _Indices = None) -> np.ndarray:
        """Return [n] the places in `indices` in the order in which these videos are stored."""
        return np.argsort(self.counted[self._positions(indices)], kind="stable")

    def store_index(self) -> bool:
        """Write `cache.index`, from which the cache opens at once; return whether it has all shards (not version 1).

        Raises OSError.
        """
        return self.rows.store_index()

    def _positions(self, indices: _Indices) -> np.ndarray:
        if indices is None:
            return np.arange(len(self))
        if isinstance(indices, slice):
            return np.arange(len(self))[indices]
        wanted = np.asarray(indices)
        if wanted.dtype == bool:
            raise TypeError("indices are numbers; use numpy.flatnonzero for a mask")
        wanted = wanted.astype(np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(
                f"indices lie between 0 and {len(self) - 1}, got {wanted.min()} to {wanted.max()}"
            )
        return wanted

    def _read(self, name: str, indices: _Indices, dtype: type[np.generic]) -> np.ndarray:
        out = self.rows.read(name, self.counted[self._positions(indices)], dtype)
        return out if self._view is None else out[:, self._view : self._view + 1]
