"""UCF101: ``classInd.txt`` with ``trainlist01.txt``, ``testlist01.txt`` and so on to 03.

    1 ApplyEyeMakeup                                          classInd.txt, classes from 1
    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1             trainlist01.txt
    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi               testlist01.txt

The folder in a list is the class; the number behind it is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..folders import stem_of
from ..video_list import DatasetError
from .annotation_files import Request, check_order, find_annotations, matched_lines, need_folder
from .matching import Listed, Listing, merge_splits

_LIST = re.compile(r"(train|test)list0?([123])\.txt", re.IGNORECASE)
_CLASSES = "classind.txt"
_ADVICE = "Download UCF101TrainTestSplits-RecognitionTask.zip from www.crcv.ucf.edu/data/UCF101.php"


def read_ucf101(request: Request) -> Listing:
    """Return all videos that the lists name, each with its place in every split.

    Raises DatasetError when classInd.txt does not have the official order, and for rows that do not fit it.
    """
    need_folder(request, "classInd.txt")
    classes_file, *_ = find_annotations(
        request,
        accept=lambda name: name.lower() == _CLASSES,
        folders=("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask"),
        what="classInd.txt",
        advice=_ADVICE,
    )
    folder = classes_file.parent
    lists = [(path, match) for path in sorted(folder.iterdir()) if (match := _LIST.fullmatch(path.name))]
    if not lists:
        raise DatasetError(
            f"{folder} holds classInd.txt, but no trainlist01.txt or testlist01.txt. {_ADVICE}, and put its files "
            f"together there."
        )
    lines = matched_lines(classes_file, r"([0-9]{1,9})\s+(\S+)", "a number and a class")
    classes = [(where, int(match[1]) - 1, match[2]) for where, match in lines]
    check_order(classes, request.lexicon)
    numbers = {name: index + 1 for _, index, name in classes}
    return Listing(
        merge_splits(
            (row, int(match[2]), match[1].lower())
            for path, match in lists
            for row in _read_list(path, numbers, classes_file)
        )
    )


def _read_list(path: Path, numbers: dict[str, int], classes_file: Path) -> Iterator[Listed]:
    for where, match in matched_lines(path, r"([^/]+)/([^/]+?)(?:\s+([0-9]{1,9}))?", "CLASS/VIDEO.avi"):
        label, file, stated = match.groups()
        if label not in numbers:
            raise DatasetError(
                f"{where} has a video of the class {label!r}, which {classes_file.name} does not name: use the "
                f"files as published."
            )
        if stated is not None and int(stated) != numbers[label]:
            raise DatasetError(
                f"{where} gives the number {stated} to the class {label!r}, which has {numbers[label]} in "
                f"{classes_file.name}: use the files as published."
            )
        yield Listed(
            names=_spellings(stem_of(file)),
            published=f"{label}/{file}",
            where=where,
            labels=(label,),
            folder=label,
        )


def _spellings(stem: str) -> tuple[str, ...]:
    """The class HandstandPushups has videos called v_HandStandPushups; some copies have corrected that."""
    return tuple(
        dict.fromkeys((stem, stem.replace("HandStand", "Handstand"), stem.replace("Handstand", "HandStand")))
    )
