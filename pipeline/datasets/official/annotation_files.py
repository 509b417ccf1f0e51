"""Where the files that say what is in a data set lie, and whether they say the official order of classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....lexicons import Lexicon
from ..folders import is_true, walk
from ..text_files import read_lines
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
class Place:
    """Where a data set is."""

    root: Path
    """The folder of the videos."""
    annotations: Path | None
    """Where the data set's own files are, a folder or one of them; None: below the root."""


@dataclass(frozen=True)
class Request(Place):
    """What is asked of the reader of a data set."""

    lexicon: Lexicon
    """Its classes in the official order."""
    segments: bool | None = None
    """Whether a row is a segment of its video; None: as is usual for the data set."""


def find_annotations(
    request: Place,
    *,
    accept: Callable[[str], object],
    folders: Sequence[str] = (),
    what: str,
    advice: str,
) -> list[Path]:
    """Return the files of a data set, in natural order, all from one folder.

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
            _, entries, folders_here = next(walk(str(folder), enter=lambda _: False))
            found = [entry.name for entry in entries if accept(entry.name) and is_true(entry.is_file)]
            if found:
                return [folder / name for name in sorted(found, key=natural_key)]
            below += [
                folder / name for name in sorted(folders_here, key=natural_key) if name.lower() in known
            ]
        level = below
    raise DatasetError(
        f"{top} holds no {what}; looked in {', '.join(map(str, looked))}. {advice}, and put them there or say "
        f"with --annotations where they are."
    )


def need_folder(request: Request, name: str) -> None:
    """Raise DatasetError where the annotations are one file of several that are needed, such as `name`."""
    if request.annotations is not None and request.annotations.is_file():
        raise DatasetError(f"The annotations {request.annotations} are a file: give the folder of {name}.")


def matched_lines(path: Path, pattern: str, what: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield where each line of a file is, and how it matches; lines that are blank are left out.

    Raises DatasetError, which says `what` a line should be, for one that does not match.
    """
    for number, line in read_lines(path):
        match, where = re.fullmatch(pattern, line), f"{path}, row {number}"
        if not match:
            raise DatasetError(f"{where} is {line[:80]!r} instead of {what}: use the file as published.")
        yield where, match


def split_of(name: str) -> str:
    """Return the split that the name of a file speaks of: ``val`` of ``kinetics_600_validate.csv``; else empty."""
    words = re.findall(r"[a-z]+", name.lower())
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else ""


def one_each(files: Iterable[Path]) -> dict[str, Path]:
    """Return {split: its file}. Raises DatasetError where two files are of one split, or one is of none."""
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


def check_order(classes: Iterable[tuple[str, int, str]], lexicon: Lexicon) -> None:
    """Check that a file has the classes in the official order.

    classes   (file and row, class index from 0, name) of each line
    Raises DatasetError, with file and row, for the first that is elsewhere in the lexicon, or not in it.
    """
    for where, index, name in classes:
        found = lexicon.find(name)
        if not found:
            close = ", ".join(map(repr, lexicon.close_labels(name)))
            raise DatasetError(
                f"{where} names the class {name!r}, which the lexicon {lexicon.name} does not have"
                f"{f' (closest: {close})' if close else ''}: is this the file of another data set?"
            )
        if index not in found:
            raise DatasetError(
                f"{where} has the class {name!r} in place {index} (from 0), where the official list, "
                f"the lexicon {lexicon.name}, has it in place {found[0]}: use the file as published."
            )
