"""Reading a cache: `FeatureCache`."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from .errors import CacheError
from .failures import Failure, read_failures
from .identity import Identity
from .labels import read_labels
from .layout import FRAMES_FORMAT, OPTIONAL_COLUMNS, Columns, OpenFile, read_details
from .missing import MissingVideo, read_missing

IDENTITY_FILE = "cache.json"
CACHE_FORMAT = "vidclip-features"
CACHE_VERSION = 1
SHARD_PATTERN = "frames-*.h5"


@dataclass(frozen=True)
class Shard:
    """A closed file of features."""

    path: Path
    rows: int
    precision: str
    """In which the encoder ran: fp32, fp16, bf16."""


@dataclass(frozen=True)
class VideoInfo:
    """What a cache knows of one video, beside its features."""

    id: str
    path: str
    labels: tuple[str, ...]
    split: str
    duration_seconds: float
    n_frames: int
    readable_frames: int
    repeated: bool
    decoder: str
    note: str
    root: str = ""
    """The root of the video list; empty where it is not known."""
    source_bytes: int = -1
    """Size of the file when it was read; -1 where it is not known."""
    source_modified_ns: int = -1
    """When the file was last modified, in nanoseconds since 1970; -1 where it is not known."""
    generation: int = 0
    """How often the video has been read anew, because its file had changed."""


class FeatureCache:
    """The features of a folder, read out of core; safe to use while an extraction writes there.

    Videos stand in the order of their ids, whatever the order or number of extractions that brought
    them: row n of every array and list here is the same video. A cache is as it was when it was
    opened; `refresh` adds what has been closed since. Of a video that was read anew because its file
    had changed, the row of the highest generation counts, and none where the changed file could not be read.

    Raises CacheError where the folder is no cache, a file is damaged, or a video stands there twice.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.identity = read_identity(self.folder)
        self._shards: list[Shard] = []
        self._videos: list[VideoInfo] = []
        self._places: list[tuple[int, int]] = []  # (shard, row) of each video, before sorting
        self._shape: tuple[int, int, int] | None = None
        self._view: int | None = None
        self.replaced = 0
        """Rows of the shards that do not count, because their video has been read anew since."""
        self.refresh()

    def refresh(self) -> int:
        """Takes in the shards closed since; returns how many videos they brought."""
        known = {shard.path for shard in self._shards}
        new = [path for path in shard_paths(self.folder) if path not in known]
        before = len(self._videos)
        for path in new:
            self._add_shard(path)
        self._failures = read_failures(self.folder)  # after the shards: what a writer says first is read last
        order = self._rows_that_count()
        self._videos = [self._videos[row] for row in order]
        self._places = [self._places[row] for row in order]
        for previous, video, place, other in zip(
            self._videos, self._videos[1:], self._places, self._places[1:], strict=False
        ):
            if previous.id == video.id:
                first, second = self._shards[place[0]].path.name, self._shards[other[0]].path.name
                raise CacheError(
                    f"{self.folder} holds the video {video.id!r} twice, in {first} and {second}. "
                    "Delete one of the two files and run `vidclip extract` again."
                )
        facts = read_labels(self.folder, len(self._videos))
        if facts:  # a later list's stand before those of the shards
            self._videos = [
                replace(video, **facts[video.id]._asdict()) if video.id in facts else video
                for video in self._videos
            ]
        self.ids: list[str] = [video.id for video in self._videos]
        self.labels: list[tuple[str, ...]] = [video.labels for video in self._videos]
        """The labels of each video: none, one or several."""
        self.splits: list[str] = [video.split for video in self._videos]
        self._row_of = {id: row for row, id in enumerate(self.ids)}
        return len(self._videos) - before

    def _rows_that_count(self) -> list[int]:
        """The rows in the order of their ids, without those that a later reading of the same video replaces."""
        newest: dict[str, int] = {
            id: failure.generation for id, failure in self._failures.items() if failure.generation
        }
        for video in self._videos:
            if video.generation > newest.get(video.id, 0):
                newest[video.id] = video.generation
        rows = [
            row
            for row, video in enumerate(self._videos)
            if video.generation == newest.get(video.id, video.generation)
        ]
        self.replaced += len(self._videos) - len(rows)
        return sorted(rows, key=lambda row: self._videos[row].id)

    def next_generation(self, id: str) -> int:
        """Of what the next reading of a video must be, to count: 0 for one that was never there."""
        row = self._row_of.get(id)
        failure = self._failures.get(id)
        after = 0 if row is None else self._videos[row].generation + 1
        return max(after, failure.generation if failure else 0)

    def __len__(self) -> int:
        return len(self._videos)

    def __contains__(self, id: object) -> bool:
        return id in self._row_of

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.folder)!r}: {len(self)} videos, {self.identity})"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, V, T, D) of all features. With no shard yet, V, T, D are 0."""
        views, times, dimensions = self._shape or (0, 0, 0)
        return len(self), views if self._view is None else 1, times, dimensions

    def single_view(self) -> FeatureCache:
        """This cache with one view of each video, [N, 1, T, D]: the centre crop of the first clip, which is what an
        extraction with one clip and one crop keeps."""
        one = copy.copy(self)
        one._view = int(self.identity.sampling.get("crops", 1)) // 2 if self._shape else None
        return one

    @property
    def videos(self) -> Sequence[VideoInfo]:
        """What is known of each video, by row."""
        return self._videos

    @property
    def shards(self) -> Sequence[Shard]:
        return self._shards

    def row(self, id: str) -> int:
        """The row of a video. Raises KeyError."""
        return self._row_of[id]

    def failures(self) -> list[Failure]:
        """The videos that could not be read, and have no features from a later attempt."""
        return [failure for failure in read_failures(self.folder).values() if failure.id not in self._row_of]

    def missing(self) -> list[MissingVideo]:
        """The listed videos that were not there at the last extraction, and have no features from another."""
        return [video for video in read_missing(self.folder) if video.id not in self._row_of]

    def frames(self, rows: Sequence[int] | np.ndarray | slice | None = None) -> np.ndarray:
        """Frame embeddings [n, V, T, D] float16, not normalised; all, or those of `rows`, in that order."""
        return self._read("frames", rows, np.float16)

    def frame_indices(self, rows: Sequence[int] | np.ndarray | slice | None = None) -> np.ndarray:
        """[n, V, T] int64: which frames of each video were embedded, zero-based."""
        return self._read("frame_indices", rows, np.int64)

    def timestamps(self, rows: Sequence[int] | np.ndarray | slice | None = None) -> np.ndarray:
        """[n, V, T] float64 seconds from the start of each video."""
        return self._read("timestamps", rows, np.float64)

    def batches(
        self, size: int = 1024, rows: Sequence[int] | np.ndarray | slice | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows [n], frames [n, V, T, D]) in pieces of at most `size` videos, in order of `rows`.

        Memory is that of one piece.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        wanted = self._rows(rows)
        for start in range(0, len(wanted), size):
            piece = wanted[start : start + size]
            yield piece, self.frames(piece)

    def _add_shard(self, path: Path) -> None:
        with OpenFile(path, FRAMES_FORMAT) as file:
            if file.attributes.get("identity") != self.identity.digest:
                raise CacheError(
                    f"{path} holds features of another encoder or sampling than cache.json says. "
                    "Move it into a cache of its own, or delete it and extract again."
                )
            frames = file.numbers("frames", np.float16, (None, None, None, None))
            if self._shape is not None and frames.shape[1:] != self._shape:
                raise file.damaged(f"its features are {frames.shape[1:]}, elsewhere {self._shape}")
            details = read_details(file, frames.shape[0])
            self._shape = (frames.shape[1], frames.shape[2], frames.shape[3])
            shard = len(self._shards)
            self._shards.append(Shard(path, frames.shape[0], str(file.attributes.get("precision", ""))))
        self._videos.extend(_video_infos(details))
        self._places.extend((shard, row) for row in range(len(details["id"])))

    def _rows(self, rows: Sequence[int] | np.ndarray | slice | None) -> np.ndarray:
        if rows is None:
            return np.arange(len(self))
        if isinstance(rows, slice):
            return np.arange(len(self))[rows]
        wanted = np.asarray(rows)
        if wanted.dtype == bool:
            raise TypeError("rows are numbers; use numpy.flatnonzero for a mask")
        wanted = wanted.astype(np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows lie between 0 and {len(self) - 1}, got {wanted.min()} to {wanted.max()}")
        return wanted

    def _read(
        self, name: str, rows: Sequence[int] | np.ndarray | slice | None, dtype: type[np.generic]
    ) -> np.ndarray:
        wanted = self._rows(rows)
        shape = self._shape or (0, 0, 0)
        dimensions = shape if name == "frames" else shape[:2]
        out = np.empty((len(wanted), *dimensions), dtype)
        places = np.array(self._places, np.int64).reshape(-1, 2)[wanted]
        for shard in np.unique(places[:, 0]):
            targets = np.flatnonzero(places[:, 0] == shard)
            source = places[targets, 1]
            with OpenFile(self._shards[shard].path, FRAMES_FORMAT) as file:
                dataset = file.numbers(name, dtype, (self._shards[shard].rows, *dimensions))
                _copy_rows(file, dataset, source, out, targets)
        return out if self._view is None else out[:, self._view : self._view + 1]


def _copy_rows(
    file: OpenFile, dataset: h5py.Dataset, source: np.ndarray, out: np.ndarray, targets: np.ndarray
) -> None:
    """out[targets] = dataset[source], with as little reading and copying as a few big reads allow."""
    order = np.argsort(source, kind="stable")
    source, targets = source[order], targets[order]
    first, stop = int(source[0]), int(source[-1]) + 1
    if (np.diff(source) == 1).all():
        if (np.diff(targets) == 1).all():
            try:
                dataset.read_direct(out, np.s_[first:stop], np.s_[targets[0] : targets[0] + len(targets)])
            except (OSError, RuntimeError) as error:
                raise file.damaged(str(error)) from None
        else:
            out[targets] = file.read(dataset, np.s_[first:stop])
    elif len(source) * 4 >= stop - first:
        out[targets] = file.read(dataset, np.s_[first:stop])[source - first]
    else:  # a few rows of many: HDF5 wants them each once
        unique, inverse = np.unique(source, return_inverse=True)
        out[targets] = file.read(dataset, unique)[inverse]


def _video_infos(details: Columns) -> list[VideoInfo]:
    offsets, labels = details["label_offsets"].tolist(), details["labels"]
    n = len(details["id"])
    root, size, modified, generation = (
        details.get(name, [default] * n) for name, default in OPTIONAL_COLUMNS.items()
    )
    return [
        VideoInfo(
            id=details["id"][row],
            path=details["path"][row],
            labels=tuple(labels[offsets[row] : offsets[row + 1]]),
            split=details["split"][row],
            duration_seconds=float(details["duration_seconds"][row]),
            n_frames=int(details["n_frames"][row]),
            readable_frames=int(details["readable_frames"][row]),
            repeated=bool(details["repeated"][row]),
            decoder=details["decoder"][row],
            note=details["note"][row],
            root=root[row],
            source_bytes=int(size[row]),
            source_modified_ns=int(modified[row]),
            generation=int(generation[row]),
        )
        for row in range(n)
    ]


def shard_paths(folder: Path) -> list[Path]:
    """The closed shards of a cache, `frames-2.h5` before `frames-10.h5`."""

    def natural(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted(folder.glob(SHARD_PATTERN), key=natural)


def read_identity(folder: Path) -> Identity:
    """What `cache.json` says. Raises CacheError where there is none or it is damaged."""
    path = folder / IDENTITY_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        state = "has no cache.json" if folder.is_dir() else "does not exist"
        raise CacheError(
            f"{folder} is no feature cache: it {state}. Make one with `vidclip extract`, or name another "
            "with --cache."
        ) from None
    except (OSError, ValueError) as error:
        raise CacheError(
            f"{path} cannot be read ({error}). Restore it, or extract into another --cache."
        ) from None
    if not isinstance(values, dict) or values.get("format") != CACHE_FORMAT:
        raise CacheError(f"{path} was not written by vidclip; name another folder with --cache.")
    if values.get("version") != CACHE_VERSION:
        raise CacheError(
            f"{path} has format version {values.get('version')}; this vidclip reads version {CACHE_VERSION}. "
            "Use the vidclip that wrote it, or extract again into another --cache."
        )
    try:
        return Identity.from_dict(values)
    except ValueError as error:
        raise CacheError(
            f"{path} is damaged: {error}. Restore it, or extract into another --cache."
        ) from None
