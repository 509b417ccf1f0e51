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

from ....lexicons import Lexicon
from ..folders import stem_of
from ..text_files import read_lines
from ..video_list import DatasetError
from .annotation_files import Request, check_order, find_annotations
from .matching import Listed, Listing
from .numbered_splits import gathered

_LIST = re.compile(r"(train|test)list0?([123])\.txt", re.IGNORECASE)
_CLASSES = "classind.txt"
_ADVICE = "Download UCF101TrainTestSplits-RecognitionTask.zip from www.crcv.ucf.edu/data/UCF101.php"


def read_ucf101(request: Request) -> Listing:
    """All videos that the lists name, each with its place in every split.

    Raises DatasetError when classInd.txt does not have the official order, and for rows that do not fit it.
    """
    if request.annotations is not None and request.annotations.is_file():
        raise DatasetError(
            f"The annotations {request.annotations} are a file: give the folder of classInd.txt."
        )
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
    numbers = _read_classes(classes_file, request.lexicon)
    return Listing(
        gathered(
            (row, int(match[2]), match[1].lower())
            for path, match in lists
            for row in _read_list(path, numbers, classes_file)
        )
    )


def _read_classes(path: Path, lexicon: Lexicon) -> dict[str, int]:
    """{class name: its number, from 1}."""
    numbers: dict[str, int] = {}
    classes = []
    for row, line in read_lines(path):
        match = re.fullmatch(r"([0-9]{1,9})\s+(\S+)", line)
        if not match:
            raise DatasetError(
                f"{path}, row {row} is {line[:80]!r} instead of a number and a class: use the file as published."
            )
        numbers[match[2]] = int(match[1])
        classes.append((row, int(match[1]) - 1, match[2]))
    check_order(path, classes, lexicon)
    return numbers


def _read_list(path: Path, numbers: dict[str, int], classes_file: Path) -> Iterator[Listed]:
    for number, line in read_lines(path):
        where = f"{path}, row {number}"
        match = re.fullmatch(r"([^/]+)/([^/]+?)(?:\s+([0-9]{1,9}))?", line)
        if not match:
            raise DatasetError(
                f"{where} is {line[:80]!r} instead of CLASS/VIDEO.avi: use the file as published."
            )
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
