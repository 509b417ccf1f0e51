"""HMDB51: for each class and each of three splits a file ``brush_hair_test_split1.txt``.

    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1       1 train, 2 test, 0 neither

The class is in the name of the file; the videos are in a folder of this name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..folders import stem_of
from ..text_files import read_lines
from ..video_list import DatasetError
from .annotation_files import Request, find_annotations
from .matching import Listed, Listing
from .numbered_splits import gathered

_FILE = re.compile(r"(.+)_test_split([123])\.txt", re.IGNORECASE)
_PARTS = {"0": "", "1": "train", "2": "test"}


def read_hmdb51(request: Request) -> Listing:
    """All videos that the files name, each with its place in every split; its class is in the file's name."""
    if request.annotations is not None and request.annotations.is_file():
        raise DatasetError(
            f"The annotations {request.annotations} are a file: give the folder of *_test_split1.txt."
        )
    files = find_annotations(
        request,
        accept=lambda name: _FILE.fullmatch(name) is not None,
        folders=("testTrainMulti_7030_splits", "test_train_splits"),
        what="files *_test_split1.txt, such as brush_hair_test_split1.txt",
        advice="Download test_train_splits.rar from the page of HMDB, and unpack it",
    )
    matches = ((path, _FILE.fullmatch(path.name)) for path in files)
    return Listing(
        gathered(
            (row, int(match[2]), part)
            for path, match in matches
            if match
            for row, part in _read_file(path, match[1])
        )
    )


def _read_file(path: Path, label: str) -> Iterator[tuple[Listed, str]]:
    for number, line in read_lines(path):
        where = f"{path}, row {number}"
        file, _, place = line.rpartition(" ")
        file = file.strip()
        if place not in _PARTS or not file or "/" in file:
            raise DatasetError(
                f"{where} is {line[:80]!r} instead of a video and 0, 1 or 2: use the file as published."
            )
        row = Listed(
            names=(stem_of(file),), published=f"{label}/{file}", where=where, labels=(label,), folder=label
        )
        yield row, _PARTS[place]
