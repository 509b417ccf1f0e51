"""A CSV list of videos: a header, and a row for each video."""

from __future__ import annotations

import os
from pathlib import Path

from ..video import RemotePath, is_remote, missing_package, public_address
from .ids import check_segment, id_below, seconds, segment_id
from .text_files import csv_rows
from .video_list import DatasetError, Video, plural, preview

COLUMNS = ("path", "label", "labels", "split", "start", "end")
HEADER = "path,label,split"
LABEL_SEPARATOR = ";"
"""Between the labels in a cell of the column ``labels``."""


def read_csv_list(path: Path, base: str) -> list[Video]:
    """Return the videos of a CSV list (see `read_videos`)."""
    rows = csv_rows(path)
    if not rows:
        raise DatasetError(f"{path} is empty: write the header {HEADER} and a row for each video.")
    position, n_columns = _columns(path, rows[0][1])
    rows = rows[1:]

    def cell(row: list[str], name: str) -> str:
        at = position.get(name, len(row))
        return row[at].strip() if at < len(row) else ""

    wide = [f"row {number} ({len(row)} cells)" for number, row in rows if len(row) > n_columns]
    if wide:
        raise DatasetError(
            f"{path} has {plural(n_columns, 'column')}, but rows with more cells: {preview(wide)}. "
            f"Put quotation marks around values that hold a comma."
        )
    blank = [f"row {number}" for number, row in rows if not cell(row, "path")]
    if blank:
        raise DatasetError(f"{path} has rows without a path: {preview(blank)}. Fill them in, or remove them.")
    if not rows:
        raise DatasetError(f"{path} lists no video: below the header, each row is one video.")
    videos = []
    for number, row in rows:
        given = cell(row, "path")
        origin = f"{path}, row {number}"
        start, end = (
            seconds(cell(row, name), name, origin) if cell(row, name) else None for name in ("start", "end")
        )
        check_segment(start, end, origin)
        several = "labels" in position
        labels = cell(row, "labels").split(LABEL_SEPARATOR) if several else [cell(row, "label")]
        remote = is_remote(given)
        if remote and (package := missing_package(given)):
            raise DatasetError(
                f"{origin} is an address, and {package} is not installed: pip install 'vidclip[remote]'."
            )
        videos.append(
            Video(
                id=segment_id(public_address(given) if remote else id_below(base, given), start, end),
                path=RemotePath(given) if remote else Path(os.path.join(base, given)),
                labels=tuple(dict.fromkeys(label for part in labels if (label := part.strip()))),
                split=cell(row, "split"),
                origin=origin,
                start_seconds=start,
                end_seconds=end,
            )
        )
    return videos


def _columns(path: Path, header: list[str]) -> tuple[dict[str, int], int]:
    """Return where each column is, and how many there are."""
    columns = [name.strip().lower() for name in header]
    if "path" not in columns:
        separator = next((s for s in ";\t" if len(header) == 1 and s in header[0]), None)
        hint = f" Its cells seem to be separated by {separator!r}: use commas." if separator else ""
        raise DatasetError(
            f"{path}, row 1 has no column 'path', only {', '.join(map(repr, header))}.{hint} "
            f"The first row must be the header {HEADER} (label and split may be absent)."
        )
    repeated = [name for name in COLUMNS if columns.count(name) > 1]
    if repeated:
        raise DatasetError(f"{path}, row 1 has the column {repeated[0]!r} twice: keep one of them.")
    if {"label", "labels"} <= set(columns):
        raise DatasetError(
            f"{path}, row 1 has a column 'label' and a column 'labels': keep label where each video has one, "
            f"labels (with {LABEL_SEPARATOR} between them) where some have several."
        )
    return {name: columns.index(name) for name in COLUMNS if name in columns}, len(columns)
