"""Videos whose content a cache has already, under another name or from another time: their features are copied.

Knows files and caches, but no encoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ...cache import CacheWriter, FeatureCache, VideoInfo, VideoRecord, stored_records
from ..datasets import Video, segment_of
from ..video import content_digest, is_remote, is_whole
from .stamps import Stamp, root_of, stamps_of


@dataclass(frozen=True)
class KnownContent:
    """A video to read, whose file has the content of one that the cache has the features of."""

    video: Video
    """With the labels and split that it will have."""
    before: VideoInfo
    """The video of the cache, of the same segment."""
    stamp: Stamp
    """Of the file of today."""
    gone: bool
    """Whether the file of before is gone, and the list does not name it: the video was renamed or moved."""

    @property
    def same_id(self) -> bool:
        return self.video.id == self.before.id

    def __str__(self) -> str:
        return f"{self.before.id} -> {self.video.id}"


def find_known_content(
    todo: Sequence[Video], cache: FeatureCache, listed: Callable[[], set[str]], *, keep_labels: bool
) -> dict[str, KnownContent]:
    """Return those of the videos to read whose content, and segment, the cache has, by id.

    Only files of a size that the cache knows are read. Where digests were taken of parts of a large file, the time of
    modification must agree too. Where frames are drawn at random, by the id of a video, only its own features are its.

    listed         returns all ids of the list; they are not counted as gone
    keep_labels    whether a renamed video keeps its labels and split: the list says nothing of them
    """
    todo = [video for video in todo if not is_remote(video.path)]  # digests would need their content
    table = cache.rows.table
    if not todo or not len(cache) or not len(table["source_digest"].data):  # no digest at all
        return {}
    stamps = stamps_of(video.path for video in todo)
    sizes = np.unique([stamp.size for stamp in stamps.values() if stamp.known])
    of_videos = table["source_bytes"][cache.counted]
    by_digest: dict[tuple[object, ...], list[VideoInfo]] = {}
    for index in np.flatnonzero(np.isin(of_videos, sizes)):
        info = cache.videos[index]
        if info.source_digest:
            by_digest.setdefault((info.source_digest, *segment_of(info.id, info.path)), []).append(info)
    known_sizes = {info.source_bytes for several in by_digest.values() for info in several}
    sized = [video for video in todo if stamps[str(video.path)].size in known_sizes]
    if not sized:
        return {}
    digests = _digests_of(str(video.path) for video in sized)
    drawn, named = cache.identity.sampling.get("position") == "random", listed()
    found: dict[str, KnownContent] = {}
    for video in sized:
        stamp, digest = stamps[str(video.path)], digests[str(video.path)]
        same = [
            info
            for info in by_digest.get((digest, video.start_seconds, video.end_seconds), ())
            if (info.id == video.id or not drawn)
            and (is_whole(digest) or stamp.same(Stamp(info.source_bytes, info.source_modified_ns)))
        ]
        if not same:
            continue
        gone = {
            info.id
            for info in same
            if info.id not in named and not is_remote(info.path) and not os.path.lexists(info.path)
        }
        path = os.path.abspath(video.path)
        before = min(
            same, key=lambda info: (info.id != video.id, info.id not in gone, info.path != path, info.id)
        )
        renamed = before.id in gone
        if renamed and keep_labels:
            video = replace(video, labels=video.labels or before.labels, split=video.split or before.split)
        found[video.id] = KnownContent(video, before, stamp, renamed)
    return found


def copy_known_content(
    known: Iterable[KnownContent], generations: Mapping[str, int], stored: FeatureCache, writer: CacheWriter
) -> None:
    """Copy the features of videos under their new ids, and take the ids whose files are gone out of the cache.

    stored    the cache that `known` was found in, which `writer` writes to
    Raises CacheError, OSError.
    """
    by_precision: dict[str, list[KnownContent]] = {}
    for each in known:
        shard = stored.shard_of(stored.index(each.before.id))
        by_precision.setdefault(shard.precision, []).append(each)
    for precision, several in by_precision.items():
        writer.use_precision(precision)
        for record in _records(several, generations, stored):
            writer.add(record)
    writer.flush()
    renamed = [each.before.id for several in by_precision.values() for each in several if each.gone]
    if renamed:
        writer.remove(renamed)
    if by_precision:
        stored.refresh()


def _records(
    known: Sequence[KnownContent], generations: Mapping[str, int], stored: FeatureCache
) -> Iterable[VideoRecord]:
    for place, record in stored_records(stored, [stored.index(each.before.id) for each in known]):
        video, stamp = known[place].video, known[place].stamp
        yield replace(
            record,
            id=video.id,
            path=str(video.path),
            labels=video.labels,
            split=video.split,
            root=root_of(video),
            source_bytes=stamp.size,
            source_modified_ns=stamp.modified_ns,
            generation=generations.get(video.id, 0),
        )


def _digests_of(paths: Iterable[str]) -> dict[str, str]:
    """Digest files in several threads: a network file system is waited for."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(unique, pool.map(content_digest, unique), strict=True))
