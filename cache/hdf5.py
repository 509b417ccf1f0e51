"""The files of a cache: HDF5 with an index and checksums of its own, read without HDF5's parser.

    0      512 bytes        header: magic, format version, sizes, SHA-256 of the index, SHA-256 of the header
    512    image            an HDF5 file as any HDF5 library reads it (it calls the header a user block)
    ...    index            JSON: attributes, and of each column its type, shape, offset and checksums

HDF5's parser is fast on what HDF5 wrote, and follows what a damaged page says for ever, or into memory
that the file cannot fill. So it only writes these files. All columns are contiguous, text is bytes and offsets,
and a reader needs the index alone: a column's bytes are read from their place, into memory that the file's
size justifies, and each block of them is compared with its checksum before anybody sees it.

Version 1 had neither header nor index; `version1` says where its columns lie.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import CacheError

FORMAT_VERSION = 2
HEADER_BYTES = 512
BLOCK_BYTES = 1 << 14
"""Bytes under one checksum; a column's first block begins with the column."""

_MAGIC = b"vidclip\n"
_HEADER = struct.Struct(
    "<8sIIQQ32s"
)  # magic, version, block bytes, end of the image, index bytes, its SHA-256
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LARGEST_INDEX = 1 << 26
_KINDS = "biuf"

Columns = dict[str, Any]
"""Column name -> numpy array, or list of str for text."""


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
    """Of all bytes between header and index."""
    block_bytes: int = BLOCK_BYTES
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    """The text columns of version 1, which are not kept as bytes and offsets."""
    stamp: bytes = b""
    """Differs when the file has been replaced."""


# --- writing


def file_parts(columns: Columns, attributes: Mapping[str, Any]) -> list[bytes]:
    """The bytes of a file with these columns and attributes, in parts that follow each other.

    The HDF5 image is built in memory and written by the caller in one go: HDF5 itself never meets a full
    disk, which it survives badly.
    """
    attributes = {**attributes, "version": FORMAT_VERSION}
    arrays = dict(_arrays(columns))
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
    if not image.startswith(_HDF5_SIGNATURE):  # HDF5 leaves the user block out of an image; not promised
        image = image[HEADER_BYTES:]
    index = {
        "attributes": attributes,
        "columns": {name: _index_column(image, array, places[name], name) for name, array in arrays.items()},
        "image_sha256": hashlib.sha256(image).hexdigest(),
    }
    tail = json.dumps(index, separators=(",", ":")).encode()
    head = _HEADER.pack(
        _MAGIC,
        FORMAT_VERSION,
        BLOCK_BYTES,
        HEADER_BYTES + len(image),
        len(tail),
        hashlib.sha256(tail).digest(),
    )
    head = head.ljust(HEADER_BYTES - 32, b"\0")
    return [head + hashlib.sha256(head).digest(), image, tail]


def _arrays(columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """The columns as numbers, little-endian: text becomes `<name>/bytes` and `<name>/offsets`."""
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            yield name, np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
        else:
            raw = [to_bytes(text) for text in column]
            yield f"{name}/bytes", np.frombuffer(b"".join(raw), np.uint8)
            yield f"{name}/offsets", np.cumsum([0, *map(len, raw)], dtype="<i8")


def _index_column(image: bytes, array: np.ndarray, offset: int, name: str) -> dict[str, Any]:
    there = np.frombuffer(image, np.uint8, array.nbytes, offset - HEADER_BYTES)
    if not np.array_equal(there, array.reshape(-1).view(np.uint8)):
        raise CacheError(f"this HDF5 library does not store the column {name!r} as it says it does.")
    checksums = np.array(list(_checksums(there.data, BLOCK_BYTES)), "<u4")
    # HDF5 has no booleans; h5py makes an enumeration of bytes of them.
    return {
        "type": array.dtype.str,
        "shape": array.shape,
        "offset": offset,
        "crc32": base64.b64encode(checksums.tobytes()).decode(),
    }


def _checksums(data: memoryview, block_bytes: int) -> Iterator[int]:
    return (zlib.crc32(data[start : start + block_bytes]) for start in range(0, len(data), block_bytes))


def to_bytes(text: str) -> bytes:
    # Names on disk need not be UTF-8; surrogateescape carries their bytes through unchanged.
    return text.encode("utf-8", "surrogateescape")


# --- reading


class OpenFile:
    """A file of ours, open for reading; every failure is a CacheError that names it.

    contents    what an earlier reading of the same file found, to spare another

    What it gives is checked: columns lie within the file and have the shape that was asked for, and, in
    version 2, every byte agrees with its checksum. For version 1, see `check_content`.
    """

    def __init__(self, path: Path, expected_format: str, contents: Contents | None = None) -> None:
        self.path = path
        self.contents = contents or sound(describe_all([path])[0][1])
        self._file = _open_regular(path)
        try:
            if self._stamp(self.contents.version) != self.contents.stamp:
                raise CacheError(f"{path} has been replaced while it was in use; start again.")
            self.attributes = self.contents.attributes
            if self.attributes.get("format") != expected_format:
                raise CacheError(
                    f"{path} is not a {expected_format} file of vidclip; move it out of the cache's folder."
                )
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def damaged(self, reason: str) -> CacheError:
        return damaged(self.path, reason)

    def has(self, name: str) -> bool:
        """Whether there is a column of that name, numbers or text."""
        return bool({name, f"{name}/bytes"} & self.contents.columns.keys()) or name in self.contents.texts

    def numbers(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> Column:
        """The column `name`, checked: its type, and its shape where `shape` says a number."""
        column = self.contents.columns.get(name)
        if column is None:
            raise self.damaged(f"it has no column {name!r}")
        # Any float width is welcome where a float is expected; the kind is what must agree.
        if column.dtype.kind != np.dtype(dtype).kind or len(column.shape) != len(shape):
            raise self.damaged(f"column {name!r} is {column.dtype} {column.shape}")
        if any(want is not None and want != have for want, have in zip(shape, column.shape, strict=True)):
            raise self.damaged(f"column {name!r} has shape {column.shape}, expected {shape}")
        return column

    def read_numbers(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
        return self.read(self.numbers(name, dtype, shape)).astype(dtype, copy=False)

    def read(
        self, column: Column, first: int = 0, stop: int | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Rows `first` to `stop` of a column; into `out`, contiguous and of the column's type, if given."""
        stop = column.shape[0] if stop is None else stop
        rows = (stop - first, *column.shape[1:])
        if out is None:
            out = np.empty(rows, column.dtype)
        row_bytes = math.prod(column.shape[1:]) * column.dtype.itemsize
        if out.nbytes:
            self._read_bytes(column, first * row_bytes, out.reshape(-1).view(np.uint8).data)
        return out

    def read_strings(self, name: str, length: int | None = None) -> list[str]:
        if name in self.contents.texts:
            texts = self.contents.texts[name]
        else:
            if f"{name}/bytes" not in self.contents.columns:
                raise self.damaged(f"it has no text {name!r}")
            raw = self.read(self.numbers(f"{name}/bytes", np.uint8, (None,))).tobytes()
            ends = self.read_numbers(f"{name}/offsets", np.int64, (None,))
            if not len(ends) or ends[0] != 0 or ends[-1] != len(raw) or (np.diff(ends) < 0).any():
                raise self.damaged(f"the offsets of its text {name!r} do not fit")
            cuts = ends.tolist()
            pairs = itertools.pairwise(cuts)
            if raw.isascii():
                whole = raw.decode("ascii")
                texts = [whole[start:stop] for start, stop in pairs]
            else:
                texts = [raw[start:stop].decode("utf-8", "surrogateescape") for start, stop in pairs]
        if length is not None and len(texts) != length:
            raise self.damaged(f"column {name!r} has {len(texts)} rows, expected {length}")
        return texts

    def check_image(self) -> None:
        """Reads the whole image once, what HDF5 keeps beside the columns included. Version 1 has no checksum of it."""
        if self.contents.version == 1:
            return
        sha, start = hashlib.sha256(), HEADER_BYTES
        end = struct.unpack_from("<Q", self.contents.stamp, 16)[0]
        buffer = memoryview(bytearray(1 << 20))
        while start < end:
            piece = buffer[: min(len(buffer), end - start)]
            self._fill(piece, start)
            sha.update(piece)
            start += len(piece)
        if sha.hexdigest() != self.contents.image_sha256:
            raise self.changed()

    def changed(self) -> CacheError:
        return CacheError(
            f"{self.path} has changed since it was written: its checksum does not fit its content. Delete it and "
            "run the command that made it again: only what it held is computed anew."
        )

    def _read_bytes(self, column: Column, start: int, out: memoryview) -> None:
        """Bytes of a column from `start` on; only blocks that agree with their checksums."""
        if column.checksums is None:
            self._fill(out, column.offset + start)
            return
        block, stop = self.contents.block_bytes, start + len(out)
        first, last = start // block, -(-stop // block)
        # Whole blocks go straight where they belong; of one that is cut at either end, a part is copied.
        whole_first = -(-start // block)
        whole_last = last if stop == column.nbytes else stop // block
        if whole_first < whole_last:
            piece = out[whole_first * block - start : min(whole_last * block, stop) - start]
            self._read_blocks(column, whole_first, piece)
            cut = [*range(first, whole_first), *range(whole_last, last)]
        else:
            cut = list(range(first, last))
        for number in cut:
            begin = number * block
            piece = memoryview(bytearray(min(block, column.nbytes - begin)))
            self._read_blocks(column, number, piece)
            low, high = max(start, begin), min(stop, begin + len(piece))
            out[low - start : high - start] = piece[low - begin : high - begin]

    def _read_blocks(self, column: Column, first: int, out: memoryview) -> None:
        """Whole blocks from the number `first` on."""
        block = self.contents.block_bytes
        self._fill(out, column.offset + first * block)
        for number, checksum in enumerate(_checksums(out, block), first):
            if column.checksums is not None and column.checksums[number] != checksum:
                raise self.changed()

    def _fill(self, out: memoryview, offset: int) -> None:
        _fill(self.path, self._file, out, offset)

    def _stamp(self, version: int) -> bytes:
        return os.pread(self._file, HEADER_BYTES, 0) if version >= 2 else stamp_of(os.fstat(self._file))


def describe_all(paths: Sequence[Path]) -> list[tuple[Path, Contents | CacheError]]:
    """What each file holds, or why that cannot be said; all files of version 1 are looked at together."""
    found: dict[Path, Contents | CacheError | None] = {}
    for path in paths:
        try:
            descriptor = _open_regular(path)
            try:
                found[path] = _read_contents(path, descriptor)
            finally:
                os.close(descriptor)
        except CacheError as error:
            found[path] = error
    old = [path for path in paths if found[path] is None]
    if old:
        from .version1 import describe

        found.update(describe(old))
    return [(path, each) for path, each in found.items() if each is not None]


def sound(found: Contents | CacheError) -> Contents:
    """What `describe_all` found, or its error raised."""
    if isinstance(found, CacheError):
        raise found
    return found


def _read_contents(path: Path, descriptor: int) -> Contents | None:
    """The header and the index of a file, checked; None for version 1."""
    head = os.pread(descriptor, HEADER_BYTES, 0)
    if head.startswith(_HDF5_SIGNATURE):
        return None
    size = os.fstat(descriptor).st_size
    if len(head) < HEADER_BYTES or not head.startswith(_MAGIC):
        raise damaged(path, "it does not begin like one")
    if hashlib.sha256(head[:-32]).digest() != head[-32:]:
        raise damaged(path, "its header has changed")
    _, version, block_bytes, image_end, index_bytes, digest = _HEADER.unpack_from(head)
    if version != FORMAT_VERSION:
        raise wrong_version(path, version)
    if image_end + index_bytes != size:
        written = image_end + index_bytes
        raise damaged(
            path, f"it has {size} bytes, not {written}: it was cut off, or another program wrote to it"
        )
    if image_end < HEADER_BYTES or not block_bytes or index_bytes > _LARGEST_INDEX:
        raise damaged(path, "its header is none that vidclip writes")
    tail = bytearray(index_bytes)
    _fill(path, descriptor, memoryview(tail), image_end)
    if hashlib.sha256(tail).digest() != digest:
        raise damaged(path, "its index has changed")
    try:
        index = json.loads(tail)
        columns = {
            str(name): _column_of(entry, block_bytes, image_end) for name, entry in index["columns"].items()
        }
        if sum(column.nbytes for column in columns.values()) > image_end:
            raise ValueError("its columns are larger than the file")
        return Contents(
            version, dict(index["attributes"]), columns, str(index["image_sha256"]), block_bytes, {}, head
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its index cannot be read: {error}") from None


def _fill(path: Path, descriptor: int, out: memoryview, offset: int) -> None:
    done = 0
    while done < len(out):
        try:
            count = _read_into(descriptor, out[done:], offset + done)
        except OSError as error:
            raise damaged(path, str(error)) from None
        if not count:
            raise damaged(path, "it ends too early")
        done += count


def _column_of(entry: Mapping[str, Any], block_bytes: int, image_end: int) -> Column:
    dtype = np.dtype(str(entry["type"]))
    shape, offset = entry["shape"], entry["offset"]
    if dtype.kind not in _KINDS or not 1 <= dtype.itemsize <= 16 or dtype.byteorder == ">":
        raise ValueError(f"a column of type {dtype}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 8 or not isinstance(offset, int):
        raise ValueError("a column without shape or place")
    # A side of 0 makes any other side possible; no side may be larger than the file.
    if any(not isinstance(side, int) or not 0 <= side <= image_end for side in shape):
        raise ValueError(f"a column of shape {shape}")
    checksums = np.frombuffer(base64.b64decode(entry["crc32"], validate=True), "<u4")
    column = Column(dtype, tuple(shape), offset, checksums)
    if offset < HEADER_BYTES or offset + column.nbytes > image_end:
        raise ValueError(f"a column of shape {shape} that the file cannot hold")
    if len(checksums) != -(-column.nbytes // block_bytes):
        raise ValueError("a column without its checksums")
    return column


def _read_into(descriptor: int, out: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [out], offset)
    data = os.pread(descriptor, len(out), offset)
    out[: len(data)] = data
    return len(data)


def _open_regular(path: Path) -> int:
    try:
        # A FIFO of that name would be waited for without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CacheError(f"{path} does not exist.") from None
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CacheError(f"{path} is no file; move it out of the cache's folder.")
    return descriptor


def stamp_of(status: os.stat_result) -> bytes:
    return struct.pack("<QqQ", status.st_size, status.st_mtime_ns, status.st_ino)


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
