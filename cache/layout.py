"""The HDF5 layout of a shard: its columns, how they are written, read and checked.

A shard holds n videos, V views each, T frames a view, D dimensions:

    frames             [n, V, T, D] float16   as the encoder gave them, not normalised
    frame_indices      [n, V, T]    int64     which frames of the video, zero-based
    timestamps         [n, V, T]    float64   seconds from the start of the video
    id, path, split, decoder, note   [n]      UTF-8 text
    labels, label_offsets            [L], [n + 1]   labels of video i: labels[offsets[i]:offsets[i+1]]
    duration_seconds, n_frames, readable_frames, repeated   [n]
    root, source_bytes, source_modified_ns   [n]    of the file it was read from; absent in older shards
    generation                       [n]      of the rows of one video the highest counts; absent in older shards

and the attributes `format`, `version`, `identity` (digest of encoder and sampling), `precision` (in which
the encoder ran), `created_by` and `sha256` (over all columns).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import CacheError

FORMAT_VERSION = 1
FRAMES_FORMAT = "vidclip-frames"
TEXT_FORMAT = "vidclip-text"

STRING_COLUMNS = ("id", "path", "split", "decoder", "note", "root", "labels")
NUMBER_COLUMNS: Mapping[str, type[np.generic]] = {
    "frames": np.float16,
    "frame_indices": np.int64,
    "timestamps": np.float64,
    "duration_seconds": np.float64,
    "n_frames": np.int64,
    "readable_frames": np.int64,
    "repeated": np.bool_,
    "source_bytes": np.int64,
    "source_modified_ns": np.int64,
    "generation": np.int64,
    "label_offsets": np.int64,
}
DETAIL_NUMBERS = (
    "duration_seconds",
    "n_frames",
    "readable_frames",
    "repeated",
    "source_bytes",
    "source_modified_ns",
    "generation",
)
"""One number a video, of what is known of it beside its features."""
OPTIONAL_COLUMNS: Mapping[str, str | int] = {
    "root": "",
    "source_bytes": -1,
    "source_modified_ns": -1,
    "generation": 0,
}
"""Columns that older shards lack, and what their videos have in their place."""


@dataclass(frozen=True)
class VideoRecord:
    """One video as a cache keeps it."""

    id: str
    """Its path below the root of the video list, POSIX."""
    path: str
    """Where the file was when it was read."""
    frames: np.ndarray
    """[V, T, D] float, as the encoder gave them."""
    frame_indices: np.ndarray
    """[V, T] integers, zero-based."""
    timestamps: np.ndarray
    """[V, T] seconds."""
    labels: tuple[str, ...] = ()
    """None, one, or several (multi-label)."""
    split: str = ""
    """train, validation, test, or empty."""
    duration_seconds: float = 0.0
    n_frames: int = 0
    """Frames the video counts."""
    readable_frames: int = 0
    """Frames that could really be read; fewer than n_frames in a damaged file."""
    repeated: bool = False
    """Whether frames repeat because the video has fewer than were asked for."""
    decoder: str = ""
    """Name and version of what decoded it."""
    note: str = ""
    """Why the first decoder was left, if it was."""
    root: str = ""
    """The root of the video list; empty where it is not known."""
    source_bytes: int = -1
    """Size of the file when it was read; -1 where it is not known."""
    source_modified_ns: int = -1
    """When the file was last modified, in nanoseconds since 1970; -1 where it is not known."""
    generation: int = 0
    """How often the video has been read anew, because its file had changed: the highest one counts."""


Columns = dict[str, Any]
"""Column name -> numpy array, or list of str for the string columns."""


def columns_of(records: Sequence[VideoRecord]) -> Columns:
    """Records side by side, in the layout's columns."""
    columns: Columns = {
        name: [getattr(record, name) for record in records] for name in STRING_COLUMNS if name != "labels"
    }
    columns["labels"] = [label for record in records for label in record.labels]
    columns["label_offsets"] = np.cumsum([0, *(len(record.labels) for record in records)], dtype=np.int64)
    for name, dtype in NUMBER_COLUMNS.items():
        if name != "label_offsets":
            columns[name] = np.stack([np.asarray(getattr(record, name), dtype) for record in records])
    return columns


def content_digest(columns: Columns) -> str:
    """SHA-256 over names, shapes, types and bytes of all columns."""
    sha = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name]
        if isinstance(column, np.ndarray):
            little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
            sha.update(f"{name}|{little.dtype.str}|{little.shape}|".encode())
            sha.update(little.tobytes())
        else:
            sha.update(f"{name}|text|{len(column)}|".encode())
            for text in column:
                raw = _to_bytes(text)
                sha.update(len(raw).to_bytes(8, "little") + raw)
    return sha.hexdigest()


def file_image(columns: Columns, attributes: Mapping[str, Any]) -> bytes:
    """The bytes of an HDF5 file with these columns and attributes.

    The file is built in memory and written by the caller in one go: HDF5 itself never meets a full
    disk, which it survives badly.
    """
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        for name, column in columns.items():
            if isinstance(column, np.ndarray):
                file.create_dataset(name, data=column)
            else:
                text = file.create_dataset(name, shape=(len(column),), dtype=h5py.string_dtype())
                if column:
                    text[:] = np.array([_to_bytes(value) for value in column], dtype=object)
        for name, value in attributes.items():
            file.attrs[name] = value
        file.attrs["version"] = FORMAT_VERSION
        file.attrs["sha256"] = content_digest(columns)
        file.flush()
        return file.id.get_file_image()


def _to_bytes(text: str) -> bytes:
    # Names on disk need not be UTF-8; surrogateescape carries their bytes through unchanged.
    return text.encode("utf-8", "surrogateescape")


class OpenFile:
    """An HDF5 file of ours, open for reading; every failure is a CacheError that names it.

    Nothing in the file is trusted: links out of the file, external or virtual storage, shapes that
    the file's size cannot hold, and missing columns are refused.
    """

    def __init__(self, path: Path, expected_format: str) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r", locking=False)
        except FileNotFoundError:
            raise CacheError(f"{path} does not exist.") from None
        except (OSError, RuntimeError) as error:
            raise self.damaged(str(error)) from None
        try:
            self.attributes: dict[str, Any] = self._read_attributes()
            if self.attributes.get("format") != expected_format:
                raise CacheError(
                    f"{path} is not a {expected_format} file of vidclip; move it out of the cache's folder."
                )
            version = self.attributes.get("version")
            if version != FORMAT_VERSION:
                raise CacheError(
                    f"{path} has format version {version}; this vidclip reads version {FORMAT_VERSION}. "
                    "Use the vidclip that wrote it, or extract again into another --cache."
                )
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def damaged(self, reason: str) -> CacheError:
        return CacheError(
            f"{self.path} is damaged or no HDF5 file ({reason}). Delete it and run the command that made it "
            "again: only what it held is computed anew."
        )

    def names(self) -> list[str]:
        return sorted(self._file.keys())

    def numbers(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> h5py.Dataset:
        """The dataset `name`, checked: its type, and its shape where `shape` says a number."""
        dataset = self._dataset(name)
        # Any float width is welcome where a float is expected; the kind is what must agree.
        if dataset.dtype.kind != np.dtype(dtype).kind or dataset.ndim != len(shape):
            raise self.damaged(f"column {name!r} is {dataset.dtype} {dataset.shape}")
        if any(want is not None and want != have for want, have in zip(shape, dataset.shape, strict=True)):
            raise self.damaged(f"column {name!r} has shape {dataset.shape}, expected {shape}")
        return dataset

    def read_numbers(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
        return self.read(self.numbers(name, dtype, shape)).astype(dtype, copy=False)

    def read(self, dataset: h5py.Dataset, rows: Any = ()) -> np.ndarray:
        try:
            return dataset[rows]
        except (OSError, RuntimeError, ValueError) as error:
            raise self.damaged(str(error)) from None

    def read_strings(self, name: str, length: int | None = None) -> list[str]:
        dataset = self._dataset(name)
        if h5py.check_string_dtype(dataset.dtype) is None or dataset.ndim != 1:
            raise self.damaged(f"column {name!r} is no text")
        if length is not None and len(dataset) != length:
            raise self.damaged(f"column {name!r} has {len(dataset)} rows, expected {length}")
        try:
            return [raw.decode("utf-8", "surrogateescape") for raw in dataset[:]]
        except (OSError, RuntimeError, ValueError, AttributeError) as error:
            raise self.damaged(str(error)) from None

    def _dataset(self, name: str) -> h5py.Dataset:
        try:
            link = self._file.get(name, getlink=True)
            dataset: Any = self._file[name] if isinstance(link, h5py.HardLink) else None
        except (OSError, RuntimeError, KeyError) as error:
            raise self.damaged(str(error)) from None
        if not isinstance(dataset, h5py.Dataset):
            raise self.damaged(f"it has no column {name!r}")
        if dataset.external or dataset.is_virtual:
            raise self.damaged(f"column {name!r} lies outside the file")
        stored = dataset.id.get_storage_size()
        if dataset.chunks is None and dataset.size and stored < dataset.size * dataset.dtype.itemsize:
            raise self.damaged(f"column {name!r} says {dataset.shape}, but {stored} bytes are there")
        return dataset

    def _read_attributes(self) -> dict[str, Any]:
        try:
            return {
                key: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
                for key, value in ((str(key), self._file.attrs[key]) for key in self._file.attrs)
            }
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise self.damaged(str(error)) from None


def read_columns(file: OpenFile) -> Columns:
    """All columns of a shard, in memory (a shard is bounded), their shapes checked against each other."""
    frames = file.numbers("frames", np.float16, (None, None, None, None))
    n, views, times, _ = frames.shape
    columns: Columns = {"frames": file.read(frames)}
    columns.update(read_details(file, n))
    for name in ("frame_indices", "timestamps"):
        columns[name] = file.read_numbers(name, NUMBER_COLUMNS[name], (n, views, times))
    return columns


def read_details(file: OpenFile, n: int) -> Columns:
    """The columns that say what the n videos of a shard are, without their features."""
    absent = OPTIONAL_COLUMNS.keys() - set(file.names())
    columns: Columns = {
        name: file.read_strings(name, n) for name in STRING_COLUMNS if name != "labels" and name not in absent
    }
    columns["labels"] = file.read_strings("labels")
    for name in DETAIL_NUMBERS:
        if name not in absent:
            columns[name] = file.read_numbers(name, NUMBER_COLUMNS[name], (n,))
    offsets = file.read_numbers("label_offsets", np.int64, (n + 1,))
    if offsets[0] != 0 or offsets[-1] != len(columns["labels"]) or (np.diff(offsets) < 0).any():
        raise file.damaged("its label offsets do not fit its labels")
    columns["label_offsets"] = offsets
    return columns
