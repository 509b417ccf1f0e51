"""Data sets with three ways to split them into train and test (UCF101, HMDB51): all three in one list.

A video says where it stands in each: ``train1 test2 train3``. One extraction then serves all three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..video_list import DatasetError
from .matching import Listed


def gathered(rows: Iterable[tuple[Listed, int, str]]) -> list[Listed]:
    """One row for each video, of the rows of all lists.

    rows    a row of a list, the number of the list's split, and what the video is there: train, test, or
            empty for neither
    Raises DatasetError for a video that one split has twice.
    """
    by_path: dict[str, Listed] = {}
    places: dict[str, dict[int, tuple[str, str]]] = {}
    for row, number, part in rows:
        by_path.setdefault(row.published, row)
        mine = places.setdefault(row.published, {})
        if number in mine:
            raise DatasetError(
                f"{row.where} has the video {row.published!r} a second time in split {number} (first: "
                f"{mine[number][1]}): use the lists as published."
            )
        mine[number] = (part, row.where)
    for path, row in by_path.items():
        row.split = " ".join(f"{part}{number}" for number, (part, _) in sorted(places[path].items()) if part)
    return list(by_path.values())


def part_in(row: Listed, number: str) -> str:
    """``train``, ``test`` or empty: what a video is in the split of this number."""
    words = (re.fullmatch(r"([a-z]+)([0-9]+)", word) for word in row.split.split())
    return next((word[1] for word in words if word and word[2] == number), "")
