"""Exports as arrays: .npz of numpy and .safetensors, both written from front to back, a batch at a time."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from .content import Content
from .errors import ExchangeError

_SAFETENSORS_TYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64"}
_LARGEST_HEADER = 100_000_000
"""Bytes that the library safetensors reads of a header."""


def write_npz(content: Content, file: BinaryIO) -> None:
    """Write the arrays, `id`, `path`, ... as arrays of text, labels as `labels` and `label_offsets` (those of video i are
    labels[offsets[i]:offsets[i + 1]]), and `metadata`, a text of JSON. No pickles: numpy reads it with allow_pickle=False."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "metadata", np.array(json.dumps(content.metadata())))
        videos = content.cache.videos
        for name in ("id", "path", "split", "decoder", "note", "root"):
            _add(archive, name, np.array([getattr(video, name) for video in videos], np.str_))
        _add(archive, "labels", np.array([label for video in videos for label in video.labels], np.str_))
        _add(
            archive, "label_offsets", np.cumsum([0, *(len(video.labels) for video in videos)], dtype=np.int64)
        )
        for name, column in content.numbers().items():
            _add(archive, name, column)
        for name, (dtype, shape) in content.arrays.items():
            with archive.open(_member(name), "w", force_zip64=True) as member:
                header = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                _write(member, content.batches(name))


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(_member(name), "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy")  # of 1980: the same cache makes the same file


def _write(file: Any, pieces: Iterable[np.ndarray]) -> None:
    for piece in pieces:
        file.write(piece.tobytes())


def write_safetensors(content: Content, file: BinaryIO) -> None:
    """Write the arrays as tensors; the metadata has `vidclip` (what shaped them) and `videos` (a list with what is known of
    each), both JSON. Raises ExchangeError for more videos than a header can name."""
    header: dict[str, Any] = {
        "__metadata__": {
            "vidclip": json.dumps(content.metadata()),
            "videos": json.dumps([content.details(index) for index in range(len(content.cache))]),
        }
    }
    end = 0
    for name, (dtype, shape) in content.arrays.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        kind = _SAFETENSORS_TYPES[dtype.name]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > _LARGEST_HEADER:
        raise ExchangeError(
            f"{len(content.cache):,} videos are too many for a safetensors header of {_LARGEST_HEADER:,} bytes: use --to npz."
        )
    file.write(len(head).to_bytes(8, "little") + head)
    for name in content.arrays:
        _write(file, content.batches(name))
