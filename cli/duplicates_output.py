"""Near-duplicates of a cache: a table for people, CSV and JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .output import console, count, printable, table
from .search_output import csv_text

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..pipeline.search import Duplicates

CSV_HEADER = ("group", "score", "by", "video", "path", "other_video", "other_path")


def duplicates_document(
    cache: FeatureCache, pairs: Sequence[Duplicates], by: str, threshold: float, split: str
) -> dict[str, Any]:
    """Return what `--json` writes: the pairs, and the groups that they hold together."""
    from ..pipeline.search import groups_of

    groups = groups_of(pairs)
    group_of = {video: number for number, members in enumerate(groups) for video in members}
    return {
        "settings": {
            "cache": str(cache.folder),
            "features": cache.identity.digest,
            "encoder": cache.identity.encoder_name,
            "by": by,
            "threshold": threshold,
            "split": split,
        },
        "groups": [[cache.ids[video] for video in members] for members in groups],
        "pairs": [
            {
                "group": group_of[pair.first],
                "score": pair.similarity,
                "by": pair.by,
                "videos": [cache.ids[each] for each in (pair.first, pair.second)],
                "paths": [cache.videos[each].path for each in (pair.first, pair.second)],
            }
            for pair in pairs
        ],
    }


def print_duplicates(document: dict[str, Any]) -> None:
    """Print the pairs, the most alike first, and how many groups they make."""
    pairs, groups = document["pairs"], document["groups"]
    if pairs:
        rows = [[*pair["videos"], pair["by"], f"{pair['score']:.3f}"] for pair in pairs]
        console().print(table("", ["video", "shows the same as", "by", "score"], rows, left=3))
    videos = sum(map(len, groups))
    click.echo(
        f"{printable(document['settings']['cache'])}: {count(len(pairs), 'pair')} of near-duplicates, "
        f"{count(videos, 'video')} in {count(len(groups), 'group')}."
    )


def duplicates_csv(document: dict[str, Any]) -> str:
    """Return what `--csv` writes: a row for each pair."""
    rows = []
    for pair in document["pairs"]:
        (first, second), (path, other) = pair["videos"], pair["paths"]
        rows.append([pair["group"], f"{pair['score']:.6f}", pair["by"], first, path, second, other])
    return csv_text(CSV_HEADER, rows)
