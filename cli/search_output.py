"""What a search has found: a table for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .files import write_text
from .output import console, count, printable, table

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..pipeline.search import Query, Result

CSV_HEADER = (
    "query", "rank", "score", "video", "path", "labels", "start_seconds", "end_seconds", "start", "end", "share",
)  # fmt: skip
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def time_stamp(seconds: float) -> str:
    """Return `0:01:02.500`, hours to milliseconds, as players and ffmpeg read it."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{milliseconds / 1000:06.3f}"


def result_row(cache: FeatureCache, result: Result) -> dict[str, Any]:
    """Return a result in plain numbers and words, for JSON.

    Its path is where the file was when it was read; its times are those of the moment, or of the segment that the video
    is, null where it is all of the file or has no times.
    """
    from ..pipeline.datasets import segment_of

    info = cache.videos[result.video]
    moment = result.moment
    start, end = (moment.start_seconds, moment.end_seconds) if moment else segment_of(info.id, info.path)
    row = {
        "video": info.id,
        "path": info.path,
        "labels": list(info.labels),
        "score": result.score,
        "start_seconds": start,
        "end_seconds": end,
    }
    if moment:
        row |= {"frames": list(moment.frames)}
        row |= {} if moment.share is None else {"share": moment.share}
    return row


def found_document(
    cache: FeatureCache, queries: Sequence[Query], found: Sequence[Sequence[Result]], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return what `--json` writes."""
    return {
        "settings": settings,
        "queries": [
            {
                "query": query.name,
                "kind": query.kind,
                "results": [result_row(cache, result) for result in results],
            }
            for query, results in zip(queries, found, strict=True)
        ],
    }


def print_found(document: dict[str, Any]) -> None:
    """Print a table for each query."""
    for query in document["queries"]:
        results = query["results"]
        moments = any("frames" in row for row in results)
        names = ["video", *(["from", "to"] if moments else []), "score"]
        rows = []
        for row in results:
            times = [_shown(row["start_seconds"]), _shown(row["end_seconds"])] if moments else []
            rows.append([row["video"], *times, f"{row['score']:.3f}"])
        title = f"{query['query']}: {count(len(rows), 'moment' if moments else 'video')}"
        console().print(table(printable(title), names, rows))


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else time_stamp(seconds)


def found_csv(document: dict[str, Any]) -> str:
    """Return what `--csv` writes: a row for each result, in the order of the queries.

    Spreadsheets take a cell that begins with one of = + - @ for a formula: such a name gets an apostrophe before it.
    """
    lines = []
    for query in document["queries"]:
        for rank, row in enumerate(query["results"], 1):
            start, end = row["start_seconds"], row["end_seconds"]
            lines.append(
                [
                    query["query"],
                    rank,
                    f"{row['score']:.6f}",
                    row["video"],
                    row["path"],
                    ";".join(row["labels"]),
                    "" if start is None else f"{start:.3f}",
                    "" if end is None else f"{end:.3f}",
                    _shown(start),
                    _shown(end),
                    f"{row['share']:.6f}" if "share" in row else "",
                ]
            )
    return csv_text(CSV_HEADER, lines)


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as CSV in UTF-8: names are not formulas, and bytes that are no UTF-8 are spelled out."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(header)
    numbers = {
        i
        for i, name in enumerate(header)
        if name in ("group", "rank", "score", "share") or "start" in name or "end" in name
    }
    for row in rows:
        writer.writerow([cell if i in numbers else _plain(str(cell)) for i, cell in enumerate(row)])
    return made.getvalue()


def _plain(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return f"'{text}" if text.startswith(_FORMULAS) else text


def write_csv(path: Path, text: str) -> None:
    """Write to a file, whole or not at all; or to standard output for `-`."""
    if str(path) == "-":
        click.echo(text, nl=False)
    else:
        write_text(path, text)
