"""Which videos of a cache are meant: by the rows of a list, by an id, a path or a pattern."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence

from ...cache import FeatureCache
from ..datasets import DatasetError, Video, segment_of


def match_list(videos: Iterable[Video], cache: FeatureCache) -> tuple[dict[str, Video], list[Video]]:
    """Return the row of each video of the cache that a list names, by id, and the rows of videos that are not there.

    A row names the video of its id; where there is none, the videos that were read from its path (and of a segment,
    those of its times).
    Raises DatasetError where two rows name one video.
    """
    by_path: dict[tuple[object, ...], list[str]] = {}
    for id, path in zip(cache.ids, cache.videos.strings("path"), strict=True):
        by_path.setdefault((path, *segment_of(id, path)), []).append(id)
    found: dict[str, Video] = {}
    absent: list[Video] = []
    for video in videos:
        place = (str(video.path), video.start_seconds, video.end_seconds)
        ids = [video.id] if video.id in cache else by_path.get(place, [])
        if not ids:
            absent.append(video)
        for id in ids:
            if id in found:
                raise DatasetError(
                    f"{found[id].where} and {video.where} both name the video {id!r} of {cache.folder}: keep one of them."
                )
            found[id] = video
    return found, absent


def match_name(name: str, cache: FeatureCache) -> list[str]:
    """Return the ids of the videos that a name means: an id, or else a path, or else a pattern of ids.

    name    in a pattern `*` stands for any characters, `/` too, `?` for one, `[ab]` for one of several
    Raises DatasetError where it means none.
    """
    if name in cache:
        return [name]
    found = [cache.ids[i] for i, path in enumerate(cache.videos.strings("path")) if path == name]
    found = found or _of_pattern(name, cache.ids)
    if not found:
        raise DatasetError(
            f"No video of {cache.folder} is called {name!r}.{_close(name, cache.ids)} Give its id, the path it was read "
            "from, or a pattern such as 'yoga/*'."
        )
    return found


def match_removed(name: str, cache: FeatureCache) -> list[str]:
    """Return the removed videos that an id, or a pattern of ids, means. Raises DatasetError where it means none."""
    removed = cache.removed
    if found := [name] if name in removed else _of_pattern(name, removed):
        return found
    raise DatasetError(f"No removed video of {cache.folder} is called {name!r}.{_close(name, removed)}")


def _of_pattern(name: str, ids: Sequence[str]) -> list[str]:
    if not any(character in name for character in "*?["):
        return []
    matches = re.compile(fnmatch.translate(name)).match
    return [id for id in ids if matches(id)]


def _close(name: str, ids: Sequence[str]) -> str:
    # In a large cache the comparison with every id would take longer than the work.
    close = difflib.get_close_matches(name, ids[:20_000], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
