"""Videos of a cache whose files are gone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ...cache import FeatureCache, VideoInfo
from ..video import DecodeError, is_remote, remote_stamp


@dataclass(frozen=True)
class Gone:
    """What became of the files of a cache's videos."""

    ids: Sequence[str]
    """Videos whose files are gone, where others of their root are there."""
    roots: Mapping[str, Sequence[str]]
    """Root -> videos, where no file of any is left: the folder was moved, or its disk is not mounted."""
    unknown: Sequence[str]
    """Videos whose files cannot be asked for: no permission, a link that leads nowhere, no path."""


def find_gone(cache: FeatureCache) -> Gone:
    """Look for the file, or folder of images, of every video of a cache. None is opened."""
    paths = list(dict.fromkeys(video.path for video in cache.videos))
    with ThreadPoolExecutor(16) as pool:
        state = dict(zip(paths, pool.map(_state, paths), strict=True))
    alive = {_root(video) for video in cache.videos if state[video.path] == "there"}
    ids: list[str] = []
    roots: dict[str, list[str]] = {}
    for video in cache.videos:
        if state[video.path] == "gone":
            (ids if _root(video) in alive else roots.setdefault(_root(video), [])).append(video.id)
    return Gone(ids, roots, [video.id for video in cache.videos if state[video.path] == "unknown"])


def _root(video: VideoInfo) -> str:
    return video.root or os.path.dirname(video.path)


def _state(path: str) -> str:
    try:
        if is_remote(path):
            remote_stamp(path)
        else:
            os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "unknown" if not path or os.path.islink(path) else "gone"
    except (OSError, ValueError, DecodeError):
        return "unknown"
    return "there"
