"""Video lists: which videos there are, what they are called, and their labels.

A list comes from a folder, from a CSV file, or from video files named one by one. Whatever cannot be
right (a file that is missing, a video listed twice, a label nobody knows) is said here, with its row,
before any video is opened.
"""

# Paths are text until the list is whole: pathlib would take most of the time of 250,000 rows.
# ruff: noqa: PTH100, PTH112, PTH113, PTH117, PTH118, PTH120
from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

from ..lexicons import Lexicon

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
) | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
"""Ends of the names that count as videos when a folder is read, in any case. Files that are named one by
one, or in a CSV, are taken as videos whatever they are called."""

SPLIT_FOLDERS = frozenset({"train", "val", "validation", "test"})
"""Names of folders that are splits rather than labels, in any case, where no other folder is beside them."""

_NO_VIDEO_SUFFIXES = frozenset({".txt", ".tsv", ".json", ".xls", ".xlsx", ".ods", ".parquet"})
_PROBLEMS_SHOWN = 5


class DatasetError(ValueError):
    """A list of videos that cannot be read, or that contradicts itself, the disk, or its lexicon."""


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a list."""

    id: str
    """Its path below the root of the list, with ``/`` between folders; no two videos share one."""

    path: Path
    """Where its file is."""

    labels: tuple[str, ...] = ()
    """The classes it belongs to, as the list spells them; empty when unknown."""

    split: str = ""
    """Such as ``train`` or ``test``, as the list spells it; empty when there is none."""

    origin: str = ""
    """Where it was listed, such as ``list.csv, row 12``; empty when it was found in a folder."""

    @property
    def where(self) -> str:
        """What to show a person who has to find the entry: its origin, or else its id."""
        return self.origin or self.id


class VideoList(Sequence[Video]):
    """Videos in a fixed order, no two of one id. Slices are lists too: ``videos[i::n]`` is a shard.

    Raises DatasetError when an id repeats.
    """

    def __init__(
        self, videos: Iterable[Video], *, n_other_files: int = 0, missing: Iterable[Video] = ()
    ) -> None:
        self.videos: tuple[Video, ...] = tuple(videos)
        """The videos, in order."""
        self.n_other_files = n_other_files
        """Files of the folder that were left out: hidden, or not called like a video."""
        self.missing: tuple[Video, ...] = tuple(missing)
        """Listed videos without a file, left out because the caller allowed it."""
        first: dict[str, Video] = {}
        twice = [
            f"{video.id!r} ({first[video.id].where} and {video.where})"
            for video in self.videos
            if first.setdefault(video.id, video) is not video
        ]
        if twice:
            raise DatasetError(f"Videos listed twice: {_some(twice)}. List each video once.")

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Video]:
        return iter(self.videos)

    @overload
    def __getitem__(self, index: int) -> Video: ...
    @overload
    def __getitem__(self, index: slice) -> VideoList: ...
    def __getitem__(self, index: int | slice) -> Video | VideoList:
        if isinstance(index, slice):
            return VideoList(self.videos[index], n_other_files=self.n_other_files, missing=self.missing)
        return self.videos[index]

    def __repr__(self) -> str:
        return f"VideoList({len(self)} videos, {len(self.labels)} labels)"

    @property
    def labels(self) -> tuple[str, ...]:
        """The different labels of the list, in natural order."""
        return tuple(sorted({label for video in self.videos for label in video.labels}, key=natural_key))

    @property
    def splits(self) -> tuple[str, ...]:
        """The different splits of the list, in natural order."""
        return tuple(sorted({video.split for video in self.videos if video.split}, key=natural_key))


class _Found(NamedTuple):
    """What a source lists, before it is checked against the disk."""

    videos: list[Video]
    missing: set[str]
    """Ids of those whose file is not there."""
    other_files: Counter[str]
    """Files left out, by the end of their names."""


def read_videos(
    source: str | Path | Sequence[str | Path], *, root: str | Path | None = None, allow_missing: bool = False
) -> VideoList:
    """The videos of a folder, of a CSV file, or of video files named one by one.

    source         A folder: every video file below it. ``source/<label>/<video>`` gives labels; of a
                   video that lies deeper, the first folder is the label; videos directly in the
                   source have none. When every video is in a folder called train, val, validation
                   or test, these are splits, and labels are one level below:
                   ``source/<split>/<label>/<video>``. Symbolic links are followed.
                   A ``.csv`` file in UTF-8 with the header ``path,label,split`` in any order; label
                   and split may be absent, other columns are ignored, the header is row 1.
                   Any other file, or several: videos without labels.
    root           The folder where ids begin, and to which the paths of a CSV are relative. Default:
                   the folder itself, the folder of the CSV, or the deepest folder that holds all the
                   named files. A video elsewhere keeps its absolute path as id; one that a CSV
                   reaches with ``../`` keeps that.
    allow_missing  Leave out videos whose file is not there, and name them in `VideoList.missing`.

    Returns the videos in natural order of their ids (``clip2`` before ``clip10``), whatever the order
    on disk or in the CSV, so that the same videos always make the same list.
    Raises DatasetError when the source cannot be read or holds no video, when a video is listed
    twice or missing, and when rows do not fit their header.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(each) for each in source]
    if not sources:
        raise DatasetError("No videos were named: give a folder, a CSV file, or video files.")
    if root is not None and not os.path.isdir(root):
        raise DatasetError(f"The root {root} is not a folder: give the folder that holds the videos.")
    base = None if root is None else os.path.abspath(root)
    if len(sources) == 1 and sources[0].is_dir():
        found = _find_in_folder(sources[0], base)
    elif len(sources) == 1 and sources[0].suffix.lower() == ".csv":
        found = _read_csv(sources[0], base)
    else:
        found = _take_files(sources, base)
    return _checked(found, allow_missing=allow_missing)


def check_labels(videos: Iterable[Video], lexicon: Lexicon) -> list[tuple[int, ...]]:
    """For each video the class indices of its labels; an empty tuple for a video without labels.

    Labels are looked up as `Lexicon.find` does. Raises DatasetError for labels that the lexicon does
    not have, or has several of, with the first row or file of each and the closest names.
    """
    indices: dict[str, tuple[int, ...]] = {}
    n_videos: Counter[str] = Counter()
    first: dict[str, Video] = {}
    result = []
    for video in videos:
        for label in video.labels:
            if label not in indices:
                indices[label] = lexicon.find(label)
                first[label] = video
            n_videos[label] += 1
        result.append(tuple(index for label in video.labels for index in indices[label]))

    def told(label: str, names: Iterable[str], intro: str) -> str:
        more = n_videos[label] - 1
        place = first[label].where + (f" and {more:,} more" if more else "")
        quoted = ", ".join(map(repr, names))
        return f"{label!r} ({place}{f'; {intro}: {quoted}' if quoted else ''})"

    unknown = [label for label, found in indices.items() if not found]
    if unknown:
        shown = [told(label, lexicon.close_labels(label), "closest") for label in unknown[:_PROBLEMS_SHOWN]]
        raise DatasetError(
            f"Labels that the lexicon {lexicon.name} does not have: {_some(shown, len(unknown))}. "
            f"Correct them, or use the lexicon they come from."
        )
    several = [label for label, found in indices.items() if len(found) > 1]
    if several:
        shown = [told(label, [lexicon.labels[i] for i in indices[label]], "may be") for label in several]
        raise DatasetError(
            f"Labels that fit several classes of the lexicon {lexicon.name}: {_some(shown)}. "
            f"Use the lexicon's own spelling."
        )
    return result


def natural_key(text: str) -> str:
    """Sort key that orders numbers by their value and paths folder by folder: ``a2/x``, ``a10/x``."""
    # The text itself comes last, for names that differ only in leading zeros.
    return f"{_DIGITS.sub(_padded, text).replace('/', chr(0))}{chr(0)}{text}"


_DIGITS = re.compile(r"[0-9]+")


def _padded(digits: re.Match[str]) -> str:
    return digits.group().zfill(20)


def _checked(found: _Found, *, allow_missing: bool) -> VideoList:
    unwritable = [ascii(video.id) for video in found.videos if not _is_unicode(video.id)]
    if unwritable:
        raise DatasetError(
            f"File names that are not valid UTF-8: {_some(unwritable)}. Rename them: a video's id is text."
        )
    ordered = sorted(found.videos, key=lambda video: natural_key(video.id))
    listed = VideoList(ordered)  # finds what is listed twice, before what is missing
    missing = [video for video in ordered if video.id in found.missing]
    if missing and not allow_missing:
        names = [f"{video.path} ({video.origin})" if video.origin else str(video.path) for video in missing]
        slash = " Write / between folders, not \\." if any("\\" in video.id for video in missing) else ""
        raise DatasetError(
            f"{_counted(len(missing), 'listed video')} cannot be found: {_some(names)}.{slash} "
            f"Correct the paths, or name the folder they are relative to (--root)."
        )
    if len(missing) == len(listed):
        raise DatasetError(f"None of the {len(listed):,} listed videos can be found: correct their paths.")
    present = [video for video in ordered if video.id not in found.missing] if missing else ordered
    return VideoList(present, n_other_files=found.other_files.total(), missing=missing)


# --- folders


def _find_in_folder(folder: Path, root: str | None) -> _Found:
    top = os.path.abspath(folder)
    root = top if root is None else root
    if os.path.commonpath([root, top]) != root:
        raise DatasetError(f"The folder {folder} is not below the root {root}: give a root that holds it.")
    prefix = "" if root == top else f"{os.path.relpath(top, root)}/"
    names, missing, other_files = _walk(top)
    if not names:
        others = ", ".join(suffix or "no suffix" for suffix, _ in other_files.most_common(_PROBLEMS_SHOWN))
        seen = f" ({_counted(other_files.total(), 'other file')}: {others})" if others else ""
        raise DatasetError(
            f"There is no video below {folder}{seen}. Videos are files whose names end in one of "
            f"{', '.join(sorted(VIDEO_SUFFIXES))}; name other files one by one, or in a CSV."
        )
    firsts = {name.partition("/")[0] if "/" in name else "" for name in names}
    level = 1 if all(first.lower() in SPLIT_FOLDERS for first in firsts) else 0
    videos = []
    for name in names:
        folders = name.split("/")[:-1]
        videos.append(
            Video(
                id=prefix + name,
                path=Path(f"{top}/{name}"),
                labels=tuple(folders[level : level + 1]),
                split=folders[0] if level else "",
            )
        )
    return _Found(videos, {prefix + name for name in missing}, other_files)


def _walk(top: str) -> tuple[list[str], set[str], Counter[str]]:
    """The video files below a folder, those of them that are not there, and the other files' suffixes."""
    names: list[str] = []
    missing: set[str] = set()
    other_files: Counter[str] = Counter()
    # A folder waits with the identities of those above it: a link to one of them would lead round in a
    # circle. (A link to any other folder is followed, also when that folder is listed by itself.)
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        folder, above = waiting.pop()
        path = f"{top}/{folder}"
        try:
            status = os.stat(path)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            with os.scandir(path) as scan:
                entries = list(scan)
        except OSError as error:
            raise DatasetError(
                f"The folder {path} cannot be read: {error.strerror or error}. "
                f"Make it readable, or move it out of the source."
            ) from error
        above |= {identity}
        for entry in entries:
            name = entry.name
            suffix = name[name.rfind(".") :].lower() if "." in name else ""
            if name.startswith("."):
                if not entry.is_dir(follow_symlinks=False):
                    other_files[suffix] += 1
            elif _is(entry.is_dir):
                waiting.append((f"{folder}{name}/", above))
            elif suffix in VIDEO_SUFFIXES and (entry.is_symlink() or entry.is_file()):
                names.append(folder + name)
                if not _is(entry.is_file):
                    missing.add(folder + name)
            else:
                other_files[suffix] += 1
    return names, missing, other_files


def _is(question) -> bool:
    try:
        return question()
    except OSError:  # a link that leads to itself
        return False


# --- CSV files


def _read_csv(path: Path, root: str | None) -> _Found:
    header, rows = _csv_rows(path)
    columns = [name.strip().lower() for name in header]
    if "path" not in columns:
        separator = next((s for s in ";\t" if len(header) == 1 and s in header[0]), None)
        hint = f" Its cells seem to be separated by {separator!r}: use commas." if separator else ""
        raise DatasetError(
            f"{path}, row 1 has no column 'path', only {', '.join(map(repr, header))}.{hint} "
            f"The first row must be the header path,label,split (label and split may be absent)."
        )
    repeated = [name for name in ("path", "label", "split") if columns.count(name) > 1]
    if repeated:
        raise DatasetError(f"{path}, row 1 has the column {repeated[0]!r} twice: keep one of them.")
    position = {name: columns.index(name) for name in ("path", "label", "split") if name in columns}

    def cell(row: list[str], name: str) -> str:
        at = position.get(name, len(row))
        return row[at].strip() if at < len(row) else ""

    wide = [f"row {number} ({len(row)} cells)" for number, row in rows if len(row) > len(columns)]
    if wide:
        raise DatasetError(
            f"{path} has {_counted(len(columns), 'column')}, but rows with more cells: {_some(wide)}. "
            f"Put quotation marks around values that hold a comma."
        )
    blank = [f"row {number}" for number, row in rows if not cell(row, "path")]
    if blank:
        raise DatasetError(f"{path} has rows without a path: {_some(blank)}. Fill them in, or remove them.")
    if not rows:
        raise DatasetError(f"{path} lists no video: below the header, each row is one video.")
    base = os.path.dirname(os.path.abspath(path)) if root is None else root
    videos = []
    for number, row in rows:
        given = cell(row, "path")
        label = cell(row, "label")
        videos.append(
            Video(
                id=_id_below(base, given),
                path=Path(os.path.join(base, given)),
                labels=(label,) if label else (),
                split=cell(row, "split"),
                origin=f"{path}, row {number}",
            )
        )
    return _Found(videos, _without_file(videos), Counter())


def _csv_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the rows that are not blank with their numbers, as a spreadsheet counts them."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}, row {line} is not UTF-8 text: save the file as UTF-8.") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DatasetError(f"{path}, row {line} holds a zero byte: this is not a CSV text file.")
    rows: list[tuple[int, list[str]]] = []
    number = 0
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), start=1):
            if any(cell.strip() for cell in row):
                rows.append((number, row))
    except csv.Error as error:
        raise DatasetError(
            f"{path}, row {number + 1} is not CSV: {error}. Check its quotation marks."
        ) from error
    if not rows:
        raise DatasetError(f"{path} is empty: write the header path,label,split and a row for each video.")
    return rows[0][1], rows[1:]


def _id_below(base: str, given: str) -> str:
    below = base if base.endswith("/") else f"{base}/"
    whole = os.path.normpath(os.path.join(base, given))
    if whole.startswith(below):
        return whole[len(below) :]
    return whole if os.path.isabs(given) else os.path.normpath(given)


def _without_file(videos: list[Video]) -> set[str]:
    """Ids of the videos without a file: each folder is read once, as asking for each file takes long."""
    by_folder: dict[str, list[Video]] = {}
    for video in videos:
        by_folder.setdefault(os.path.dirname(video.path), []).append(video)
    missing = set()
    for folder, members in by_folder.items():
        present: set[str] = set()
        if len(members) >= _PROBLEMS_SHOWN:
            try:
                with os.scandir(folder) as scan:
                    present = {entry.name for entry in scan if _is(entry.is_file)}
            except OSError:
                pass  # then each file is asked for by itself
        # A name may differ from that on disk and still find it, where case does not count.
        missing |= {v.id for v in members if v.path.name not in present and not os.path.isfile(v.path)}
    return missing


# --- files named one by one


def _take_files(files: list[Path], root: str | None) -> _Found:
    for file in files:
        if not os.path.lexists(file):
            raise DatasetError(f"There is no file or folder {file}.")
        if file.is_dir() or file.suffix.lower() == ".csv":
            kind = "folder" if file.is_dir() else "CSV file"
            raise DatasetError(
                f"{file} is a {kind} among several sources: give one folder, or one CSV file, or video files."
            )
        if file.suffix.lower() in _NO_VIDEO_SUFFIXES:
            raise DatasetError(
                f"{file} is not a video. A list of videos is a .csv file with the header path,label,split."
            )
    paths = [os.path.abspath(file) for file in files]
    base = os.path.commonpath([os.path.dirname(path) for path in paths]) if root is None else root
    videos = [
        Video(id=_id_below(base, path), path=Path(path), origin=str(file))
        for file, path in zip(files, paths, strict=True)
    ]
    return _Found(videos, _without_file(videos), Counter())


# --- messages


def _some(problems: Sequence[str], count: int | None = None) -> str:
    """The first few problems, and how many more there are."""
    more = (len(problems) if count is None else count) - _PROBLEMS_SHOWN
    return "; ".join(problems[:_PROBLEMS_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
