"""What a cache knows of every row of its shards, as columns in storage order: shard after shard, row after row."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from .columns import CodedColumn, Rows, TextColumn, joined_codes, joined_texts
from .hdf5 import Columns
from .layout import DETAIL_NUMBERS, NUMBER_COLUMNS, OPTIONAL_COLUMNS, VideoInfo

TEXTS = ("id", "path", "source_digest")
"""Texts that differ from row to row."""
CODED = ("split", "decoder", "note", "root")
"""Texts that many rows share."""
COLUMN_NAMES = tuple(field.name for field in fields(VideoInfo))


class Table:
    """The columns of n rows, each made when it is asked for: `id`, `path`, `source_digest` TextColumn; `split`, `decoder`, `note`, `root`
    CodedColumn of str; `labels` CodedColumn of tuples; the numbers of `layout.DETAIL_NUMBERS`, arrays [n].
    """

    def __init__(self, n: int, make: Mapping[str, Callable[[], Any]]) -> None:
        self._n, self._make, self._made = n, make, dict[str, Any]()

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, name: str) -> Any:
        """Return a column. Raises CacheError where it is read from a damaged file."""
        if name not in self._made:
            self._made[name] = self._make[name]()
        return self._made[name]

    def __getstate__(self) -> dict[str, Any]:
        # What another process gets: the columns themselves, not the mapped file or the shards that they come from.
        return {"_n": self._n, "_make": {}, "_made": {name: self[name] for name in COLUMN_NAMES}}

    @property
    def ids(self) -> TextColumn:
        return self["id"]


def table_of(details: Columns) -> Table:
    """Return the table of a shard, from what `layout.read_details` read of it."""
    n = len(details["id"])
    columns: dict[str, Any] = {name: details.get(name, no_texts(n)) for name in TEXTS}
    for name in CODED:
        absent = CodedColumn([OPTIONAL_COLUMNS.get(name)], np.zeros(n, np.int32))
        columns[name] = CodedColumn.of_texts(details[name]) if name in details else absent
    for name in DETAIL_NUMBERS:
        column = details.get(name)
        columns[name] = (
            np.full(n, OPTIONAL_COLUMNS.get(name), NUMBER_COLUMNS[name]) if column is None else column
        )
    columns["labels"] = _label_sets(details["labels"], details["label_offsets"])
    return Table(n, {name: (lambda column=column: column) for name, column in columns.items()})


def no_texts(n: int) -> TextColumn:
    """Return n empty texts."""
    return TextColumn(np.empty(0, np.uint8), np.zeros(n + 1, np.int64))


def _label_sets(labels: TextColumn, offsets: np.ndarray) -> CodedColumn[tuple[str, ...]]:
    if len(labels) == len(offsets) - 1 and (np.diff(offsets) == 1).all():
        single = CodedColumn.of_texts(labels)
        return CodedColumn([(label,) for label in single.values], single.codes)
    texts = list(labels)
    return CodedColumn.of([tuple(texts[start:stop]) for start, stop in itertools.pairwise(offsets.tolist())])


def joined(tables: Sequence[Table]) -> Table:
    """Return the rows of tables, one table after the other; of one table, itself."""
    if len(tables) == 1:
        return tables[0]

    def make(name: str) -> Any:
        if name in TEXTS:
            return joined_texts([table[name] for table in tables])
        if name in CODED or name == "labels":
            return joined_codes([table[name] for table in tables])
        return np.concatenate(
            [np.empty(0, NUMBER_COLUMNS[name]), *(table[name] for table in tables)],
            dtype=NUMBER_COLUMNS[name],
        )

    return Table(sum(map(len, tables)), {name: (lambda name=name: make(name)) for name in COLUMN_NAMES})


def same_column(one: Any, other: Any) -> bool:
    """Whether two columns of tables are the same, row by row."""
    if isinstance(one, CodedColumn):
        codes = joined_codes([one, other]).codes
        return len(one) == len(other) and np.array_equal(codes[: len(one)], codes[len(one) :])
    if isinstance(one, TextColumn):
        return np.array_equal(one.offsets, other.offsets) and np.array_equal(one.data, other.data)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


class Videos(Rows[VideoInfo]):
    """What is known of videos, made of a table's rows when it is asked for.

    rows      [n] rows of the table
    labels    the labels of each, in the place of the table's; None: the table's
    splits    the split of each, as `labels`
    """

    __slots__ = ("labels", "rows", "splits", "table")

    def __init__(
        self,
        table: Table,
        rows: np.ndarray,
        labels: Rows[tuple[str, ...]] | None = None,
        splits: Rows[str] | None = None,
    ) -> None:
        self.table, self.rows, self.labels, self.splits = table, rows, labels, splits

    def __len__(self) -> int:
        return len(self.rows)

    def chunk(self, rows: np.ndarray) -> list[VideoInfo]:
        own = self.rows[rows]
        columns: list[Sequence[Any]] = []
        for name in COLUMN_NAMES:
            stands = {"labels": self.labels, "split": self.splits}.get(name)
            if stands is not None:
                columns.append(stands.chunk(rows))
            else:
                column = self.table[name]
                columns.append(column[own].tolist() if isinstance(column, np.ndarray) else column.chunk(own))
        return [VideoInfo(*values) for values in zip(*columns, strict=True)]

    def strings(self, name: str) -> list[str]:
        """Return one column of texts, such as `path`, of all videos."""
        return self.table[name].take(self.rows).chunk(np.arange(len(self)))
