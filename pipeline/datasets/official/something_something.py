"""Something-Something: lists of ids and labels as CSV (version 1) or as JSON (as version 2 has them).

    100218;Something falling like a feather or paper            something-something-v1-train.csv
    [{"id": "78687", "template": "Holding [something]"}]        something-something-v2-train.json, or train.json
    {"Approaching something with your camera": "0", ...}        something-something-v2-labels.json, or labels.json
                        -> frames 20bn-something-something-v1/100218/00001.jpg, or 100218.webm

Of a template the brackets are taken away: that is the label. The class names of version 2, and their order, are those of its
own label file: they differ from version 1's in wording and in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ....lexicons import Lexicon, LexiconError, load_lexicon
from ..text_files import read_json, read_lines
from ..video_list import DatasetError
from .annotation_files import (
    Place,
    Request,
    check_order,
    find_annotations,
    matched_lines,
    one_each,
    split_of,
)
from .matching import Listed, Listing

_LABELS = "something-something-v1-labels.csv"
_HEADERS = {"id", "video_id", "video"}
_FOLDERS_V2 = ("something-something-v2", "20bn-something-something-download-package-labels")
_LABELS_V2 = ("something-something-v2-labels.json", "labels.json")
_N_CLASSES = 174
_ADVICE = "Download the labels of Something-Something from Qualcomm's developer pages"


def read_something_something(request: Request) -> Listing:
    """Return the rows of all lists. Test lists have no labels.

    Where the label file lies beside them, its order is checked.
    """

    def accept(name: str) -> object:
        lowered = name.lower()
        return lowered.endswith((".csv", ".json")) and split_of(name) and "v2" not in lowered

    files = find_annotations(
        request,
        accept=accept,
        folders=("something-something-v1", "20bn-something-something-v1-annotations"),
        what="list such as something-something-v1-train.csv",
        advice=_ADVICE,
    )
    labels_file = files[0].with_name(_LABELS)
    if labels_file.is_file():
        lines = enumerate(matched_lines(labels_file, ".*", "a label"))
        check_order(((where, index, line[0].strip('"')) for index, (where, line) in lines), request.lexicon)
    by_split = one_each(files)
    return Listing([row for split, path in by_split.items() for row in _read_file(path, split)])


def read_something_something_v2(request: Request) -> Listing:
    """Return the rows of all lists of version 2; their labels are templates without brackets. Test lists have no labels."""

    def accept(name: str) -> object:
        lowered = name.lower()
        return lowered.endswith(".json") and split_of(name) and "v1" not in lowered

    files = find_annotations(
        request,
        accept=accept,
        folders=_FOLDERS_V2,
        what="list such as something-something-v2-train.json",
        advice=_ADVICE,
    )
    rows: list[Listed] = []
    for split, path in one_each(files).items():
        rows += (replace(row, published=f"{row.published}.webm") for row in _read_file(path, split))
    n_classes = len(request.lexicon)
    notes = [f"The label file names {n_classes} classes; the published one has {_N_CLASSES}."]
    return Listing(rows, notes if n_classes != _N_CLASSES else [])


def read_classes_v2(place: Place) -> Lexicon:
    """Return the classes of version 2 from its own label file, in the order of its numbers.

    Raises DatasetError where there is none, or it is not as published.
    """
    if place.annotations is not None and place.annotations.is_file():
        place = Place(place.root, place.annotations.parent)
    (path, *_) = find_annotations(
        place,
        accept=lambda name: name.lower() in _LABELS_V2,
        folders=_FOLDERS_V2,
        what="file something-something-v2-labels.json or labels.json",
        advice=_ADVICE,
    )
    try:
        return replace(load_lexicon(path), name="something-something-v2")
    except LexiconError as error:
        raise DatasetError(str(error)) from error


def _read_file(path: Path, split: str) -> Iterator[Listed]:
    entries = _json_entries(path) if path.suffix.lower() == ".json" else _csv_entries(path)
    for video, label, where in entries:
        if not label and split in ("train", "val"):
            raise DatasetError(f"{where} gives no label, which videos of the split {split} need.")
        yield Listed((video,), video, where, (label,) if label else (), split)


def _csv_entries(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in read_lines(path):
        video, _, label = (part.strip() for part in line.partition(";"))
        if number == 1 and video.lower() in _HEADERS:
            continue
        if not re.fullmatch(r"[0-9]+", video):
            raise DatasetError(
                f"{path}, row {number} is {line[:80]!r} instead of the number of a video, ; and its label: use "
                f"the file as published."
            )
        yield video, label.strip('"'), f"{path}, row {number}"


def _json_entries(path: Path) -> Iterator[tuple[str, str, str]]:
    document = read_json(path)
    if not isinstance(document, list):
        raise DatasetError(f"{path} is no list of Something-Something: it must be a JSON list of videos.")
    for position, entry in enumerate(document):
        where = f"{path}, entry {position}"
        video = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(video, int) and not isinstance(video, bool):
            video = str(video)
        if not isinstance(video, str) or not video.strip():
            raise DatasetError(f"{where} has no id: each entry must have one.")
        label = entry.get("template", entry.get("label", ""))
        if not isinstance(label, str):
            raise DatasetError(f"{where} has the label {label!r}, which is no text.")
        yield video.strip(), re.sub(r"[\[\]]", "", label).strip(), where
