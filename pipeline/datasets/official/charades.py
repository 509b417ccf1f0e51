"""Charades: ``Charades_v1_train.csv`` and ``Charades_v1_test.csv``, several actions a video.

    id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
    46GP8,HR43,Kitchen,6,7,Yes,...,...,...,c092 11.90 21.20;c147 0.00 12.60,24.83
                                            -> Charades_v1_480/46GP8.mp4, or frames Charades_v1_rgb/46GP8/

The codes c000 to c156 count the classes; where an action is in the video is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ....lexicons import Lexicon
from ..text_files import Table
from ..video_list import DatasetError
from .annotation_files import Request, check_order, find_annotations, matched_lines, one_each, split_of
from .matching import Listed, Listing

_FILE = re.compile(r"charades_v1_(train|test)\.csv", re.IGNORECASE)
_CLASSES = "Charades_v1_classes.txt"


def read_charades(request: Request) -> Listing:
    """Return a row for each video, with the labels of all its actions, in the order of the file.

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
    by_split = one_each(files)
    return Listing([row for path in by_split.values() for row in _read_file(path, request.lexicon)])


def _read_file(path: Path, lexicon: Lexicon) -> Iterator[Listed]:
    # The script and the descriptions are free text, with quotation marks where people put them.
    table = Table(path, ("id", "actions"), strict=False)
    split = split_of(path.name)
    for row in table.rows:
        where = table.where(row[0])
        video = table.cell(row, "id")
        actions = table.cell(row, "actions", filled=False)
        labels = [_label(action, lexicon, where) for action in actions.split(";") if action.strip()]
        yield Listed((video,), f"{video}.mp4", where, tuple(labels), split)


def _label(action: str, lexicon: Lexicon, where: str) -> str:
    match = re.fullmatch(r"c([0-9]{3})(?:\s+[0-9.]+\s+[0-9.]+)?", action.strip())
    if not match:
        raise DatasetError(
            f"{where} has the action {action.strip()[:80]!r} instead of a class, its start and its end, such as "
            f"'c092 11.90 21.20': use the file as published."
        )
    index = int(match[1])
    if index >= len(lexicon):
        raise DatasetError(
            f"{where} has an action of the class c{index:03d}, but the classes are c000 to c{len(lexicon) - 1:03d}."
        )
    return lexicon.labels[index]
