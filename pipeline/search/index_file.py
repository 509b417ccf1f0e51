"""The kept index of a cache, `search-videos.index` or `search-frames.index`: inverted lists that are read one by one.

    0      64 bytes    magic, version, offset and length of the tail, SHA-256 of the tail
    64     vectors     [n, D] float16, L2-normalized, those of a list together
    ...    members     [n] int32: the position in the cache of the video that each vector is of
    ...    tail        JSON: key, kind, n, D, probes, recall, CRC-32 of each list; centers [L, D] and borders [L + 1]

Whatever a file says is checked where it is used: sizes against the file, each list against its checksum, each member
against the cache. No parser of another library reads it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import SearchError

HEAD = struct.Struct("<8sIQQ32s4x")
"""Magic, version, offset of the tail, its bytes, SHA-256 of the tail."""
MAGIC, VERSION = b"vidclip?", 1
_MOST_TAIL = 2**28


@dataclass(frozen=True)
class IndexFacts:
    """What an index is of, and how it is to be searched."""

    key: str
    """Digest of the features that it was built from, and of how."""
    kind: str
    """`videos`: of mean embeddings; `frames`: of all frames."""
    n_vectors: int
    dimension: int
    n_videos: int
    probes: int
    """How many lists of a query are read."""
    recall: Mapping[str, float]
    """By kind of query, the share of the exact best ten that it found, on the sample of `n_queries`."""
    n_queries: Mapping[str, int]


def index_path(folder: Path, kind: str) -> Path:
    """Return where the index of a kind is kept."""
    return folder / f"search-{kind}.index"


class IndexFile:
    """An open index; its lists are read when they are asked for, with `read`.

    Raises SearchError where the file is damaged or no index, FileNotFoundError where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._file: BinaryIO = os.fdopen(descriptor, "rb")
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        head = self._file.read(HEAD.size)
        if len(head) < HEAD.size:
            raise self.damaged("it is too short")
        magic, version, offset, length, sha = HEAD.unpack(head)
        if magic != MAGIC or version != VERSION:
            raise self.damaged("it is no index of this version")
        if length > _MOST_TAIL or offset + length != size:
            raise self.damaged("its sizes do not fit")
        tail = os.pread(self._file.fileno(), length, offset)
        if hashlib.sha256(tail).digest() != sha:
            raise self.damaged("its checksum is wrong")
        try:
            document = json.loads(tail)
            self.facts = IndexFacts(**document["facts"])
            lists, dimension = int(document["lists"]), int(self.facts.dimension)
            self.centers = _array(document["centers"], "<f4").reshape(lists, dimension)
            self.borders = _array(document["borders"], "<i8").reshape(lists + 1)
            self._checksums = _array(document["crc32"], "<u4").reshape(lists)
            n = int(self.facts.n_vectors)
            probes = int(self.facts.probes)
        except (KeyError, ValueError, TypeError, RecursionError):
            raise self.damaged("its tail cannot be read") from None
        self._members_at = HEAD.size + 2 * n * dimension
        fits = offset == self._members_at + 4 * n and self.borders[0] == 0 and self.borders[-1] == n
        if not fits or (np.diff(self.borders) < 0).any() or not 1 <= probes <= lists:
            raise self.damaged("its lists do not fit")

    def close(self) -> None:
        self._file.close()

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (vectors [m, D] float16, members [m] int32) of a list. Raises SearchError where it is damaged."""
        first, last = int(self.borders[number]), int(self.borders[number + 1])
        row = 2 * self.facts.dimension
        raw = os.pread(self._file.fileno(), (last - first) * row, HEAD.size + first * row)
        own = os.pread(self._file.fileno(), (last - first) * 4, self._members_at + 4 * first)
        if len(raw) != (last - first) * row or zlib.crc32(own, zlib.crc32(raw)) != self._checksums[number]:
            raise self.damaged("the checksum of a list is wrong")
        members = np.frombuffer(own, "<i4")
        if len(members) and not 0 <= members.min() <= members.max() < self.facts.n_videos:
            raise self.damaged("it names videos that are not there")
        return np.frombuffer(raw, "<f2").reshape(-1, self.facts.dimension), members

    def damaged(self, reason: str) -> SearchError:
        return SearchError(
            f"{self.path} is damaged ({reason}): delete it, and the next search builds it anew."
        )


class IndexWriter:
    """Writes the vectors of an index where they belong, in any order; `finish` closes it.

    file       open for reading and writing, empty
    borders    [L + 1] int64: list l has the rows borders[l] to borders[l + 1]
    """

    def __init__(self, file: BinaryIO, borders: np.ndarray, dimension: int) -> None:
        self._descriptor = file.fileno()
        self._borders, self._dimension = borders, dimension
        self._members_at = HEAD.size + 2 * int(borders[-1]) * dimension

    def put(self, rows: np.ndarray, vectors: np.ndarray, members: np.ndarray) -> None:
        """Write vectors [m, D] and their members [m] to the rows [m]."""
        order = np.argsort(rows)
        rows = rows[order]
        vectors, members = np.ascontiguousarray(vectors[order], "<f2"), members[order].astype("<i4")
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(rows) != 1) + 1, [len(rows)]])
        for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            row = int(rows[first])
            self._write(vectors[first:last], HEAD.size + 2 * row * self._dimension)
            self._write(members[first:last], self._members_at + 4 * row)

    def _write(self, array: np.ndarray, offset: int) -> None:
        data = memoryview(np.ascontiguousarray(array).tobytes())
        while len(data):
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written

    def rows(self, number: int) -> tuple[bytes, bytes]:
        """Return the bytes of a list as they stand: vectors, members."""
        first, last = int(self._borders[number]), int(self._borders[number + 1])
        row = 2 * self._dimension
        return (
            os.pread(self._descriptor, (last - first) * row, HEAD.size + first * row),
            os.pread(self._descriptor, (last - first) * 4, self._members_at + 4 * first),
        )

    def finish(self, facts: IndexFacts, centers: np.ndarray) -> None:
        checksums = []
        for number in range(len(centers)):
            raw, own = self.rows(number)
            checksums.append(zlib.crc32(own, zlib.crc32(raw)))
        tail = json.dumps(
            {
                "facts": asdict(facts),
                "lists": len(centers),
                "centers": _text(centers.astype("<f4")),
                "borders": _text(self._borders.astype("<i8")),
                "crc32": _text(np.array(checksums, "<u4")),
            }
        ).encode()
        offset = self._members_at + 4 * int(self._borders[-1])
        os.ftruncate(self._descriptor, offset)
        self._write(np.frombuffer(tail, np.uint8), offset)
        head = HEAD.pack(MAGIC, VERSION, offset, len(tail), hashlib.sha256(tail).digest())
        self._write(np.frombuffer(head, np.uint8), 0)


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _array(text: Any, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)
