"""The HDF5 layout of a shard: its columns, how they are written, read and checked.

A shard holds n videos, V views each, T frames a view, D dimensions:

    frames             [n, V, T, D] float16   as the encoder gave them, not normalized
    patches            [n, V, P, d] float16   patch tokens of a clip, for X-CLIP's prompts; absent in most caches
    frame_indices      [n, V, T]    int64     which frames of the video, zero-based
    timestamps         [n, V, T]    float64   seconds from the start of the video
    id, path, split, decoder, note   [n]      UTF-8 text
    labels, label_offsets            [L], [n + 1]   labels of video i: labels[offsets[i]:offsets[i+1]]
    duration_seconds, n_frames, readable_frames, repeated   [n]
    root, source_bytes, source_modified_ns   [n]    of the file it was read from; absent in older shards
    source_digest                    [n]      UTF-8 text, of the content of that file; absent in older shards
    generation                       [n]      of a video that is there twice the highest counts; absent in older shards

and the attributes `format`, `version`, `identity` (digest of encoder and sampling), `precision` (in which
the encoder ran) and `created_by`. A text column is a group of `bytes` [B] uint8 and `offsets` [n + 1] int64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .hdf5 import Columns
from .open_file import OpenFile
from .version1 import content_digest

FRAMES_FORMAT = "vidclip-frames"
TEXT_FORMAT = "vidclip-text"

STRING_COLUMNS = ("id", "path", "split", "decoder", "note", "root", "source_digest", "labels")
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
"""Columns with one number for each video."""
OPTIONAL_COLUMNS: Mapping[str, str | int] = {
    "root": "",
    "source_bytes": -1,
    "source_modified_ns": -1,
    "source_digest": "",
    "generation": 0,
}
"""Columns that older shards lack, and the value that takes their place."""


@dataclass(frozen=True)
class VideoInfo:
    """What a cache knows of one video, beside its features."""

    id: str
    """Its path below the root of the video list, POSIX."""
    path: str
    """Where the file was when it was read."""
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
    source_digest: str = ""
    """Of the content of the file, `KIND:DIGITS` (docs/cache.md); empty where it is not known."""
    generation: int = 0
    """How often the video has been read anew, because its file had changed: the highest one counts."""


@dataclass(frozen=True, kw_only=True)
class VideoRecord(VideoInfo):
    """One video as a cache keeps it, with its features."""

    frames: np.ndarray
    """[V, T, D] float, as the encoder gave them."""
    frame_indices: np.ndarray
    """[V, T] integers, zero-based."""
    timestamps: np.ndarray
    """[V, T] seconds."""
    patches: np.ndarray | None = None
    """[V, P, d] float, patch tokens of each clip as `OpenClipEncoder.encode_clips` gives them; None: not kept."""


def columns_of(records: Sequence[VideoRecord]) -> Columns:
    """Return the columns of the layout, with one entry for each record."""
    columns: Columns = {
        name: [getattr(record, name) for record in records] for name in STRING_COLUMNS if name != "labels"
    }
    columns["labels"] = [label for record in records for label in record.labels]
    columns["label_offsets"] = np.cumsum([0, *(len(record.labels) for record in records)], dtype=np.int64)
    for name, dtype in NUMBER_COLUMNS.items():
        if name != "label_offsets":
            columns[name] = np.stack([np.asarray(getattr(record, name), dtype) for record in records])
    if records[0].patches is not None:
        columns["patches"] = np.stack([np.asarray(record.patches, np.float16) for record in records])
    return columns


def check_digest(file: OpenFile, columns: Columns) -> None:
    """Compare the columns of a file of version 1 with the digest it keeps; version 2 is checked block by block.

    Raises CacheError.
    """
    if file.contents.version == 1 and content_digest(columns) != file.attributes.get("sha256"):
        raise file.changed()


def read_columns(file: OpenFile) -> Columns:
    """Return all columns of a shard, in memory (a shard is bounded), their shapes checked against each other.

    Raises CacheError where it is not what was written.
    """
    frames = file.numbers("frames", np.float16, (None, None, None, None))
    n, views, times, _ = frames.shape
    columns: Columns = {"frames": file.read(frames)}
    columns.update(read_details(file, n))
    for name in ("frame_indices", "timestamps"):
        columns[name] = file.read_numbers(name, NUMBER_COLUMNS[name], (n, views, times))
    if file.has("patches"):
        columns["patches"] = file.read_numbers("patches", np.float16, (n, views, None, None))
    check_digest(file, columns)
    return columns


def read_details(file: OpenFile, n: int) -> Columns:
    """Return the columns that say what the n videos of a shard are, without their features; texts as `TextColumn`."""
    absent = {name for name in OPTIONAL_COLUMNS if not file.has(name)}
    columns: Columns = {
        name: file.read_text(name, n) for name in STRING_COLUMNS if name != "labels" and name not in absent
    }
    columns["labels"] = file.read_text("labels")
    for name in DETAIL_NUMBERS:
        if name not in absent:
            columns[name] = file.read_numbers(name, NUMBER_COLUMNS[name], (n,))
    offsets = file.read_numbers("label_offsets", np.int64, (n + 1,))
    if offsets[0] != 0 or offsets[-1] != len(columns["labels"]) or (np.diff(offsets) < 0).any():
        raise file.damaged("its label offsets do not fit its labels")
    columns["label_offsets"] = offsets
    return columns


def facts_of(video: VideoInfo) -> VideoInfo:
    """Return what two readings of one video have in common, wherever and by whatever it was read."""
    return replace(video, path="", root="", source_modified_ns=-1, source_digest="", decoder="", note="")
