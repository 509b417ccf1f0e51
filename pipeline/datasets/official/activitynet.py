"""ActivityNet 1.3: one JSON file, untrimmed videos with the segments of their activities.

    {"database": {"--0edUL8zmA": {"subset": "training", "duration": 92.18, "annotations":
        [{"label": "Dodgeball", "segment": [5.4, 11.6]}, ...]}, ...}}        -> v_--0edUL8zmA.mp4

The labels of all segments are the labels of the video.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..ids import seconds
from ..text_files import read_json
from ..video_list import DatasetError
from .annotation_files import SPLIT_WORDS, Request, find_annotations
from .matching import Listed, Listing, notes_on_segments, segment_rows

_SHAPE = '{"database": {ID: {"subset": ..., "annotations": [{"label": ..., "segment": [START, END]}]}}}'


def read_activitynet(request: Request) -> Listing:
    """Return a row for each video, with the labels of all its segments: what the papers classify.

    segments   True: a row for each segment instead, without the videos that have none (the test videos).
               Segments that end before they begin, of which the published file may have some, are left out
               and counted in a note.
    """
    files = find_annotations(
        request,
        accept=lambda name: name.lower().startswith("activity_net") and name.lower().endswith(".json"),
        what="file activity_net.v1-3.min.json",
        advice="Download it from activity-net.org",
    )
    newest = [file for file in files if "v1-3" in file.name] or files
    if len(newest) > 1:
        names = ", ".join(file.name for file in newest)
        raise DatasetError(
            f"{newest[0].parent} holds several such files, {names}: name one with --annotations."
        )
    path = newest[0]
    document = read_json(path)
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict):
        raise DatasetError(f"{path} is no annotation file of ActivityNet: it must be {_SHAPE}.")
    rows: list[Listed] = []
    reversed_segments: list[str] = []
    for video, facts in database.items():
        where = f"{path}, video {video!r}"
        split, found = _facts(facts, where)
        labels = tuple(label for label, _ in found)
        row = Listed((f"v_{video}", video), f"v_{video}.mp4", where, labels, split)
        rows += segment_rows(row, _times(found, where), reversed_segments) if request.segments else [row]
    return Listing(rows, notes_on_segments(reversed_segments))


def _facts(facts: Any, where: str) -> tuple[str, list[tuple[str, Any]]]:
    """Return the split, and the labels with their segments."""
    subset = facts.get("subset") if isinstance(facts, dict) else None
    split = SPLIT_WORDS.get(subset.lower()) if isinstance(subset, str) else None
    if split is None:
        raise DatasetError(f"{where} has the subset {subset!r}: it must be training, validation or testing.")
    annotations = facts.get("annotations", [])
    if not isinstance(annotations, list):
        raise DatasetError(f"{where} has no list of annotations: the file must be {_SHAPE}.")
    found = []
    for position, annotation in enumerate(annotations):
        label = annotation.get("label") if isinstance(annotation, dict) else None
        if not isinstance(label, str) or not label.strip():
            raise DatasetError(f"{where}, annotation {position} has no label: the file must be {_SHAPE}.")
        found.append((label.strip(), annotation.get("segment")))
    return split, found


def _times(found: list[tuple[str, Any]], where: str) -> Iterator[tuple[str, float, float]]:
    """Yield the labels with the start and end of their segments."""
    for position, (label, segment) in enumerate(found):
        place = f"{where}, annotation {position}"
        if not (isinstance(segment, list) and len(segment) == 2):
            raise DatasetError(f"{place} has the segment {segment!r}: it must be [START, END] in seconds.")
        start, end = (seconds(str(value), "time", place) for value in segment)
        yield label, start, end
