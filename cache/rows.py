"""The rows of all shards of a cache, in storage order, and reading their features."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .columns import TextColumn, text_order
from .errors import CacheError
from .hdf5 import Contents
from .index import INDEX_FILE, StoredIndex, open_index, write_index
from .layout import FRAMES_FORMAT, read_columns, read_details
from .open_file import OpenFile, describe_all, sound
from .shards import WORTH_THREADS, Shard, copy_rows, gone, processors, shard_paths
from .table import COLUMN_NAMES, Table, joined, same_column, table_of


class StoredRows:
    """All rows of the shards of a folder, those that do not count too: row by row of shard after shard.

    It does not change: `refreshed` returns another.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self._identity = folder, identity
        self.shards: list[Shard] = []
        self.table: Table = joined([])
        self.order = np.empty(0, np.int64)
        """The rows in ascending order of their ids, those of one id in their own."""
        self.same = np.empty(0, np.int64)
        """Places in `order` whose id is that of the next place."""
        self._starts = np.zeros(1, np.int64)
        self._sound: set[Path] = set()  # shards that have been compared with their digest, or with the index

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(V, T, D) of all features; None where there is no shard."""
        return self.shards[0].shape if self.shards else None

    @property
    def patch_shape(self) -> tuple[int, int] | None:
        return self.shards[0].patch_shape if self.shards else None

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's features and times."""
        views, times, dimensions = self.shape or (0, 0, 0)
        patches, width = self.patch_shape or (0, 0)
        return views * (times * (2 * dimensions + 16) + 2 * patches * width)

    def refreshed(self) -> StoredRows:
        """Return the rows that are there now. Raises CacheError."""
        paths = shard_paths(self.folder)
        known = {shard.path for shard in self.shards}
        fresh = StoredRows(self.folder, self._identity)
        if known and known <= set(paths):
            fresh._sound = self._sound
            fresh._take(self.shards, self.table, self.order, self.same)
        elif (index := open_index(self.folder, self._identity, paths)) is not None:
            fresh = self.of_index(self.folder, self._identity, index)
        known = {shard.path for shard in fresh.shards}
        fresh._add([path for path in paths if path not in known])
        return fresh

    @classmethod
    def of_index(cls, folder: Path, identity: str, index: StoredIndex) -> StoredRows:
        """Return the rows that an index has, without the shards that it does not name."""
        rows = cls(folder, identity)
        rows._take(index.shards, index.table, index.order, index.same)
        return rows

    def shard_of(self, row: int) -> Shard:
        return self.shards[int(np.searchsorted(self._starts, row, "right")) - 1]

    def rows_of(self, number: int) -> slice:
        """Return the rows of a shard, by its place in `shards`."""
        return slice(int(self._starts[number]), int(self._starts[number + 1]))

    def read(self, name: str, rows: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
        """Return a column with features of some rows, in that order. Raises CacheError."""
        shape = self.shape or (0, 0, 0)
        dimensions: tuple[int, ...] = shape if name == "frames" else shape[:2]
        if name == "patches" and self.patch_shape:
            dimensions = (shape[0], *self.patch_shape)
        out = np.empty((len(rows), *dimensions), dtype)
        if not len(rows):
            return out
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        # Rows of one shard stand together here: what follows takes each shard's, not all for each shard.
        by_shard = np.argsort(numbers, kind="stable")
        used, firsts = np.unique(numbers[by_shard], return_index=True)
        threads = min(4, processors()) if out.nbytes >= WORTH_THREADS else 1
        with ThreadPoolExecutor(threads) as pool:
            for number, targets in zip(used.tolist(), np.split(by_shard, firsts[1:]), strict=True):
                shard = self.shards[number]
                with self._open(number) as file:
                    column = file.numbers(name, dtype, (shard.num_videos, *dimensions))
                    source = rows[targets] - self._starts[number]
                    copy_rows(file, column, source, out, targets, pool if threads > 1 else None)
        return out

    def store_index(self) -> bool:
        """Write the index of the shards; return whether it has all of them (none of version 1). Raises OSError."""
        if not all(shard.digest for shard in self.shards):
            return False
        if not self.shards:
            (self.folder / INDEX_FILE).unlink(missing_ok=True)
        elif not all(shard.indexed for shard in self.shards):
            write_index(self.folder, self._identity, self.shards, self.table, self.order, self.same)
        return True

    def _open(self, number: int) -> OpenFile:
        """Open a shard that agrees with what is known of its rows."""
        shard = self.shards[number]
        contents = shard.contents
        try:
            file = OpenFile(shard.path, FRAMES_FORMAT, contents)
        except CacheError:
            if not shard.path.exists():
                raise gone(shard.path) from None
            raise
        if shard.path in self._sound:
            return file
        try:
            if contents.version == 1:
                read_columns(file)  # there are no checksums of parts
            elif shard.indexed:
                check_ids(file, self.table.ids, self.rows_of(number))
        except BaseException:
            file.__exit__()
            raise
        self._sound.add(shard.path)
        return file

    def _take(self, shards: Sequence[Shard], table: Table, order: np.ndarray, same: np.ndarray) -> None:
        self.shards, self.table, self.order, self.same = list(shards), table, order, same
        self._starts = np.cumsum([0, *(shard.num_videos for shard in shards)], dtype=np.int64)

    def differs_from_shards(self) -> str:
        """Return what the table says otherwise than the shards that it is of; empty where nothing. Raises CacheError."""
        truth = StoredRows(self.folder, self._identity)
        truth._add([shard.path for shard in self.shards])
        for mine, own in zip(self.shards, truth.shards, strict=True):
            if (mine.num_videos, mine.precision, mine.shape, mine.patch_shape) != (
                *(own.num_videos, own.precision, own.shape, own.patch_shape),
            ):
                return f"the form of {own.path.name}"
        for name in COLUMN_NAMES:
            if not same_column(self.table[name], truth.table[name]):
                return f"the column {name!r}"
        if not np.array_equal(self.order, truth.order) or not np.array_equal(self.same, truth.same):
            return "the order of the ids"
        return ""

    def _add(self, paths: Sequence[Path]) -> None:
        if not paths:
            return
        shards, tables = list(self.shards), [self.table] if self.shards else []
        for path, found in describe_all(paths).items():
            shard, table = _read_shard(path, sound(found), self._identity, shards[0] if shards else None)
            shards.append(shard)
            tables.append(table)
        table = joined(tables)
        self._take(shards, table, *text_order(table.ids))


def _read_shard(path: Path, contents: Contents, identity: str, first: Shard | None) -> tuple[Shard, Table]:
    """Return a shard and its rows; `first` is another of the cache. Raises CacheError."""
    with OpenFile(path, FRAMES_FORMAT, contents) as file:
        if file.attributes.get("identity") != identity:
            raise CacheError(
                f"{path} holds features of another encoder or sampling than cache.json says. "
                "Move it into a cache of its own, or delete it and extract again."
            )
        frames = file.numbers("frames", np.float16, (None, None, None, None))
        if first is not None and frames.shape[1:] != first.shape:
            raise file.damaged(f"its features are {frames.shape[1:]}, elsewhere {first.shape}")
        patches = None
        if file.has("patches"):
            patches = file.numbers("patches", np.float16, (*frames.shape[:2], None, None)).shape[2:]
        if first is not None and patches != first.patch_shape:
            raise file.damaged(f"its patch tokens are {patches}, elsewhere {first.patch_shape}")
        table = table_of(read_details(file, frames.shape[0]))
        shard = Shard(
            path,
            frames.shape[0],
            str(file.attributes.get("precision", "")),
            (frames.shape[1], frames.shape[2], frames.shape[3]),
            None if patches is None else (patches[0], patches[1]),
            file.size,
            contents.stamp[-32:] if contents.version > 1 else b"",
            contents=contents,
        )
    return shard, table


def check_ids(file: OpenFile, ids: TextColumn, rows: slice) -> None:
    """Raise CacheError unless a shard holds the videos that the index says, row by row."""
    own = file.read_text("id", rows.stop - rows.start)
    offsets = ids.offsets[rows.start : rows.stop + 1]
    if not np.array_equal(own.offsets, offsets - offsets[0]) or not np.array_equal(
        own.data, ids.data[offsets[0] : offsets[-1]]
    ):
        path = file.path.parent / INDEX_FILE
        raise CacheError(
            f"{path} says of {file.path.name} that it holds other videos than it does. Delete {path}: the shards have all "
            "that it says, and `vidclip compact` writes it again."
        )
