"""Which rows of a cache's shards count: of several rows of one video the last reading, and none that was removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .columns import Finder
from .errors import CacheError
from .failures import Failure
from .labels import ListFacts
from .layout import facts_of
from .removed import Removed
from .rows import StoredRows
from .table import Videos


def counted_rows(
    rows: StoredRows,
    failures: Mapping[str, Failure],
    removals: Mapping[str, Removed],
    facts: Mapping[str, ListFacts],
) -> tuple[np.ndarray, int]:
    """Return the rows that count, one for each video in the order of the ids, and how many do not count because their
    videos have been read again since.

    facts    labels and splits that stand before those of the rows
    Raises CacheError for rows of one video and generation that differ.
    """
    floors = {id: failure.generation for id, failure in failures.items() if failure.generation}
    for id, removed in removals.items():
        floors[id] = max(floors.get(id, 0), removed.generation)
    order = rows.order
    if not len(order) or not (len(rows.same) or floors):
        return order, 0
    begins = np.ones(len(order), bool)
    begins[rows.same + 1] = False
    first, group = np.flatnonzero(begins), np.cumsum(begins) - 1  # of each id; the id of each place
    generation = rows.table["generation"][order]
    newest = np.maximum.reduceat(generation, first)
    removed = np.zeros(len(first), bool)
    find = Finder(rows.table.ids.take(order[first]))
    for id, floor in floors.items():
        if (place := find(id)) >= 0:
            newest[place] = max(newest[place], floor)
            removed[place] = id in removals
    counts = generation == newest[group]
    replaced = int((~counts & ~removed[group]).sum())
    order, group = order[counts], group[counts]
    again = np.zeros(len(order), bool)
    again[1:] = group[1:] == group[:-1]
    if again.any():
        kept = order[~again]
        same_as = np.cumsum(~again) - 1
        _check_copies(rows, np.stack([kept[same_as[again]], order[again]], axis=1), facts)
        order = kept
    return order, replaced


def _check_copies(rows: StoredRows, pairs: np.ndarray, facts: Mapping[str, ListFacts]) -> None:
    """Raise CacheError unless the rows of each pair [n, 2], which share an id, share their content."""
    for start in range(0, len(pairs), 256):
        piece = pairs[start : start + 256].T
        one, other = (
            [
                facts_of(replace(video, **facts[video.id]._asdict()) if video.id in facts else video)
                for video in Videos(rows.table, own)
            ]
            for own in piece
        )
        same = np.array([a == b for a, b in zip(one, other, strict=True)])
        for name, dtype in (
            ("frames", np.float16),
            ("frame_indices", np.int64),
            ("timestamps", np.float64),
            *([("patches", np.float16)] if rows.patch_shape else []),
        ):
            left, right = (rows.read(name, own, dtype).view(np.uint8) for own in piece)
            same &= (left == right).reshape(len(same), -1).all(axis=1)
        for place in np.flatnonzero(~same)[:1]:
            first, second = (rows.shard_of(int(own[place])).path.name for own in piece)
            where = f"in {first} and {second}" if first != second else f"both times in {first}"
            raise CacheError(
                f"{rows.folder} holds the video {one[place].id!r} twice, with different content, {where}. Delete one "
                "of the files and run `vidclip extract` again, which encodes what is missing then."
            )
