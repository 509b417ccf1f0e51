"""`vidclip dataset check`: which videos of a public data set are there, before an hour of work starts."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import json_option, vidclip_command
from ..parameters import OutputFile, argument, option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...pipeline.datasets import Video, VideoList


@click.group()
def command() -> None:
    """Looks at a public data set on this disk."""


@vidclip_command(
    name="check",
    epilog="Example:  vidclip dataset check ucf101 --root /data/UCF-101",
    short_help="Which of a data set's videos are there, and which are missing.",
)
@argument("name")
@option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder of its videos, or of their folders of frames, at any depth.",
)
@option(
    "--split",
    help="One split alone: 1, 2 or 3 of UCF101 and HMDB51; train, val or test of the others.",
)
@option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="Its split and label files: their folder, or one file.  [default: looked for below the root]",
)
@option(
    "--segments/--no-segments",
    default=None,
    help="Count segments of videos.  [default: of Kinetics, where a file is a whole video; of ActivityNet and "
    "Charades not]",
)
@option(
    "--list-missing",
    type=OutputFile(dash=True),
    metavar="FILE",
    help="Write the missing videos as CSV; - for standard output, instead of the table.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    name: str,
    root: Path,
    split: str | None,
    annotations: Path | None,
    segments: bool | None,
    list_missing: Path | None,
    json_file: Path | None,
) -> None:
    """Compares the lists of the data set NAME with the files below its root: how many videos of each split are
    listed, there and missing. No video is opened.

    NAME is ucf101, hmdb51, kinetics400, kinetics600, kinetics700, activitynet, charades,
    something-something-v1 or something-something-v2; short names such as k400 do as well.

    Exit status: 0 all videos are there; 1 some are missing; 2 could not tell.
    """
    from ...pipeline.datasets import find_dataset, read_dataset

    dataset = find_dataset(name)
    videos = read_dataset(name, root, split=split, annotations=annotations, segments=segments)
    if list_missing:
        _write_missing(list_missing, videos.missing)
    if json_file:
        from ..output import write_json

        write_json(json_file, _document(dataset.name, root, videos))
    if "-" not in (str(list_missing), str(json_file)):
        _print(dataset.name, root, videos, len(dataset.classes(root, annotations)))
    ctx.exit(1 if videos.missing else 0)


command.add_command(check)


def _counts(present: Iterable[Video], missing: Iterable[Video]) -> dict[str, dict[str, int]]:
    """{split: how many videos are listed, there, missing; and classes}; a video may be in several splits."""
    counts: dict[str, dict[str, int]] = {}
    classes: dict[str, set[str]] = {}
    for kind, videos in (("present", present), ("missing", missing)):
        for video in videos:
            for word in video.split.split() or [""]:
                row = counts.setdefault(word, {"listed": 0, "present": 0, "missing": 0})
                row["listed"] += 1
                row[kind] += 1
                classes.setdefault(word, set()).update(video.labels)
    return {word: {**counts[word], "classes": len(classes[word])} for word in sorted(counts, key=_order)}


def _order(split: str) -> tuple[str, int, str]:
    """train1, test1, train2, ...; train, val, test; without a split at last."""
    part = split.rstrip("0123456789")
    parts = ["train", "val", "test"]
    return split[len(part) :], parts.index(part) if part in parts else len(parts), part


def _document(name: str, root: Path, videos: VideoList) -> dict[str, Any]:
    return {
        "dataset": name,
        "root": str(root),
        "listed": len(videos) + len(videos.missing),
        "present": len(videos),
        "missing": len(videos.missing),
        "splits": _counts(videos, videos.missing),
        "notes": list(videos.notes),
        "missing_videos": [
            {"id": video.id, "split": video.split, "labels": list(video.labels), "listed_in": video.origin}
            for video in videos.missing
        ],
    }


def _print(name: str, root: Path, videos: VideoList, n_official: int) -> None:
    from ..output import console, count, echo_some, printable, table

    everything = (*videos, *videos.missing)
    columns = ("listed", "present", "missing", "classes")
    counts = _counts(videos, videos.missing)
    rows = [
        [split or "in no split", *(f"{counts[split][column]:,}" for column in columns)] for split in counts
    ]
    n_classes = len({label for video in everything for label in video.labels})
    if len(rows) > 1:
        totals = (len(everything), len(videos), len(videos.missing), n_classes)
        rows.append(["all videos", *(f"{total:,}" for total in totals)])
    title = f"{name} below {printable(root)}"
    console().print(table(title, ["split", *columns], rows))
    if n_classes < n_official:
        click.echo(f"The lists name {n_classes:,} of the {n_official:,} classes.")
    for note in videos.notes:
        click.echo(f"Note: {printable(note)}")
    if not videos.missing:
        click.echo("None is missing.")
        return
    click.echo(f"{count(len(videos.missing), 'video')} of {len(everything):,} missing:")
    echo_some(
        [f"{video.id}  ({video.origin})" for video in videos.missing], "; --list-missing FILE writes them all"
    )


def _write_missing(path: Path, missing: Iterable[Video]) -> None:
    from ..files import write_text
    from ..messages import printable

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "split", "labels", "listed_in"])
    for video in missing:
        cells = (video.id, video.split, ";".join(video.labels), video.origin)
        writer.writerow([printable(cell) for cell in cells])
    write_text(path, text.getvalue())
