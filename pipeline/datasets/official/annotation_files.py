"""Where the files that say what is in a data set lie, and whether they say the official order of classes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....lexicons import Lexicon
from ..folders import is_true
from ..video_list import DatasetError, natural_key

_EVERYWHERE = ("annotations", "annotation", "labels", "lists", "splits")
"""Names of folders, in any case, where people put such files, whatever the data set."""

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What data sets call their splits, and what these are called here."""


@dataclass(frozen=True)
class Request:
    """What is asked of the reader of a data set."""

    root: Path
    """The folder of the videos."""
    annotations: Path | None
    """Where the data set's own files are, a folder or one of them; None: below the root."""
    lexicon: Lexicon
    """Its classes in the official order."""
    segments: bool | None = None
    """Whether a row is a segment of its video; None: as is usual for the data set."""


def find_annotations(
    request: Request,
    *,
    accept: Callable[[str], bool],
    folders: Sequence[str] = (),
    what: str,
    advice: str,
) -> list[Path]:
    """The files of a data set, in natural order, all from one folder.

    request      Its annotations where they are named: the file itself, whatever it is called, or a folder to
                 look in. Else its root is looked in. The folders below that are called like one of `folders`,
                 or as such folders usually are, are looked in too, two deep; the first that holds
                 something decides.
    accept       Whether a file of this name is one of them.
    what, advice Say in the message what was looked for, and how it is got.
    """
    annotations = request.annotations
    if annotations is not None and annotations.is_file():
        return [annotations]
    if annotations is not None and not annotations.is_dir():
        raise DatasetError(f"The annotations {annotations} are neither a folder nor a file.")
    top = request.root if annotations is None else annotations
    known = {name.lower() for name in (*folders, *_EVERYWHERE)}
    looked: list[Path] = []
    level = [top]
    for _ in range(3):
        below: list[Path] = []
        for folder in level:
            looked.append(folder)
            files, deeper = _listed(folder, known)
            found = sorted((name for name in files if accept(name)), key=natural_key)
            if found:
                return [folder / name for name in found]
            below += [folder / name for name in sorted(deeper, key=natural_key)]
        level = below
    raise DatasetError(
        f"{top} holds no {what}; looked in {', '.join(map(str, looked))}. {advice}, and put them there or say "
        f"with --annotations where they are."
    )


def _listed(folder: Path, known: set[str]) -> tuple[list[str], list[str]]:
    files, folders = [], []
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if is_true(entry.is_file):
                    files.append(entry.name)
                elif entry.name.lower() in known and is_true(entry.is_dir):
                    folders.append(entry.name)
    except OSError as error:
        raise DatasetError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    return files, folders


def split_of(name: str) -> str:
    """The split that the name of a file speaks of: ``val`` of ``kinetics_600_validate.csv``; else empty."""
    words = re.findall(r"[a-z]+", name.lower())
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else ""


def one_each(files: Iterable[Path]) -> dict[str, Path]:
    """{split: its file}. Raises DatasetError where two files are of one split, or one is of none."""
    by_split: dict[str, Path] = {}
    for file in files:
        split = split_of(file.name)
        other = by_split.setdefault(split, file)
        if other is not file:
            raise DatasetError(
                f"{file.parent} holds two lists of the split {split}, {other.name} and {file.name}: name one of "
                f"them with --annotations, or move one away."
            )
    return by_split


def check_order(path: Path, classes: Iterable[tuple[int, int, str]], lexicon: Lexicon) -> None:
    """Check that a file has the classes in the official order.

    classes   (row, class index from 0, name) of each line
    Raises DatasetError, with the row, for the first that is elsewhere in the lexicon, or not in it.
    """
    for row, index, name in classes:
        found = lexicon.find(name)
        if not found:
            close = ", ".join(map(repr, lexicon.close_labels(name)))
            raise DatasetError(
                f"{path}, row {row} names the class {name!r}, which the lexicon {lexicon.name} does not have"
                f"{f' (closest: {close})' if close else ''}: is this the file of another data set?"
            )
        if index not in found:
            raise DatasetError(
                f"{path}, row {row} has the class {name!r} in place {index} (from 0), where the official list, "
                f"the lexicon {lexicon.name}, has it in place {found[0]}: use the file as published."
            )
