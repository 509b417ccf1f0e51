"""Video lists from what a user names: a folder, a list file, or videos one by one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...lexicons import Lexicon
from ..video import is_remote
from .csv_lists import read_csv_list
from .folders import SPLIT_FOLDERS, Found, find_in_folder, is_frame_folder
from .ids import check_unicode, id_below, without_dots
from .presence import without_file
from .repository_lists import read_list
from .video_list import DatasetError, Video, VideoList, natural_key, plural, preview

_NO_VIDEO_SUFFIXES = frozenset({".txt", ".tsv", ".json", ".xls", ".xlsx", ".ods", ".parquet"})


def read_videos(
    source: str | Path | Sequence[str | Path],
    *,
    root: str | Path | None = None,
    allow_missing: bool = False,
    lexicon: Lexicon | None = None,
    images: bool = False,
) -> VideoList:
    """Return the videos of a folder, of a list, or named one by one. A video is a file or a folder of frames.

    source         A folder: every video file below it, and every folder below it that holds images
                   (``img_00001.jpg``, ...) and neither videos nor folders. ``source/<label>/<video>`` gives
                   labels; of a video that lies deeper, the first folder is the label; videos directly in the
                   source have none. When every video is in a folder called train, val, validation
                   or test, these are splits, and labels are one level below:
                   ``source/<split>/<label>/<video>``. Symbolic links are followed. With `images`, the videos
                   are the image files below it, each of one frame, and nothing else.
                   A ``.csv`` file in UTF-8 with the header ``path,label,split`` in any order; label
                   and split may be absent, the header is row 1. A column ``labels`` in the place of ``label``
                   gives several, with ``;`` between them. Columns ``start`` and ``end`` (seconds, either
                   may be empty) make a row a segment of its video, with ``#t=START,END`` in its id. A video
                   in several splits names them with spaces between: ``train1 test2``. Other columns are
                   ignored.
                   A ``.txt`` list of the BIKE, Text4Vis or X-CLIP repositories: lines ``path frames label``
                   or ``path label``, the labels numbers that count the classes of `lexicon` from 0.
                   A path may be an address in an object store or on a web server (``s3://bucket/a.mp4``, ``gs://``,
                   ``https://``): the video is copied when it is read, and whether it is there is seen then. Its id
                   is the address, without user, password and query.
                   Any other file, or several, or one folder of frames: videos without labels.
                   An image that a list names, or that is named itself, is a video of one frame.
                   Several folders and lists, and files among them: the videos of all, each read as if it were named
                   alone. Their ids begin with the name of the folder, of the folder of the list or of the file, where
                   these are not the same folder; so they do not depend on what else is named, nor on the order.
                   Folders that are all called like splits give their names as splits.
    root           The folder where ids begin, and to which the paths of a list are relative. Default:
                   the folder itself, the folder of the list, or the deepest folder that holds all the
                   named files; of several folders or lists, the folder above each. A video elsewhere keeps its absolute path as id; one that a list
                   reaches with ``../`` keeps that.
    allow_missing  Leave out videos whose file is not there, and name them in `VideoList.missing`.
    lexicon        The classes of a ``.txt`` list. Other sources name their labels; see `check_labels`.
    images         Take each image below the folders of `source` as a video. Other sources are refused.

    Returns the videos in natural order of their ids (``clip2`` before ``clip10``), whatever the order
    on disk or in the list, so that the same videos always make the same list.
    Raises DatasetError when the source cannot be read or holds no video, when a video is listed
    twice or missing, when rows do not fit their header, and when several folders have one name and no `root`
    tells them apart.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(each) for each in source]
    if not sources:
        raise DatasetError("No videos were named: give a folder, a CSV file, or video files.")
    if root is not None and not os.path.isdir(root):
        raise DatasetError(f"The root {root} is not a folder: give the folder that holds the videos.")
    base = None if root is None else without_dots(str(root))
    first, single = sources[0], len(sources) == 1
    beside = base or os.path.dirname(without_dots(str(first)))
    if images and (others := [str(each) for each in sources if not each.is_dir()]):
        raise DatasetError(
            f"Images are looked for in folders, and {preview(others)} is none: an image that is named, or listed, "
            f"is a video of one frame without --images."
        )
    if not single and any(_holds_several(each) or images for each in sources):
        return _read_several(sources, base, allow_missing=allow_missing, lexicon=lexicon, images=images)
    if images:
        found = find_in_folder(first, base, images=True)
    elif single and first.is_dir() and not is_frame_folder(first):
        found = find_in_folder(first, base)
    else:
        if single and first.suffix.lower() == ".csv":
            videos = read_csv_list(first, beside)
        elif single and first.suffix.lower() == ".txt" and first.exists() and not first.is_dir():
            videos = read_list(first, beside, lexicon)
        else:
            videos = _take_files(sources, base)
        found = Found(videos, without_file(videos), Counter())
    below = "" if root is None else Path(root).absolute()
    named = f"{' '.join(str(path.absolute()) for path in sources)} below {below}"
    return _checked(found, named, allow_missing=allow_missing)


def read_paths(paths: Sequence[str | Path]) -> VideoList:
    """Return the videos of one or several sources, as `read_videos` does, for use without a cache.

    Where folders of several have one name, ids begin at the deepest folder that holds them all. Raises DatasetError as
    `read_videos` does.
    """
    sources = [Path(path) for path in paths]
    several = len(sources) > 1 and any(_holds_several(source) for source in sources)
    bases = {_base_of(source) for source in sources} if several else set()
    meet = len({os.path.basename(base) for base in bases}) < len(bases)
    return read_videos(sources, root=os.path.commonpath(bases) if meet else None)


def read_rows(path: str | Path, *, root: str | Path | None = None) -> VideoList:
    """Return the videos of a CSV list in the order of its rows; whether their files are there is not asked.

    path    a ``.csv`` file as for `read_videos`
    root    where ids begin, and what paths are relative to, whether or not it is there. Default: the folder of the list
    Raises DatasetError when the list cannot be read, names no video, or one twice.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() != ".csv":
        raise DatasetError(f"{path} is no list: write a .csv file with the header path,label,split.")
    base = os.path.dirname(without_dots(str(path))) if root is None else without_dots(str(root))
    videos = read_csv_list(path, base)
    check_unicode(video.id for video in videos)
    return VideoList(videos, source=f"{path.absolute()} below {base}")


def _read_several(
    sources: Sequence[Path],
    root: str | None,
    *,
    allow_missing: bool,
    lexicon: Lexicon | None,
    images: bool,
) -> VideoList:
    """Return the videos of several sources, each read by itself.

    root    where all ids begin. None: each begins with the name of its own base, unless all have the same base
    """
    sources = list(dict.fromkeys(sources))
    bases = {source: _base_of(source) for source in sources}
    prefixes = dict.fromkeys(sources, "") if root else _prefixes(bases)
    names = {source: os.path.basename(base) for source, base in bases.items()}
    are_splits = all(
        source.is_dir() and _holds_several(source) and names[source].lower() in SPLIT_FOLDERS
        for source in sources
    )
    videos: list[Video] = []
    missing: list[Video] = []
    notes: list[str] = []
    n_other_files = 0
    for source in sources:
        found = read_videos(source, root=root, allow_missing=allow_missing, lexicon=lexicon, images=images)

        def renamed(video: Video, source: Path = source) -> Video:
            whole = os.path.isabs(video.id) or is_remote(video.path)
            id = video.id if whole else prefixes[source] + video.id
            split = video.split or (names[source] if are_splits else "")
            return replace(video, id=id, split=split, origin=video.origin or str(video.path))

        videos += map(renamed, found)
        missing += map(renamed, found.missing)
        notes += found.notes
        n_other_files += found.n_other_files
    _check_once(videos)
    return VideoList(
        sorted(videos, key=lambda video: natural_key(video.id)),
        n_other_files=n_other_files,
        missing=sorted(missing, key=lambda video: natural_key(video.id)),
        notes=notes,
        source=" ".join([*sorted(str(source.absolute()) for source in sources), f"below {root or ''}"]),
    )


def _base_of(source: Path) -> str:
    """Return the folder below which the ids of a source begin."""
    path = without_dots(str(source))
    return path if source.is_dir() and not is_frame_folder(source) else os.path.dirname(path)


def _prefixes(bases: Mapping[Path, str]) -> dict[Path, str]:
    """Return what stands before the ids of each source. Raises DatasetError where two bases have one name."""
    different = sorted(set(bases.values()))
    if len(different) == 1:
        return dict.fromkeys(bases, "")
    by_name: dict[str, str] = {}
    for base in different:
        name = os.path.basename(base)
        other = by_name.setdefault(name, base)
        if not name or other != base:
            raise DatasetError(
                f"The folders {other} and {base} have one name, which ids would begin with: name a folder that holds "
                f"both, where ids begin instead (--root {os.path.commonpath(different)})."
            )
    return {source: f"{os.path.basename(base)}/" for source, base in bases.items()}


def _check_once(videos: Sequence[Video]) -> None:
    """Raise DatasetError for a file, or a segment of one, that two sources bring under two ids."""
    first: dict[tuple[object, ...], Video] = {}
    twice = []
    for video in videos:
        other = first.setdefault((str(video.path), video.start_seconds, video.end_seconds), video)
        if other.id != video.id:
            twice.append(f"{video.path} ({other.id!r} and {video.id!r})")
    if twice:
        raise DatasetError(
            f"Videos that two of the sources bring: {preview(twice)}. Leave out the source that another one holds."
        )


def _holds_several(source: Path) -> bool:
    """Return whether a source is a folder of videos or a list, and no video itself."""
    if source.is_dir():
        return not is_frame_folder(source)
    return source.suffix.lower() in (".csv", ".txt")


def _take_files(files: list[Path], root: str | None) -> list[Video]:
    for file in files:
        if not os.path.lexists(file):
            raise DatasetError(f"There is no file or folder {file}.")
        if file.suffix.lower() in _NO_VIDEO_SUFFIXES and not file.is_dir():
            raise DatasetError(
                f"{file} is not a video. A list of videos is a .csv file with the header path,label,split."
            )
    paths = [without_dots(str(file)) for file in files]
    base = os.path.commonpath([os.path.dirname(path) for path in paths]) if root is None else root
    return [
        Video(id=id_below(base, path), path=Path(path), origin=str(file))
        for file, path in zip(files, paths, strict=True)
    ]


def _checked(found: Found, source: str, *, allow_missing: bool) -> VideoList:
    check_unicode(video.id for video in found.videos)
    ordered = sorted(found.videos, key=lambda video: natural_key(video.id))
    listed = VideoList(ordered)  # finds what is listed twice, before what is missing
    missing = [video for video in ordered if video.id in found.missing]
    if missing and not allow_missing:
        names = [f"{video.path} ({video.origin})" if video.origin else str(video.path) for video in missing]
        slash = " Write / between folders, not \\." if any("\\" in video.id for video in missing) else ""
        raise DatasetError(
            f"{plural(len(missing), 'listed video')} cannot be found: {preview(names)}.{slash} "
            f"Correct the paths, or name the folder they are relative to (--root)."
        )
    if len(missing) == len(listed):
        raise DatasetError(f"None of the {len(listed):,} listed videos can be found: correct their paths.")
    present = [video for video in ordered if video.id not in found.missing] if missing else ordered
    return VideoList(present, n_other_files=found.other_files.total(), missing=missing, source=source)
