"""The files of a cache, and writing them: HDF5 with an index and checksums of its own.

    0      512 bytes        header: magic, format version, sizes, SHA-256 of the index, SHA-256 of the header
    512    image            an HDF5 file as any HDF5 library reads it (it calls the header a user block)
    ...    index            JSON: attributes, and of each column its type, shape, offset and checksums

HDF5's parser is fast on what HDF5 wrote, and follows what a damaged page says for ever, or into memory
that the file cannot fill. So it only writes these files. All columns are contiguous, text is bytes and offsets,
and a reader needs the index alone: a column's bytes are read from their place, into memory that the file's
size justifies, and each block of them is compared with its checksum before it is used.

`open_file` reads them. Version 1 had neither header nor index; `version1` says where its columns lie.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .columns import TextColumn
from .errors import CacheError

FORMAT_VERSION = 2
HEADER_BYTES = 512
BLOCK_BYTES = 1 << 14
"""Bytes under one checksum; a column's first block begins with the column."""

MAGIC = b"vidclip\n"
HEADER = struct.Struct("<8sIIQQ32s")
"""Magic, version, bytes of a block, end of the image, bytes of the index, SHA-256 of the index."""
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

Columns = dict[str, Any]
"""Column name -> numpy array, or a sequence of str for text."""


@dataclass(frozen=True)
class Column:
    """Where the numbers of a column lie."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    """In the file."""
    checksums: np.ndarray | None
    """CRC-32 of each block; None in version 1, which has none."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Contents:
    """What a file says it holds. Nothing of it has to be true: `OpenFile` checks it where it is used."""

    version: int
    attributes: Mapping[str, Any]
    columns: Mapping[str, Column]
    image_sha256: str = ""
    """SHA-256 of all bytes between header and index."""
    block_bytes: int = BLOCK_BYTES
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    """The text columns of version 1, which are not kept as bytes and offsets."""
    stamp: bytes = b""
    """Differs when the file has been replaced."""


def file_parts(columns: Columns, attributes: Mapping[str, Any]) -> list[bytes]:
    """Return the bytes of a file with these columns and attributes, in parts that follow each other.

    The HDF5 image is built in memory and written by the caller in one go: HDF5 itself never meets a full
    disk, which it survives badly.
    """
    attributes = {**attributes, "version": FORMAT_VERSION}
    arrays = dict(to_arrays(columns))
    with h5py.File(
        "image", "w", driver="core", backing_store=False, userblock_size=HEADER_BYTES, track_order=False
    ) as file:
        places = {}
        # Small columns first: what says which videos there are lies together.
        for name in sorted(arrays, key=lambda name: arrays[name].nbytes):
            dataset = file.create_dataset(name, data=arrays[name])
            places[name] = dataset.id.get_offset() if arrays[name].nbytes else HEADER_BYTES
        for name, value in attributes.items():
            file.attrs[name] = value
        file.flush()
        image = file.id.get_file_image()
    if not image.startswith(HDF5_SIGNATURE):  # HDF5 leaves the user block out of an image; not promised
        image = image[HEADER_BYTES:]
    index = {
        "attributes": attributes,
        "columns": {name: _index_column(image, array, places[name], name) for name, array in arrays.items()},
        "image_sha256": hashlib.sha256(image).hexdigest(),
    }
    tail = json.dumps(index, separators=(",", ":")).encode()
    head = HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        BLOCK_BYTES,
        HEADER_BYTES + len(image),
        len(tail),
        hashlib.sha256(tail).digest(),
    )
    head = head.ljust(HEADER_BYTES - 32, b"\0")
    return [head + hashlib.sha256(head).digest(), image, tail]


def to_arrays(columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the columns as numbers, little-endian: text becomes `<name>/bytes` and `<name>/offsets`."""
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            yield name, np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
        else:
            text = column if isinstance(column, TextColumn) and column.rows is None else TextColumn.of(column)
            yield f"{name}/bytes", np.ascontiguousarray(text.data)
            yield f"{name}/offsets", np.ascontiguousarray(text.offsets, "<i8")


def _index_column(image: bytes, array: np.ndarray, offset: int, name: str) -> dict[str, Any]:
    there = np.frombuffer(image, np.uint8, array.nbytes, offset - HEADER_BYTES)
    if not np.array_equal(there, array.reshape(-1).view(np.uint8)):
        raise CacheError(f"this HDF5 library does not store the column {name!r} as it says it does.")
    checksums = np.array(list(checksums_of(there.data, BLOCK_BYTES)), "<u4")
    # HDF5 has no booleans; h5py makes an enumeration of bytes of them.
    return {
        "type": array.dtype.str,
        "shape": array.shape,
        "offset": offset,
        "crc32": base64.b64encode(checksums.tobytes()).decode(),
    }


def checksums_of(data: memoryview, block_bytes: int) -> Iterator[int]:
    return (zlib.crc32(data[start : start + block_bytes]) for start in range(0, len(data), block_bytes))


def damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"{path} is damaged or no HDF5 file of vidclip ({reason}). Delete it and run the command that made it "
        "again: only what it held is computed anew."
    )


def wrong_version(path: Path, version: object) -> CacheError:
    return CacheError(
        f"{path} has format version {version}; this vidclip reads the versions 1 and {FORMAT_VERSION}. "
        "Use the vidclip that wrote it, or extract again into another --cache."
    )
