"""`cache.index`: what all shards say of their videos, in one file that is mapped into memory instead of read.

    0      512 bytes      header, as that of a shard
    512    columns        arrays, one after the other
    ...    JSON           attributes, and of each column its type, shape, place and the CRC-32 of its blocks

The attributes name the shards: file, size, digest of the header, rows, precision and shape. The header of a shard holds the
digest of the checksums of all it has, so that a shard with this header is this shard. The file is used where each of them is
there and the same, and is left aside otherwise; shards that it does not name are read as without it. Blocks of a column are
compared with their checksums when it is first used. What it says of the videos is not proven by that: when features of a
shard are first read, its own ids are compared, and `verify` compares everything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .columns import CodedColumn, TextColumn
from .errors import CacheError
from .files import whole_file
from .hdf5 import BLOCK_BYTES, FORMAT_VERSION, HEADER, HEADER_BYTES, MAGIC, Columns, checksums_of, to_arrays
from .layout import DETAIL_NUMBERS, NUMBER_COLUMNS, OPTIONAL_COLUMNS
from .open_file import OpenFile, header_digest
from .shards import Shard
from .table import CODED, TEXTS, Table, no_texts

INDEX_FILE = "cache.index"
INDEX_FORMAT = "vidclip-index"
_ALIGNMENT = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredIndex:
    """The rows of some shards of a cache."""

    shards: list[Shard]
    table: Table
    order: np.ndarray
    """The rows in ascending order of their ids, those of one id in their own."""
    same: np.ndarray
    """Places in `order` whose id is that of the next place."""


def write_index(
    folder: Path, identity: str, shards: Sequence[Shard], table: Table, order: np.ndarray, same: np.ndarray
) -> None:
    """Write the index of shards, of version 2, and of their rows. Raises OSError with nothing left behind.

    identity    digest of the cache's
    """
    columns: Columns = {"order": order.astype(np.int64), "same": same.astype(np.int64)}
    for name in TEXTS:
        columns[name] = table[name]
    for name in CODED:
        columns[f"{name}/codes"], columns[f"{name}/values"] = table[name].codes, table[name].values
    labels: CodedColumn[tuple[str, ...]] = table["labels"]
    columns["labels/codes"] = labels.codes
    columns["labels/values"] = [label for each in labels.values for label in each]
    columns["labels/counts"] = np.array([len(each) for each in labels.values], np.int64)
    for name in DETAIL_NUMBERS:
        columns[name] = table[name]
    attributes = {
        "format": INDEX_FORMAT,
        "version": FORMAT_VERSION,
        "identity": identity,
        "shards": [
            [
                *(shard.path.name, shard.size, shard.digest.hex(), shard.num_videos, shard.precision),
                *(list(shard.shape), shard.patch_shape and list(shard.patch_shape)),
            ]
            for shard in shards
        ],
    }
    with whole_file(folder / INDEX_FILE) as (_, file):
        _write(file, columns, attributes)


def _write(file: BinaryIO, columns: Columns, attributes: Mapping[str, Any]) -> None:
    sha, end, entries = hashlib.sha256(), HEADER_BYTES, dict[str, Any]()
    file.write(bytes(HEADER_BYTES))
    for name, array in to_arrays(columns):
        data = array.reshape(-1).view(np.uint8).data
        filling = bytes(-end % _ALIGNMENT)
        for part in (filling, data):
            file.write(part)
            sha.update(part)
        entries[name] = {
            "type": array.dtype.str,
            "shape": array.shape,
            "offset": end + len(filling),
            "crc32": base64.b64encode(
                np.array(list(checksums_of(data, BLOCK_BYTES)), "<u4").tobytes()
            ).decode(),
        }
        end += len(filling) + len(data)
    document = {"attributes": attributes, "columns": entries, "image_sha256": sha.hexdigest()}
    tail = json.dumps(document, separators=(",", ":")).encode()
    file.write(tail)
    head = HEADER.pack(MAGIC, FORMAT_VERSION, BLOCK_BYTES, end, len(tail), hashlib.sha256(tail).digest())
    head = head.ljust(HEADER_BYTES - 32, b"\0")
    file.seek(0)
    file.write(head + hashlib.sha256(head).digest())


def open_index(folder: Path, identity: str, paths: Sequence[Path]) -> StoredIndex | None:
    """Return the index of a cache; None where there is none, or where it is not of the shards that are there now.

    identity    digest of the cache's
    paths       the shards that are there
    A damaged one is named in the log, and is not used.
    """
    path = folder / INDEX_FILE
    if not os.path.lexists(path):
        return None
    try:
        return read_index(path, identity, {each.name: each for each in paths})
    except CacheError as error:
        _log.warning("%s The shards themselves are read, which takes longer.", error)
        return None


def read_index(path: Path, identity: str, there: Mapping[str, Path]) -> StoredIndex | None:
    """Return what an index says; None where a shard that it names is another today, or has gone. Raises CacheError."""
    with OpenFile(path, INDEX_FORMAT) as file:
        reader = _Reader(file)
        try:
            shards = [_shard(entry, there) for entry in file.attributes["shards"]]
            if len({shard.path for shard in shards if shard}) != len(shards) or not all(shards):
                return None
            if file.attributes["identity"] != identity:
                return None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise reader.damaged("it does not say of which shards it is") from None
        known = [shard for shard in shards if shard]
        if len({(shard.shape, shard.patch_shape) for shard in known}) > 1:
            raise reader.damaged("its shards have several shapes")
        if not all(_is_there(shard) for shard in known):
            return None
        n = sum(shard.num_videos for shard in known)
        order, same = reader.numbers("order", np.int64, n), reader.numbers("same", np.int64)
        seen = np.zeros(n, bool)
        if n and not 0 <= int(order.min()) <= int(order.max()) < n:
            raise reader.damaged("its order names rows that do not exist")
        seen[order] = True
        if not seen.all():
            raise reader.damaged("its order does not name every row once")
        if len(same) and not (same[0] >= 0 and same[-1] < n - 1 and (np.diff(same) > 0).all()):
            raise reader.damaged("its repeated ids are at no place")
        return StoredIndex(known, Table(n, reader.makers(n)), order, same)


def _shard(entry: Any, there: Mapping[str, Path]) -> Shard | None:
    name, size, digest, rows, precision, shape, patch_shape = entry
    if name not in there:
        return None
    sides = [size, rows, *shape, *(patch_shape or [])]
    if not all(type(side) is int and side >= 0 for side in sides) or len(shape) != 3:
        raise ValueError("a shard of another form")
    if patch_shape is not None and len(patch_shape) != 2:
        raise ValueError("a shard of another form")
    patches = None if patch_shape is None else (patch_shape[0], patch_shape[1])
    return Shard(
        there[name],
        rows,
        str(precision),
        (shape[0], shape[1], shape[2]),
        patches,
        size,
        bytes.fromhex(digest),
        indexed=True,
    )


def _is_there(shard: Shard) -> bool:
    return header_digest(shard.path) == (shard.size, shard.digest)


class _Reader:
    """The columns of an open index, in mapped memory, compared with their checksums when they are asked for."""

    def __init__(self, file: OpenFile) -> None:
        self._path, self._contents = file.path, file.contents
        # The mapping outlives the open file.
        self._map = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ)

    def damaged(self, reason: str) -> CacheError:
        return CacheError(
            f"{self._path} is damaged ({reason}). Delete it: the shards have all that it says, and `vidclip compact` writes "
            "it again."
        )

    def numbers(self, name: str, dtype: type[np.generic], n: int | None = None) -> np.ndarray:
        column = self._contents.columns.get(name)
        if column is None or column.dtype != np.dtype(dtype) or len(column.shape) != 1:
            raise self.damaged(f"it has no column {name!r} of the right form")
        if n is not None and column.shape[0] != n:
            raise self.damaged(f"its column {name!r} has {column.shape[0]} rows, expected {n}")
        data = memoryview(self._map)[column.offset : column.offset + column.nbytes]
        found = np.array(list(checksums_of(data, self._contents.block_bytes)), np.uint32)
        if column.checksums is None or not np.array_equal(found, column.checksums):
            raise self.damaged(f"its column {name!r} does not fit its checksums")
        return np.frombuffer(data, column.dtype)

    def text(self, name: str, n: int | None = None) -> TextColumn:
        if n is not None and name in OPTIONAL_COLUMNS and f"{name}/bytes" not in self._contents.columns:
            return no_texts(n)  # written before there was such a column
        data = self.numbers(f"{name}/bytes", np.uint8)
        offsets = self.numbers(f"{name}/offsets", np.int64, None if n is None else n + 1)
        try:
            return TextColumn(data, offsets)
        except ValueError as error:
            raise self.damaged(f"column {name!r}: {error}") from None

    def coded(self, name: str, n: int) -> CodedColumn[Any]:
        values: list[Any] = list(self.text(f"{name}/values"))
        if name == "labels":
            counts = self.numbers("labels/counts", np.int64)
            ends = np.cumsum(counts)
            if (counts < 0).any() or (int(ends[-1]) if len(ends) else 0) != len(values):
                raise self.damaged("its labels do not fit their counts")
            values = [
                tuple(values[end - count : end])
                for end, count in zip(ends.tolist(), counts.tolist(), strict=True)
            ]
        if len(set(values)) != len(values):
            raise self.damaged(f"a value of its column {name!r} stands twice")
        try:
            return CodedColumn(values, self.numbers(f"{name}/codes", np.int32, n))
        except ValueError as error:
            raise self.damaged(f"column {name!r}: {error}") from None

    def makers(self, n: int) -> dict[str, Any]:
        """Return how each column of a table is had."""
        return {
            **{name: (lambda name=name: self.text(name, n)) for name in TEXTS},
            **{name: (lambda name=name: self.coded(name, n)) for name in (*CODED, "labels")},
            **{
                name: (lambda name=name: self.numbers(name, NUMBER_COLUMNS[name], n))
                for name in DETAIL_NUMBERS
            },
        }
