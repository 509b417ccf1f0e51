"""Videos in a tree of folders: files called like videos, and folders of frame images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from .ids import without_dots
from .video_list import PROBLEMS_SHOWN, DatasetError, Video, plural

SPLIT_FOLDERS = frozenset({"train", "val", "validation", "test"})
"""Names of folders that are splits rather than labels, in any case, where no other folder is beside them."""


class Found(NamedTuple):
    """What a source lists, before it is checked against the disk."""

    videos: list[Video]
    missing: set[str]
    """Ids of those whose file is not there."""
    other_files: Counter[str]
    """Files left out, by the end of their names."""


class Folder(NamedTuple):
    """A folder of a tree, as `walk` found it."""

    prefix: str
    """Its path below the top with a ``/`` behind it; empty for the top itself."""
    files: list[os.DirEntry[str]]
    """What is no folder, hidden files included: also pipes, and links that lead nowhere."""
    folders: list[str]
    """Names of the folders in it, but for hidden ones."""


def walk(top: str, enter: Callable[[str], bool] = lambda _: True) -> Iterator[Folder]:
    """Yield a folder and all below it, each read once. Links are followed, but not in circles.

    enter    Says by its name whether a folder is looked into.
    Raises DatasetError for a folder that cannot be read.
    """
    # A folder waits with the identities of those above it: a link to one of them would lead round in a
    # circle. (A link to any other folder is followed, also when that folder is listed by itself.)
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        prefix, above = waiting.pop()
        path = f"{top}/{prefix}"
        try:
            status = os.stat(path)
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
        files, folders = [], []
        for entry in entries:
            if entry.name.startswith("."):
                if not entry.is_dir(follow_symlinks=False):
                    files.append(entry)
            elif is_true(entry.is_dir):
                folders.append(entry.name)
            else:
                files.append(entry)
        yield Folder(prefix, files, folders)
        above |= {identity}
        waiting += [(f"{prefix}{name}/", above) for name in folders if enter(name)]


def suffix_of(name: str) -> str:
    """Return the end of a file's name in lower case, with its dot; empty where there is none."""
    return name[name.rfind(".") :].lower() if "." in name else ""


def stem_of(name: str) -> str:
    """Return a video's name without its suffix."""
    return name.rpartition(".")[0] if suffix_of(name) in VIDEO_SUFFIXES else name


def is_true(question: Callable[[], bool]) -> bool:
    """Return the answer of a directory entry; False for a link that leads to itself."""
    try:
        return question()
    except OSError:
        return False


def is_frame_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds images, and neither videos nor folders."""
    images = False
    try:
        with os.scandir(path) as scan:
            for entry in scan:
                if entry.name.startswith("."):
                    continue
                suffix = suffix_of(entry.name)
                if suffix in VIDEO_SUFFIXES or is_true(entry.is_dir):
                    return False
                images = images or suffix in IMAGE_SUFFIXES
    except OSError:
        return False
    return images


def find_in_folder(folder: Path, root: str | None, *, images: bool = False) -> Found:
    """Return the videos below a folder, with labels and splits from the folders they are in (see `read_videos`)."""
    top = without_dots(str(folder))
    root = top if root is None else root
    if os.path.commonpath([root, top]) != root:
        raise DatasetError(f"The folder {folder} is not below the root {root}: give a root that holds it.")
    prefix = "" if root == top else f"{os.path.relpath(top, root)}/"
    names, missing, other_files = _videos_below(top, images=images)
    if not names:
        others = ", ".join(suffix or "no suffix" for suffix, _ in other_files.most_common(PROBLEMS_SHOWN))
        seen = f" ({plural(other_files.total(), 'other file')}: {others})" if others else ""
        if images:
            raise DatasetError(
                f"There is no image below {folder}{seen}. Images are files whose names end in one of "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        raise DatasetError(
            f"There is no video below {folder}{seen}. Videos are files whose names end in one of "
            f"{', '.join(sorted(VIDEO_SUFFIXES))}, and folders of images; name other files one by one, or in "
            f"a CSV."
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
    return Found(videos, {prefix + name for name in missing}, other_files)


def _videos_below(top: str, *, images: bool) -> tuple[list[str], set[str], Counter[str]]:
    """Return the videos below a folder, those of them that are not there, and the other files' suffixes.

    images    Whether each image is a video, and nothing else is; otherwise the images of a folder are one.
    """
    suffixes = IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
    names: list[str] = []
    missing: set[str] = set()
    other_files: Counter[str] = Counter()
    for prefix, files, folders in walk(top):
        n_before = len(names)
        frames: Counter[str] = Counter()
        for entry in files:
            suffix, hidden = suffix_of(entry.name), entry.name.startswith(".")
            if suffix in suffixes and not hidden and (entry.is_symlink() or entry.is_file()):
                names.append(prefix + entry.name)
                if not is_true(entry.is_file):
                    missing.add(prefix + entry.name)
            else:
                (frames if suffix in IMAGE_SUFFIXES and not hidden else other_files)[suffix] += 1
        if prefix and len(names) == n_before and not folders and frames and not images:
            names.append(prefix[:-1])
        else:
            other_files += frames
    return names, missing, other_files
