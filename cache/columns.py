"""Columns of many rows without an object for each: text as bytes and offsets, repeated values as codes.

Both are sequences: they compare equal to a list of the same values, and make an object of a row when it is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, SupportsIndex, TypeVar, overload

import numpy as np

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)
_CHUNK = 4096
"""Rows that become objects at once when a column is iterated over."""
_SORT_BYTES = 1 << 31
"""Memory up to which texts are sorted as numbers; beyond, one object for each is made."""


def to_bytes(text: str) -> bytes:
    # Names on disk need not be UTF-8; surrogateescape carries their bytes through unchanged.
    return text.encode("utf-8", "surrogateescape")


class Rows(Sequence[T]):
    """Rows that become objects when they are asked for; equal to any list of equal objects."""

    __slots__ = ()

    def chunk(self, rows: np.ndarray) -> list[T]:
        """Return the objects of some rows, positions in 0..n-1."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> T | list[T]:
        if isinstance(index, slice):
            return self.chunk(np.arange(len(self))[index])
        row = int(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"there are {len(self)} rows, and no row {row}")
        return self.chunk(np.array([row % len(self)]))[0]

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), _CHUNK):
            yield from self.chunk(np.arange(start, min(start + _CHUNK, len(self))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple, Rows)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return repr(list(self))


class TextColumn(Rows[str]):
    """n texts in UTF-8, one after the other: text i is ``data[offsets[i]:offsets[i + 1]]``. Bytes that are no UTF-8 (names
    on disk) are kept.

    rows    which of the texts stand here, in which order; None: all
    Raises ValueError for offsets that do not fit the data.
    """

    __slots__ = ("data", "offsets", "rows")

    def __init__(self, data: np.ndarray, offsets: np.ndarray, rows: np.ndarray | None = None) -> None:
        if rows is None and (
            not len(offsets)
            or offsets[0] != 0
            or offsets[-1] != len(data)
            or (offsets[1:] < offsets[:-1]).any()
        ):
            raise ValueError("its offsets do not fit its text")
        self.data, self.offsets, self.rows = data, offsets, rows

    @classmethod
    def of(cls, texts: Sequence[str]) -> TextColumn:
        raw = [to_bytes(text) for text in texts]
        return cls(np.frombuffer(b"".join(raw), np.uint8), np.cumsum([0, *map(len, raw)], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.rows is None else len(self.rows)

    def chunk(self, rows: np.ndarray) -> list[str]:
        rows = rows if self.rows is None else self.rows[rows]
        starts, stops = self.offsets[rows].tolist(), self.offsets[rows + 1].tolist()
        if len(rows) > 1 and bool((np.diff(rows) == 1).all()):
            base = starts[0]
            raw = self.data[base : stops[-1]].tobytes()
            if raw.isascii():
                whole = raw.decode("ascii")
                return [whole[start - base : stop - base] for start, stop in zip(starts, stops, strict=True)]
        return [
            self.data[start:stop].tobytes().decode("utf-8", "surrogateescape")
            for start, stop in zip(starts, stops, strict=True)
        ]

    def take(self, rows: np.ndarray) -> TextColumn:
        """Return the texts of some rows; the bytes are shared."""
        return TextColumn(self.data, self.offsets, rows if self.rows is None else self.rows[rows])

    def find(self, text: str) -> int:
        """Return the position of a text among texts in ascending order, each once; -1 where there is none."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[middle] < text:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self[low] == text else -1


def joined_texts(columns: Sequence[TextColumn]) -> TextColumn:
    """Return the texts of columns that are whole, one column after the other."""
    if len(columns) == 1:
        return columns[0]
    ends = list(itertools.accumulate((len(column.data) for column in columns), initial=0))
    offsets = [np.zeros(1, np.int64)]
    offsets += [column.offsets[1:] + start for column, start in zip(columns, ends[:-1], strict=True)]
    data = [column.data for column in columns]
    return TextColumn(np.concatenate(data) if data else np.empty(0, np.uint8), np.concatenate(offsets))


def text_order(column: TextColumn) -> tuple[np.ndarray, np.ndarray]:
    """Return (order, same): the rows of a whole column in ascending order of their texts, rows of equal texts in their own,
    and the places i in it where the texts of order[i] and order[i + 1] are equal."""
    n = len(column)
    if n < 2:
        return np.arange(n), np.empty(0, np.int64)
    keys = _sort_keys(column)
    if keys is None:
        texts = list(column)
        order = np.array(sorted(range(n), key=texts.__getitem__), np.int64)
        in_order = [texts[row] for row in order.tolist()]
        same = [i for i, (a, b) in enumerate(itertools.pairwise(in_order)) if a == b]
        return order, np.array(same, np.int64)
    if (keys[:-1] <= keys[1:]).all():
        order = np.arange(n)
    else:
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
    return order, np.flatnonzero(keys[:-1] == keys[1:])


def _sort_keys(column: TextColumn) -> np.ndarray | None:
    """Return the texts as numpy's bytes of one width, where these sort and compare as the texts do; else None."""
    n, lengths = len(column), np.diff(column.offsets)
    width = max(1, int(lengths.max()))
    raw = column.data.tobytes()
    # numpy takes zeros at the end for filling; UTF-8 sorts as its text, other bytes do not.
    if n * width > _SORT_BYTES or b"\0" in raw or not _is_utf8(raw, column):
        return None
    keys = np.zeros((n, width), np.uint8)
    for start in range(0, n, _CHUNK):
        stop = min(n, start + _CHUNK)
        filled = np.arange(width) < lengths[start:stop, None]
        keys[start:stop][filled] = column.data[column.offsets[start] : column.offsets[stop]]
    return keys.reshape(-1).view(f"S{width}")


def _is_utf8(raw: bytes, column: TextColumn) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    inside = column.offsets[column.offsets < len(raw)]
    return not ((column.data[inside] & 0xC0) == 0x80).any()  # no text begins amid a character


class CodedColumn(Rows[H], Generic[H]):
    """n values of which many are equal: row i is ``values[codes[i]]``. Raises ValueError for codes without a value."""

    __slots__ = ("codes", "values")

    def __init__(self, values: Sequence[H], codes: np.ndarray) -> None:
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < len(values):
            raise ValueError("its codes do not fit its values")
        self.values, self.codes = values, codes

    @classmethod
    def of(cls, rows: Sequence[H]) -> CodedColumn[H]:
        known: dict[H, int] = {}
        codes = np.array([known.setdefault(row, len(known)) for row in rows], np.int32)
        return cls(list(known), codes)

    @classmethod
    def of_texts(cls, texts: TextColumn) -> CodedColumn[str]:
        """Return a whole column of texts as codes."""
        n, size = len(texts), int(texts.offsets[1]) if len(texts) else 0
        raw = texts.data.tobytes()
        if n and len(raw) == n * size and raw == raw[:size] * n and (np.diff(texts.offsets) == size).all():
            return CodedColumn([texts[0]], np.zeros(n, np.int32))  # as most columns are
        return CodedColumn.of(list(texts))

    def __len__(self) -> int:
        return len(self.codes)

    def chunk(self, rows: np.ndarray) -> list[H]:
        values = self.values
        return [values[code] for code in self.codes[rows].tolist()]

    def take(self, rows: np.ndarray) -> CodedColumn[H]:
        return CodedColumn(self.values, self.codes[rows])

    def used(self, rows: np.ndarray | slice = slice(None)) -> list[H]:
        """Return the different values of some rows, in the order in which they first occur there."""
        codes, first = np.unique(self.codes[rows], return_index=True)
        return [self.values[code] for code in codes[np.argsort(first)].tolist()]

    def where(self, holds: Callable[[H], object]) -> np.ndarray:
        """Return [n] whether something holds of each value; it is asked once for each that occurs."""
        return self.map(lambda value: int(bool(holds(value)))).astype(bool)

    def map(self, value_of: Callable[[H], int]) -> np.ndarray:
        """Return [n] int64 a number for each value; `value_of` is asked once for each that occurs."""
        of_value = np.zeros(len(self.values), np.int64)
        for code in np.unique(self.codes).tolist():
            of_value[code] = value_of(self.values[code])
        return of_value[self.codes]

    def replaced(self, rows: Sequence[int], by: Sequence[H]) -> CodedColumn[H]:
        """Return the column with other values in some rows."""
        known = {value: code for code, value in enumerate(self.values)}
        codes = self.codes.copy()
        codes[list(rows)] = [known.setdefault(value, len(known)) for value in by]
        return CodedColumn(list(known), codes)


def joined_codes(columns: Sequence[CodedColumn[H]]) -> CodedColumn[H]:
    """Return the values of columns, one column after the other."""
    known: dict[H, int] = {}
    parts: list[Any] = [np.empty(0, np.int32)]
    for column in columns:
        new = np.array([known.setdefault(value, len(known)) for value in column.values], np.int32)
        parts.append(new[column.codes] if len(column) else column.codes)
    return CodedColumn(list(known), np.concatenate(parts))


class Finder:
    """Where texts stand in a column that is in ascending order, each text once.

    It looks in the column itself; where many are looked for, it makes a dictionary, whose cost they have by then.
    """

    def __init__(self, column: TextColumn) -> None:
        self._column, self._asked = column, 0
        self._place: dict[str, int] | None = None

    def __call__(self, text: str) -> int:
        """Return the position of a text; -1 where it does not stand there."""
        if self._place is None:
            self._asked += 1
            if self._asked * 16 < len(self._column):
                return self._column.find(text)
            self._place = {each: place for place, each in enumerate(self._column)}
        return self._place.get(text, -1)
