"""Charades: ``Charades_v1_train.csv`` and ``Charades_v1_test.csv``, several actions a video.

    id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
    46GP8,HR43,Kitchen,6,7,Yes,...,...,...,c092 11.90 21.20;c147 0.00 12.60,24.83
                                            -> Charades_v1_480/46GP8.mp4, or frames Charades_v1_rgb/46GP8/

The codes c000 to c156 count the classes; behind them stand the seconds where an action begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ....lexicons import Lexicon
from ..ids import seconds
from ..text_files import Table
from ..video_list import DatasetError
from .annotation_files import Request, check_order, find_annotations, matched_lines, one_each, split_of
from .matching import Listed, Listing, notes_on_segments, segment_rows

_FILE = re.compile(r"charades_v1_(train|test)\.csv", re.IGNORECASE)
_CLASSES = "Charades_v1_classes.txt"


def read_charades(request: Request) -> Listing:
    """Return a row for each video, with the labels of all its actions, in the order of the file.

    segments   True: a row for each interval of an action instead, with the labels of all actions of just that
               interval, and without the videos that have none. Intervals that end before they begin are left out, and
               named in a note.

    Where the class list lies beside the files, its order is checked. Raises DatasetError for a class that is
    not c000 to c156.
    """
    files = find_annotations(
        request,
        accept=_FILE.fullmatch,
        folders=("Charades", "Charades_v1"),
        what="Charades_v1_train.csv or Charades_v1_test.csv",
        advice="Download Charades.zip from prior.allenai.org/projects/charades",
    )
    classes_file = files[0].with_name(_CLASSES)
    if classes_file.is_file():
        lines = matched_lines(classes_file, r"c([0-9]{3})\s+(.+)", "a code such as c000 and a name")
        check_order(((where, int(match[1]), match[2]) for where, match in lines), request.lexicon)
    rows: list[Listed] = []
    reversed_segments: list[str] = []
    for path in one_each(files).values():
        for video, actions in _read_file(path, request.lexicon):
            if request.segments:
                rows += segment_rows(video, _times(actions, video.where), reversed_segments)
            else:
                rows.append(replace(video, labels=tuple(label for label, _ in actions)))
    return Listing(rows, notes_on_segments(reversed_segments))


def _read_file(path: Path, lexicon: Lexicon) -> Iterator[tuple[Listed, list[tuple[str, str]]]]:
    """Yield each video, and the labels of its actions with the text that they stand in."""
    # The script and the descriptions are free text, with quotation marks where people put them.
    table = Table(path, ("id", "actions"), strict=False)
    split = split_of(path.name)
    for row in table.rows:
        where = table.where(row[0])
        video = table.cell(row, "id")
        actions = [
            text.strip() for text in table.cell(row, "actions", filled=False).split(";") if text.strip()
        ]
        listed = Listed((video,), f"{video}.mp4", where, split=split)
        yield listed, [(_label(action, lexicon, where), action) for action in actions]


def _times(actions: list[tuple[str, str]], where: str) -> Iterator[tuple[str, float, float]]:
    """Yield the labels with the start and end of their intervals."""
    for label, action in actions:
        _, *interval = action.split()
        if not interval:
            raise _odd(action, where)
        start, end = (seconds(text, "time", where) for text in interval)
        yield label, start, end


def _label(action: str, lexicon: Lexicon, where: str) -> str:
    match = re.fullmatch(r"c([0-9]{3})(?:\s+[0-9.]+\s+[0-9.]+)?", action)
    if not match:
        raise _odd(action, where)
    index = int(match[1])
    if index >= len(lexicon):
        raise DatasetError(
            f"{where} has an action of the class c{index:03d}, but the classes are c000 to c{len(lexicon) - 1:03d}."
        )
    return lexicon.labels[index]


def _odd(action: str, where: str) -> DatasetError:
    return DatasetError(
        f"{where} has the action {action[:80]!r} instead of a class, its start and its end, such as "
        f"'c092 11.90 21.20': use the file as published."
    )
