"""Reading a cache: `FeatureCache`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from .cache_json import read_identity
from .errors import CacheError
from .failures import Failure, read_failures
from .hdf5 import Contents
from .labels import read_labels
from .layout import FRAMES_FORMAT, VideoInfo, facts_of, read_columns, read_details, video_infos
from .missing import MissingVideo, read_missing
from .open_file import OpenFile, describe_all, sound
from .removed import Removed, read_removed, standing
from .shards import WORTH_THREADS, Shard, copy_rows, processors, shard_paths

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
        self._shards: list[Shard] = []
        self._videos: list[VideoInfo] = []
        self._places: list[tuple[int, int]] = []  # (shard, position in it) of each video
        self._shape: tuple[int, int, int] | None = None
        self._patch_shape: tuple[int, int] | None = None
        self._view: int | None = None
        self.replaced = 0
        """How many videos of the shards do not count, because they have been read again since."""
        self.removals: dict[str, Removed] = {}
        """What was taken out of the cache, by id; a video of these may have been read again since."""
        self._sound: set[int] = set()  # the shards of version 1 that have been compared with their digest
        self.refresh()

    def refresh(self) -> int:
        """Add the shards closed since the cache was opened, and return how many videos they brought.

        A video that two shards hold identically counts once. Raises CacheError where they differ.
        """
        # Views of this cache share the lists so far: they are replaced, never changed.
        before = dict(vars(self))
        self._shards, self._videos, self._places = list(self._shards), list(self._videos), list(self._places)
        try:
            self._add_new_shards()
            removals = read_removed(self.folder, self._n_rows)
            if self.removals.keys() - removals.keys():  # given back: their rows are not known any more
                self._shards, self._videos, self._places = [], [], []
                self._sound, self.replaced = set(), 0
                self._add_new_shards()
            self.removals = removals
            # After the shards: what a writer records before it closes one is then seen.
            self._failures = read_failures(self.folder)
            facts = self.list_facts = read_labels(self.folder, self._n_rows)
            """What later lists say of videos, by id."""
            if facts:  # a later list's stand before those of the shards
                self._videos = [
                    replace(video, **facts[video.id]._asdict()) if video.id in facts else video
                    for video in self._videos
                ]
            self._sort()
        except BaseException:
            vars(self).update(before)
            raise
        self.ids: list[str] = [video.id for video in self._videos]
        self.labels: list[tuple[str, ...]] = [video.labels for video in self._videos]
        """The labels of each video: none, one or several."""
        self.splits: list[str] = [video.split for video in self._videos]
        self._index_of = {id: index for index, id in enumerate(self.ids)}
        return len(self._videos) - len(before["_videos"])

    def _sort(self) -> None:
        """Put the videos that count in the order of their ids, each once."""
        first: list[int] = []
        duplicates: list[tuple[int, int]] = []
        for index in self._newest():
            if first and self._videos[first[-1]].id == self._videos[index].id:
                duplicates.append((first[-1], index))
            else:
                first.append(index)
        self._check_duplicates(duplicates)
        self._videos = [self._videos[index] for index in first]
        self._places = [self._places[index] for index in first]

    def _check_duplicates(self, pairs: list[tuple[int, int]]) -> None:
        """Raise CacheError unless the videos of each pair, which share an id, share their content."""
        for start in range(0, len(pairs), 256):
            piece = np.array(pairs[start : start + 256]).T
            same = np.array([facts_of(self._videos[i]) == facts_of(self._videos[j]) for i, j in piece.T])
            for name, dtype in (
                ("frames", np.float16),
                ("frame_indices", np.int64),
                ("timestamps", np.float64),
                *([("patches", np.float16)] if self._patch_shape else []),
            ):
                one, other = (self._read(name, indices, dtype).view(np.uint8) for indices in piece)
                same &= (one == other).reshape(len(same), -1).all(axis=1)
            for i, j in piece.T[~same][:1]:
                one, other = (self._shards[self._places[index][0]].path.name for index in (i, j))
                where = f"in {one} and {other}" if one != other else f"both times in {one}"
                raise CacheError(
                    f"{self.folder} holds the video {self._videos[i].id!r} twice, with different content, {where}. Delete one "
                    "of the files and run `vidclip extract` again, which encodes what is missing then."
                )

    def _newest(self) -> list[int]:
        """Return the videos that count in the order of their ids: not those that a later reading replaces."""
        newest: dict[str, int] = {
            id: failure.generation for id, failure in self._failures.items() if failure.generation
        }
        for id, removed in self.removals.items():
            newest[id] = max(newest.get(id, 0), removed.generation)
        for video in self._videos:
            if video.generation > newest.get(video.id, 0):
                newest[video.id] = video.generation
        indices = [
            index
            for index, video in enumerate(self._videos)
            if video.generation == newest.get(video.id, video.generation)
        ]
        counted = set(indices)
        self.replaced += sum(
            video.id not in self.removals for index, video in enumerate(self._videos) if index not in counted
        )
        return sorted(indices, key=lambda index: (self._videos[index].id, self._places[index]))

    def next_generation(self, id: str) -> int:
        """Return the generation that the next reading of a video must have, to count: 0 for a new video."""
        index = self._index_of.get(id)
        failure = self._failures.get(id)
        after = 0 if index is None else self._videos[index].generation + 1
        removed = self.removals[id].generation if id in self.removals else 0
        return max(after, failure.generation if failure else 0, removed)

    def __len__(self) -> int:
        return len(self._videos)

    def __contains__(self, id: object) -> bool:
        return id in self._index_of

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.folder)!r}: {len(self)} videos, {self.identity})"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, V, T, D) of all features. With no shard yet, V, T, D are 0."""
        views, times, dimensions = self._shape or (0, 0, 0)
        return len(self), views if self._view is None else 1, times, dimensions

    @property
    def patch_shape(self) -> tuple[int, int] | None:
        """(P, d) of the patch tokens of each view; None where the cache has none."""
        return self._patch_shape

    @property
    def view(self) -> int | None:
        """Which of several views `single_view` has kept; None where all there are, one or more, are here."""
        return self._view if self._shape and self._shape[0] > 1 else None

    def single_view(self) -> FeatureCache:
        """Return this cache with one view of each video, [N, 1, T, D]: the center crop of the first clip, which is what
        an extraction with one clip and one crop keeps."""
        one = copy.copy(self)  # its own cache from here on: neither follows the other's refresh
        one._sound = set(self._sound)
        one._view = int(self.identity.sampling.get("crops", 1)) // 2 if self._shape else None
        return one

    @property
    def videos(self) -> Sequence[VideoInfo]:
        """What is known of each video, in order."""
        return self._videos

    @property
    def shards(self) -> Sequence[Shard]:
        return self._shards

    @property
    def precisions(self) -> list[str]:
        """In which the features were computed (fp32, fp16, bf16), the most frequent first."""
        n_videos: Counter[str] = Counter()
        for shard in self._shards:
            for precision in filter(None, shard.precision.split("+")):
                n_videos[precision] += shard.num_videos
        return [precision for precision, _ in n_videos.most_common()]

    def index(self, id: str) -> int:
        """Return the position of a video in the cache. Raises KeyError."""
        return self._index_of[id]

    def shard_of(self, index: int) -> Shard:
        """Return the file that has the features of a video."""
        return self._shards[self._places[index][0]]

    def failures(self) -> list[Failure]:
        """Return the videos that could not be read, and have no features from a later attempt."""
        failures = standing(read_failures(self.folder).values(), self.removals)
        return [failure for failure in failures if failure.id not in self._index_of]

    @property
    def removed(self) -> list[str]:
        """The videos that were taken out and have not been read again; their features are still in the shards."""
        return [id for id in self.removals if id not in self._index_of]

    def missing(self) -> list[MissingVideo]:
        """Return the listed videos that were not there at the last extraction, and have no features from another."""
        return [video for video in read_missing(self.folder) if video.id not in self._index_of]

    def frames(self, indices: _Indices = None) -> np.ndarray:
        """Return frame embeddings [n, V, T, D] float16, not normalized; all, or those of `indices`, in that order."""
        return self._read("frames", indices, np.float16)

    def patches(self, indices: _Indices = None) -> np.ndarray:
        """Return the patch tokens of each view, [n, V, P, d] float16. Raises CacheError where the cache has none."""
        if self._patch_shape is None:
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

    @property
    def _n_rows(self) -> int:
        return sum(shard.num_videos for shard in self._shards)

    def _add_new_shards(self) -> None:
        known = {shard.path for shard in self._shards}
        new = [path for path in shard_paths(self.folder) if path not in known]
        for path, found in describe_all(new).items():
            self._add_shard(path, sound(found))

    def _add_shard(self, path: Path, contents: Contents) -> None:
        with OpenFile(path, FRAMES_FORMAT, contents) as file:
            if file.attributes.get("identity") != self.identity.digest:
                raise CacheError(
                    f"{path} holds features of another encoder or sampling than cache.json says. "
                    "Move it into a cache of its own, or delete it and extract again."
                )
            frames = file.numbers("frames", np.float16, (None, None, None, None))
            if self._shape is not None and frames.shape[1:] != self._shape:
                raise file.damaged(f"its features are {frames.shape[1:]}, elsewhere {self._shape}")
            patches = None
            if file.has("patches"):
                patches = file.numbers("patches", np.float16, (*frames.shape[:2], None, None)).shape[2:]
            if self._shape is not None and patches != self._patch_shape:
                raise file.damaged(f"its patch tokens are {patches}, elsewhere {self._patch_shape}")
            details = read_details(file, frames.shape[0])
        self._patch_shape = None if patches is None else (patches[0], patches[1])
        self._shape = (frames.shape[1], frames.shape[2], frames.shape[3])
        number = len(self._shards)
        shard = Shard(path, frames.shape[0], str(file.attributes.get("precision", "")), contents)
        self._shards.append(shard)
        self._videos.extend(video_infos(details))
        self._places.extend((number, row) for row in range(frames.shape[0]))

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
        wanted = self._positions(indices)
        shape = self._shape or (0, 0, 0)
        dimensions: tuple[int, ...] = shape if name == "frames" else shape[:2]
        if name == "patches" and self._patch_shape:
            dimensions = (shape[0], *self._patch_shape)
        out = np.empty((len(wanted), *dimensions), dtype)
        places = np.array(self._places, np.int64).reshape(-1, 2)[wanted]
        threads = min(4, processors()) if out.nbytes >= WORTH_THREADS else 1
        with ThreadPoolExecutor(threads) as pool:
            for number in np.unique(places[:, 0]):
                targets = np.flatnonzero(places[:, 0] == number)
                shard = self._shards[number]
                with OpenFile(shard.path, FRAMES_FORMAT, shard.contents) as file:
                    if shard.contents.version == 1 and number not in self._sound:
                        read_columns(file)  # there are no checksums of parts
                        self._sound.add(number)
                    column = file.numbers(name, dtype, (shard.num_videos, *dimensions))
                    source = places[targets, 1]
                    copy_rows(file, column, source, out, targets, pool if threads > 1 else None)
        return out if self._view is None else out[:, self._view : self._view + 1]
