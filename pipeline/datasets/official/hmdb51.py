"""HMDB51: for each class and each of three splits a file ``brush_hair_test_split1.txt``.

    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1       1 train, 2 test, 0 neither

The class is in the name of the file; the videos are in a folder of this name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..folders import stem_of
from .annotation_files import Request, find_annotations, matched_lines, need_folder
from .matching import Listed, Listing, merge_splits

_FILE = re.compile(r"(.+)_test_split([123])\.txt", re.IGNORECASE)
_PARTS = {"0": "", "1": "train", "2": "test"}


def read_hmdb51(request: Request) -> Listing:
    """Return all videos that the files name, each with its place in every split; its class is in the file's name."""
    need_folder(request, "*_test_split1.txt")
    files = find_annotations(
        request,
        accept=_FILE.fullmatch,
        folders=("testTrainMulti_7030_splits", "test_train_splits"),
        what="files *_test_split1.txt, such as brush_hair_test_split1.txt",
        advice="Download test_train_splits.rar from the page of HMDB, and unpack it",
    )
    named = ((path, match) for path in files if (match := _FILE.fullmatch(path.name)))
    rows = (row for path, match in named for row in _read_file(path, match[1], int(match[2])))
    return Listing(merge_splits(rows))


def _read_file(path: Path, label: str, number: int) -> Iterator[tuple[Listed, int, str]]:
    for where, match in matched_lines(path, r"([^/]*[^/\s])\s* ([012])", "a video and 0, 1 or 2"):
        file, place = match.groups()
        row = Listed((stem_of(file),), f"{label}/{file}", where, (label,), folder=label)
        yield row, number, _PARTS[place]
