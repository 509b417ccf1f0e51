"""Text, CSV and JSON files that others wrote, with the row of whatever is wrong."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .video_list import DatasetError


def read_bytes(path: Path) -> bytes:
    """Return all of a file, or of a pipe. Raises DatasetError when it cannot be read, or is a device: it has no end."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise DatasetError(f"{path} cannot be read: it is a device.")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_text(path: Path, kind: str = "text") -> str:
    """Return the file's text, UTF-8, without a byte order mark.

    Raises DatasetError when it cannot be read, is not UTF-8, or holds zero bytes.
    """
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}, row {line} is not UTF-8 text: save the file as UTF-8.") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DatasetError(f"{path}, row {line} holds a zero byte: this is not a {kind} file.")
    return text


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers from 1, without white space around them."""
    # Only the line ends of text files count: str.splitlines would also cut at characters inside names.
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def csv_rows(path: Path, *, strict: bool = True) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank, with their numbers as a spreadsheet counts them, from 1.

    strict    Whether a quotation mark in an odd place is an error; free text often has some.
    """
    rows: list[tuple[int, list[str]]] = []
    number = 0
    reader = csv.reader(io.StringIO(read_text(path, "CSV text"), newline=""), strict=strict)
    try:
        for number, row in enumerate(reader, start=1):
            if any(cell.strip() for cell in row):
                rows.append((number, row))
    except csv.Error as error:
        raise DatasetError(
            f"{path}, row {number + 1} is not CSV: {error}. Check its quotation marks."
        ) from error
    return rows


class Table:
    """A CSV file with a header, as data sets publish them; other columns than the needed ones are ignored.

    Raises DatasetError for a header without a needed column, and for rows that do not fit the header.
    """

    def __init__(
        self, path: Path, needed: Sequence[str], *, optional: Sequence[str] = (), strict: bool = True
    ) -> None:
        self.path = path
        rows = csv_rows(path, strict=strict)
        if not rows:
            raise DatasetError(f"{path} is empty: its first row must name the columns {', '.join(needed)}.")
        row, header = rows[0]
        columns = [name.strip().lower() for name in header]
        lacking = [name for name in needed if name not in columns]
        if lacking:
            raise DatasetError(
                f"{path}, row {row} has no column {lacking[0]!r}, only {', '.join(map(repr, header))}. "
                f"The first row must name the columns {', '.join(needed)}, as published."
            )
        self.columns = frozenset(columns)
        self._position = {name: columns.index(name) for name in (*needed, *optional) if name in columns}
        self.rows = rows[1:]
        for number, cells in self.rows:
            if len(cells) != len(columns):
                raise DatasetError(
                    f"{path}, row {number} has {len(cells)} cells where the header names {len(columns)}: "
                    f"put quotation marks around values that hold a comma, or download the file again."
                )

    def where(self, number: int) -> str:
        return f"{self.path}, row {number}"

    def cell(self, row: tuple[int, list[str]], name: str, *, filled: bool = True) -> str:
        """Return a cell without white space around it; empty where there is no such column.

        Raises DatasetError for an empty one, unless it need not be `filled`.
        """
        position = self._position.get(name)
        value = "" if position is None else row[1][position].strip()
        if filled and not value:
            raise DatasetError(f"{self.where(row[0])} has nothing in the column {name!r}: fill it in.")
        return value


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DatasetError, with the line, for what is not JSON."""
    text = read_text(path, "JSON text")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{path}, row {error.lineno} is not JSON: {error.msg}. Download the file again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not JSON that can be read: {error}.") from error
