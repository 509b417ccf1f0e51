"""Which of the listed videos are there: folders are listed instead of asking for each file."""

from __future__ import annotations

import contextlib
import os

from ..video import VIDEO_SUFFIXES, RemotePath
from .folders import is_frame_folder, is_true, suffix_of
from .video_list import Video, natural_key

_FEW = 5
"""So many files of one folder are asked for one by one: the folder may hold a million others."""


def list_folder(path: str) -> tuple[set[str], set[str]]:
    """Return the names of the files and of the folders in a folder; none of one that cannot be read."""
    files: set[str] = set()
    folders: set[str] = set()
    with contextlib.suppress(OSError), os.scandir(path) as scan:
        for entry in scan:
            if is_true(entry.is_file):
                files.add(entry.name)
            elif is_true(entry.is_dir):
                folders.add(entry.name)
    return files, folders


def without_file(videos: list[Video]) -> set[str]:
    """Return the ids of the videos whose file, or folder of frames, is not there.

    Listed folders that lie side by side are looked into until one holds frames: then so will the others. A
    hundred thousand folders are too many to open before the work begins.
    """
    by_folder: dict[str, list[Video]] = {}
    for video in videos:
        if not isinstance(video.path, RemotePath):  # a store is asked when the video is read
            by_folder.setdefault(os.path.dirname(video.path), []).append(video)
    missing = set()
    for folder, members in by_folder.items():
        files, folders = list_folder(folder) if len(members) >= _FEW else (set(), set())
        frames = False
        for video in members:
            name = os.path.basename(video.path)
            # A name may differ from that on disk and still find it, where case does not count.
            if name in files or os.path.isfile(video.path):
                continue
            if name in folders or os.path.isdir(video.path):
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
        """Return the name in this folder; the name as it is where nothing fits."""
        if suffix_of(name) in VIDEO_SUFFIXES:
            return name
        if folder not in self._names:
            files, folders = list_folder(folder)
            videos = [file for file in files if suffix_of(file) in VIDEO_SUFFIXES]
            # Of a.avi and a.mp4 the first counts; a folder, and a file of just this name, before both.
            names = {file.rpartition(".")[0]: file for file in sorted(videos, key=natural_key, reverse=True)}
            self._names[folder] = names | {each: each for each in (*files, *folders)}
        return self._names[folder].get(name, name)
