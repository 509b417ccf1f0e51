"""Reading the files of a cache: `OpenFile` checks what it gives, whatever the file says of itself."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import stat
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .columns import TextColumn
from .errors import CacheError
from .files import SAFE_FLAGS
from .hdf5 import (
    FORMAT_VERSION,
    HDF5_SIGNATURE,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    Column,
    Contents,
    checksums_of,
    damaged,
    wrong_version,
)

_LARGEST_INDEX = 1 << 26
_KINDS = "biuf"
_POSITION = threading.Lock()


class OpenFile:
    """A file of a cache, open for reading; every failure is a CacheError that names it.

    contents    what `describe_all` found in the same file, to spare another reading

    What it gives is checked: columns lie within the file and have the shape that was asked for, and, in
    version 2, every byte agrees with its checksum. For version 1, see `layout.check_digest`.
    """

    def __init__(
        self, path: Path, expected_format: str, contents: Contents | CacheError | None = None
    ) -> None:
        self.path = path
        self.contents = describe(path) if contents is None else sound(contents)
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
        """Return the column `name`; its type is checked, and its shape where `shape` says a number."""
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
        """Read rows `first` to `stop` of a column; into `out`, contiguous and of the column's type, if given."""
        stop = column.shape[0] if stop is None else stop
        rows = (stop - first, *column.shape[1:])
        if out is None:
            out = np.empty(rows, column.dtype)
        row_bytes = math.prod(column.shape[1:]) * column.dtype.itemsize
        if out.nbytes:
            self._read_bytes(column, first * row_bytes, out.reshape(-1).view(np.uint8).data)
        return out

    def read_text(self, name: str, length: int | None = None) -> TextColumn:
        """Return a column of text, of `length` rows where one is given."""
        if name in self.contents.texts:
            column = TextColumn.of(self.contents.texts[name])
        else:
            if f"{name}/bytes" not in self.contents.columns:
                raise self.damaged(f"it has no text {name!r}")
            raw = self.read(self.numbers(f"{name}/bytes", np.uint8, (None,)))
            try:
                column = TextColumn(raw, self.read_numbers(f"{name}/offsets", np.int64, (None,)))
            except ValueError:
                raise self.damaged(f"the offsets of its text {name!r} do not fit") from None
        if length is not None and len(column) != length:
            raise self.damaged(f"column {name!r} has {len(column)} rows, expected {length}")
        return column

    def read_strings(self, name: str, length: int | None = None) -> list[str]:
        return list(self.read_text(name, length))

    @property
    def descriptor(self) -> int:
        return self._file

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._file).st_size

    def check_image(self) -> None:
        """Read the whole image once, what HDF5 keeps beside the columns included. Version 1 has no checksum of it.

        Raises CacheError.
        """
        if self.contents.version == 1:
            return
        sha, start = hashlib.sha256(), HEADER_BYTES
        end = struct.unpack_from("<Q", self.contents.stamp, 16)[0]
        buffer = memoryview(bytearray(1 << 20))
        while start < end:
            piece = buffer[: min(len(buffer), end - start)]
            _fill(self.path, self._file, piece, start)
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
        """Read bytes of a column from `start` on; only blocks that agree with their checksums."""
        if column.checksums is None:
            _fill(self.path, self._file, out, column.offset + start)
            return
        block, stop = self.contents.block_bytes, start + len(out)
        first, last = start // block, -(-stop // block)
        # Whole blocks are read in place; a block that is cut at either end is read apart, and its part copied.
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
        """Read whole blocks from the number `first` on."""
        block = self.contents.block_bytes
        _fill(self.path, self._file, out, column.offset + first * block)
        for number, checksum in enumerate(checksums_of(out, block), first):
            if column.checksums is not None and column.checksums[number] != checksum:
                raise self.changed()

    def _stamp(self, version: int) -> bytes:
        return _read_at(self._file, HEADER_BYTES, 0) if version >= 2 else stamp_of(os.fstat(self._file))


def describe(path: Path) -> Contents:
    """Return what a file holds. Raises CacheError."""
    return sound(describe_all([path])[path])


def describe_all(paths: Sequence[Path]) -> dict[Path, Contents | CacheError]:
    """Return what each file holds, or why that cannot be said; all files of version 1 are described together."""
    found: dict[Path, Contents | CacheError] = {}
    old: list[Path] = []
    for path in paths:
        try:
            descriptor = _open_regular(path)
            try:
                contents = _read_contents(path, descriptor)
            finally:
                os.close(descriptor)
        except CacheError as error:
            found[path] = error
        else:
            if contents is None:
                old.append(path)
            else:
                found[path] = contents
    if old:
        from . import version1

        found.update(version1.describe(old))
    return {path: found[path] for path in paths}


def sound(found: Contents | CacheError) -> Contents:
    """Return what `describe_all` found, or raise its error."""
    if isinstance(found, CacheError):
        raise found
    return found


def _read_contents(path: Path, descriptor: int) -> Contents | None:
    """Return what the header and the index of a file say, checked; None for version 1."""
    head = _read_at(descriptor, HEADER_BYTES, 0)
    if head.startswith(HDF5_SIGNATURE):
        return None
    size = os.fstat(descriptor).st_size
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise damaged(path, "it does not begin like one")
    if hashlib.sha256(head[:-32]).digest() != head[-32:]:
        raise damaged(path, "its header has changed")
    _, version, block_bytes, image_end, index_bytes, digest = HEADER.unpack_from(head)
    if version != FORMAT_VERSION:
        raise wrong_version(path, version)
    if image_end + index_bytes != size:
        written = image_end + index_bytes
        raise damaged(
            path, f"it has {size} bytes, not {written}: it was cut off, or another program wrote to it"
        )
    if image_end < HEADER_BYTES or not block_bytes or index_bytes > _LARGEST_INDEX:
        raise damaged(path, "its header holds sizes that cannot be")
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


def _fill(path: Path, descriptor: int, out: memoryview, offset: int) -> None:
    """Fill `out` with the bytes of a file from `offset` on. Raises CacheError."""
    done = 0
    while done < len(out):
        try:
            count = _read_into(descriptor, out[done:], offset + done)
        except OSError as error:
            raise damaged(path, str(error)) from None
        if not count:
            raise damaged(path, "it ends too early")
        done += count


def _read_at(descriptor: int, length: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    with _POSITION:  # Windows: a file has one position for all threads
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)


def _read_into(descriptor: int, out: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [out], offset)
    data = _read_at(descriptor, len(out), offset)
    out[: len(data)] = data
    return len(data)


def _open_regular(path: Path) -> int:
    try:
        # A FIFO of that name would be waited for without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | SAFE_FLAGS)
    except FileNotFoundError:
        raise CacheError(f"{path} does not exist.") from None
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CacheError(f"{path} is no file; move it out of the cache's folder.")
    return descriptor


def header_digest(path: Path) -> tuple[int, bytes]:
    """Return the size of a file and the digest of its header, which stands for all that it holds; (-1, b"") where there is
    no whole header."""
    try:
        descriptor = _open_regular(path)
    except CacheError:
        return -1, b""
    try:
        head, size = os.pread(descriptor, HEADER_BYTES, 0), os.fstat(descriptor).st_size
    except OSError:
        return -1, b""
    finally:
        os.close(descriptor)
    digest = hashlib.sha256(head[:-32]).digest()
    return (size, digest) if len(head) == HEADER_BYTES and head[-32:] == digest else (-1, b"")


def stamp_of(status: os.stat_result) -> bytes:
    return struct.pack("<QqQ", status.st_size, status.st_mtime_ns, status.st_ino)
