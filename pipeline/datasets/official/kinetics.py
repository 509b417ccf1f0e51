"""Kinetics-400, -600 and -700: a CSV file for each split.

    label,youtube_id,time_start,time_end,split[,is_cc]
    abseiling,0wR5jVB-WPk,417,427,val              -> 0wR5jVB-WPk_000417_000427.mp4, or 0wR5jVB-WPk.mp4

A clip that is named with its times has been cut out already. A file that is named by its YouTube id alone is
taken as the whole video, of which the seconds of the row are a segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..ids import check_segment, seconds
from ..text_files import Table
from ..video_list import DatasetError
from .annotation_files import SPLIT_WORDS, Request, find_annotations, one_each, split_of
from .matching import Listed, Listing


def read_kinetics(request: Request) -> Listing:
    """Return the rows of all lists. Test lists may come without labels.

    segments   False: a file named by its YouTube id alone is a clip as well
    """
    size = request.lexicon.name.removeprefix("kinetics")

    def accept(name: str) -> object:
        lowered = name.lower()
        sizes = set(re.findall(r"(?<![0-9])[4-7]00(?![0-9])", lowered))
        known_size = not sizes or size in sizes
        return lowered.endswith(".csv") and split_of(name) and "holdout" not in lowered and known_size

    files = find_annotations(
        request,
        accept=accept,
        folders=(request.lexicon.name, f"kinetics_{size}", f"kinetics-{size}", f"k{size}"),
        what="list such as train.csv, val.csv or test.csv",
        advice=f"Download the annotations of Kinetics-{size} from github.com/cvdfoundation/kinetics-dataset",
    )
    if len(files) > 1:
        one_each(files)
    return Listing([row for file in files for row in _read_file(file, request.segments is not False)])


def _read_file(path: Path, segments: bool) -> Iterator[Listed]:
    table = Table(path, ("youtube_id", "time_start", "time_end"), optional=("label", "split"))
    of_file = split_of(path.name)
    if "split" not in table.columns and not of_file:
        raise DatasetError(
            f"{path}, row 1 has no column 'split', and the file's name does not say train, val or test: rename it."
        )
    for row in table.rows:
        where = table.where(row[0])
        video = table.cell(row, "youtube_id")
        start = seconds(table.cell(row, "time_start"), "time_start", where)
        end = seconds(table.cell(row, "time_end"), "time_end", where)
        check_segment(start, end, where)
        stated = table.cell(row, "split", filled=False)
        split = SPLIT_WORDS.get(stated.lower(), "") if stated else of_file
        if not split:
            raise DatasetError(f"{where} has the split {stated!r}: it must be train, val or test.")
        label = table.cell(row, "label", filled=False)
        if not label and split != "test":
            raise DatasetError(f"{where} has no 'label', which videos of the split {split} need.")
        clip = f"{video}_{int(start):06d}_{int(end):06d}"
        yield Listed(
            names=(clip,) if segments else (clip, video),
            published=f"{clip}.mp4",
            where=where,
            labels=(label,) if label else (),
            split=split,
            folder=label,
            whole_names=(video,) if segments else (),
            start_seconds=start,
            end_seconds=end,
        )
