"""Which of the listed videos are there: folders are listed instead of asking for each file."""

# Paths are text until the list is whole: pathlib would take most of the time of 250,000 rows.
# ruff: noqa: PTH112, PTH113, PTH120
from __future__ import annotations

import os
from typing import NamedTuple

from .folders import VIDEO_SUFFIXES, is_frame_folder, is_true, suffix_of
from .video_list import Video, natural_key

_FEW = 5
"""So many files of one folder are asked for one by one: the folder may hold a million others."""


class Listing(NamedTuple):
    """What a folder holds."""

    files: frozenset[str]
    folders: frozenset[str]


def list_folder(path: str) -> Listing | None:
    """None for a folder that cannot be read."""
    files, folders = [], []
    try:
        with os.scandir(path) as scan:
            for entry in scan:
                if is_true(entry.is_file):
                    files.append(entry.name)
                elif is_true(entry.is_dir):
                    folders.append(entry.name)
    except OSError:
        return None
    return Listing(frozenset(files), frozenset(folders))


def without_file(videos: list[Video]) -> set[str]:
    """Ids of the videos whose file, or folder of frames, is not there.

    Listed folders that lie side by side are looked into until one holds frames: then so will the others. A
    hundred thousand folders are too many to open before the work begins.
    """
    by_folder: dict[str, list[Video]] = {}
    for video in videos:
        by_folder.setdefault(os.path.dirname(video.path), []).append(video)
    missing = set()
    for folder, members in by_folder.items():
        listing = list_folder(folder) if len(members) >= _FEW else None
        frames = False
        for video in members:
            name = video.path.name
            # A name may differ from that on disk and still find it, where case does not count.
            if (listing and name in listing.files) or os.path.isfile(video.path):
                continue
            if (listing and name in listing.folders) or os.path.isdir(video.path):
                frames = frames or is_frame_folder(video.path)
                if frames:
                    continue
            missing.add(video.id)
    return missing


class Completer:
    """Finds what a list means by a name without a suffix: ``v_x`` is the folder ``v_x``, or ``v_x.avi``."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str]] = {}

    def __call__(self, folder: str, name: str) -> str:
        """The name in this folder; the name as it is where nothing fits."""
        if suffix_of(name) in VIDEO_SUFFIXES:
            return name
        if folder not in self._names:
            listing = list_folder(folder) or Listing(frozenset(), frozenset())
            videos = [file for file in listing.files if suffix_of(file) in VIDEO_SUFFIXES]
            # Of a.avi and a.mp4 the first counts; a folder, and a file of just this name, before both.
            names = {file.rpartition(".")[0]: file for file in sorted(videos, key=natural_key, reverse=True)}
            self._names[folder] = names | {each: each for each in (*listing.files, *listing.folders)}
        return self._names[folder].get(name, name)
