"""The kept index of a cache, `search-videos.index` or `search-frames.index`: its vectors in few bytes, read block by block.

    0      64 bytes    magic, version, offset and length of the tail, SHA-256 of the tail
    64     codes       [N, E, d] int8: E vectors of each video, in the order of the cache, in d principal components
    ...    tail        JSON: facts, CRC-32 of each block of codes, projection [D, d], background [D]

Whatever a file says is checked where it is used: sizes against the file, each block against its checksum. No parser of
another library reads it. docs/cache.md is the format.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import SearchError

HEAD = struct.Struct("<8sIQQ32s4x")
"""Magic, version, offset of the tail, its bytes, SHA-256 of the tail."""
MAGIC, VERSION = b"vidclip?", 2
BLOCK_BYTES = 1 << 21
"""Bytes of a block of codes, about."""
_MOST_TAIL = 2**28


@dataclass(frozen=True)
class IndexFacts:
    """What an index is of, and how it is to be searched."""

    key: str
    """Digest of the features that it was built from, and of how."""
    kind: str
    """`videos`: of mean embeddings; `frames`: of all frames."""
    n_videos: int
    per_video: int
    """Vectors of a video, E."""
    dimension: int
    components: int
    """Numbers that are kept of a vector, a byte each: d."""
    depth: int
    """How many videos of a query are compared exactly, for ten results."""
    recall: Mapping[str, float]
    """By kind of query, the share of the exact best ten that it found, on the sample of `n_queries`."""
    n_queries: Mapping[str, int]

    @property
    def n_vectors(self) -> int:
        return self.n_videos * self.per_video

    @property
    def block_videos(self) -> int:
        return max(1, BLOCK_BYTES // (self.per_video * self.components))

    @property
    def n_blocks(self) -> int:
        return -(-self.n_videos // self.block_videos)


class StaleIndex(SearchError):
    """An index of features that have changed since, or of another version of this program: to be built anew."""


def index_path(folder: Path, kind: str) -> Path:
    """Return where the index of a kind is kept."""
    return folder / f"search-{kind}.index"


class IndexFile:
    """An open index; its codes are read when they are asked for, with `blocks`.

    Raises SearchError where the file is damaged or no index, StaleIndex where it is of another version, FileNotFoundError
    where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._file: BinaryIO = os.fdopen(descriptor, "rb", buffering=0)
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
        if magic != MAGIC:
            raise self.damaged("it does not begin like an index")
        if version != VERSION:
            raise StaleIndex(f"{self.path} is of another version of vidclip: build it anew.")
        if length > _MOST_TAIL or offset + length != size:
            raise self.damaged("its sizes do not fit")
        tail = os.pread(self._file.fileno(), length, offset)
        if hashlib.sha256(tail).digest() != sha:
            raise self.damaged("its checksum is wrong")
        try:
            document = json.loads(tail)
            self.facts = facts = IndexFacts(**document["facts"])
            counts = (facts.n_videos, facts.per_video, facts.dimension, facts.components, facts.depth)
            fits = all(isinstance(count, int) and 0 < count < 2**40 for count in counts)
            fits = fits and offset == HEAD.size + facts.n_vectors * facts.components
            if fits:
                self.projection = _array(document["projection"], "<f4").reshape(facts.dimension, -1)
                self.background = _array(document["background"], "<f4").reshape(facts.dimension)
                self._checksums = _array(document["crc32"], "<u4").reshape(facts.n_blocks)
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            raise self.damaged("its tail cannot be read") from None
        if not fits or self.projection.shape[1] != facts.components:
            raise self.damaged("its sizes do not fit")

    def close(self) -> None:
        self._file.close()

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (position of the first video, codes [n, E, d] int8). Raises SearchError where a block is damaged."""
        facts = self.facts
        row = facts.per_video * facts.components
        for number in range(facts.n_blocks):
            first = number * facts.block_videos
            n = min(facts.block_videos, facts.n_videos - first)
            raw = os.pread(self._file.fileno(), n * row, HEAD.size + first * row)
            if len(raw) != n * row or zlib.crc32(raw) != self._checksums[number]:
                raise self.damaged("the checksum of a block is wrong")
            yield first, np.frombuffer(raw, np.int8).reshape(n, facts.per_video, facts.components)

    def damaged(self, reason: str) -> SearchError:
        return SearchError(
            f"{self.path} is damaged ({reason}): delete it, and the next search builds it anew."
        )


class IndexWriter:
    """Writes an index to a file that is open for reading and writing, and empty: codes in any order, then `finish`.

    facts    what the codes are of
    """

    def __init__(self, file: BinaryIO, facts: IndexFacts) -> None:
        self._descriptor, self._facts = file.fileno(), facts
        self._row = facts.per_video * facts.components

    def put(self, videos: np.ndarray, codes: np.ndarray) -> None:
        """Write the codes [n, E, d] int8 of videos [n], their positions in the cache; those that follow each other in both
        are written together."""
        cuts = [0, *(np.flatnonzero(np.diff(videos) != 1) + 1).tolist(), len(videos)]
        for first, last in itertools.pairwise(cuts):
            self._write(codes[first:last].tobytes(), HEAD.size + int(videos[first]) * self._row)

    def finish(self, facts: IndexFacts, projection: np.ndarray, background: np.ndarray) -> None:
        """Write the tail and the head; it may be called again, with other facts of the same codes."""
        size, end = facts.block_videos * self._row, HEAD.size + facts.n_videos * self._row
        checksums = [
            zlib.crc32(os.pread(self._descriptor, min(size, end - start), start))
            for start in range(HEAD.size, end, size)
        ]
        document = {
            "facts": asdict(facts),
            "projection": _text(projection, "<f4"),
            "background": _text(background, "<f4"),
            "crc32": _text(np.array(checksums), "<u4"),
        }
        tail = json.dumps(document).encode()
        os.ftruncate(self._descriptor, end)
        self._write(tail, end)
        self._write(HEAD.pack(MAGIC, VERSION, end, len(tail), hashlib.sha256(tail).digest()), 0)

    def _write(self, data: bytes, offset: int) -> None:
        left = memoryview(data)
        while len(left):
            written = os.pwrite(self._descriptor, left, offset)
            left, offset = left[written:], offset + written


def _text(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def _array(text: Any, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)
