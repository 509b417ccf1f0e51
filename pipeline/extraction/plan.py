"""What an extraction has to do: which videos of a list are new, were changed, or are to be tried again.

Knows files and caches, but no encoder: to find that there is nothing to do takes no torch.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...cache import (
    Failure,
    FeatureCache,
    ListFacts,
    MissingVideo,
    VideoInfo,
    update_labels,
    update_missing,
)
from ..datasets import Video, VideoList
from ..video import Sampling, VideoRequest, is_remote
from .known_content import KnownContent, find_known_content
from .settings import ExtractSettings
from .stamps import Stamp, stamp_of, stamps_of


class SourceChanged(Exception):
    """Files of videos that are in the cache have changed, and the extraction was not to go on then."""


@dataclass(frozen=True)
class Change:
    """A video that the cache has from another file than the one that the list names today."""

    video: Video
    before: VideoInfo

    @property
    def elsewhere(self) -> bool:
        return str(self.video.path) != self.before.path

    def __str__(self) -> str:
        if self.elsewhere:
            return f"{self.video.id}: {self.before.path} before, {self.video.path} now"
        return f"{self.video.id}: {self.video.path} is another file than before"


@dataclass(frozen=True)
class Plan:
    """What is to be done with the videos of a list, or of a part of it."""

    videos: VideoList
    """All of them, those that are there included."""
    todo: list[Video]
    """Those to read, with the labels and splits that they will have."""
    generations: dict[str, int]
    """The generation of a video to read, by id, where it is not 0."""
    changed: list[Change]
    """Those that are read again, because their files have changed."""
    kept: list[Change]
    """Those that have changed, and whose old features stay (`keep`)."""
    unknown: int
    """How many in the cache may have changed or not: an older vidclip read them, without their sizes and times."""
    facts: dict[str, ListFacts]
    """Labels and splits in which the list differs from the cache, by id."""
    relabeled: int
    """Videos of the cache whose labels or split change."""
    known: Sequence[KnownContent] = ()
    """Those whose content the cache has: they are not read, their features are copied."""

    def apply_list(self, cache: FeatureCache) -> None:
        """Write down what the list says; nothing of it needs an encoder."""
        update_labels(cache.folder, self.facts, len(cache))
        source = self.videos.source
        missing = (
            MissingVideo(video.id, video.split, video.labels, video.origin, source)
            for video in self.videos.missing
        )
        update_missing(cache.folder, missing, source, cache, {video.id for video in self.videos})


def videos_of_part(videos: VideoList, part: tuple[int, int] | None) -> VideoList:
    """Return the videos of part i of n; all where no part is asked for.

    The part of a video depends on its id alone, so all jobs agree, whatever they find.
    """
    if part is None:
        return videos
    digests = (hashlib.sha256(video.id.encode("utf-8", "surrogateescape")).digest() for video in videos)
    in_part = (int.from_bytes(digest[:8], "big") % part[1] == part[0] for digest in digests)
    return videos.subset(itertools.compress(videos, in_part))


def plan_extraction(videos: VideoList, cache: FeatureCache, settings: ExtractSettings) -> Plan:
    """Compare a list with a cache; nothing is read but the sizes and times of files, and the content of new or changed
    files of a size that the cache knows.

    Raises SourceChanged where files have changed and `settings.changed` does not say what to do.
    """
    mine = videos_of_part(videos, settings.part)
    failed = {failure.id: failure for failure in cache.failures()}
    stamps = stamps_of(video.path for video in mine if video.id in cache or video.id in failed)
    unknown = relabeled = 0
    todo: list[Video] = []
    changes: list[Change] = []
    facts: dict[str, ListFacts] = {}
    has_labels, has_splits = any(video.labels for video in videos), any(video.split for video in videos)
    collisions: list[Change] = []
    for video in mine:
        info = cache.videos[cache.index(video.id)] if video.id in cache else None
        known = cache.list_facts.get(video.id) if info is None else ListFacts(info.labels, info.split)
        said = ListFacts(
            video.labels if has_labels or known is None else known.labels,
            video.split if has_splits or known is None else known.split,
        )
        if known is not None and said != known:
            facts[video.id] = said
            relabeled += info is not None
        wanted = replace(video, **said._asdict()) if said != (video.labels, video.split) else video
        if info is not None:
            verdict = _compare(info, video, stamps[str(video.path)])
            unknown += verdict == "unknown"
            if verdict in ("changed", "two videos"):
                changes.append(Change(video, info))
                if verdict == "two videos":
                    collisions.append(changes[-1])
                if settings.changed != "keep":
                    todo.append(wanted)
        elif (
            video.id not in failed
            or settings.retry_failed
            or _may_pass(failed[video.id])
            or (settings.changed != "keep" and _mended(failed[video.id], stamps[str(video.path)]))
        ):
            todo.append(wanted)
    known = find_known_content(
        todo,
        cache,
        lambda: {video.id for each in (videos, videos.missing) for video in each},
        keep_labels=not (has_labels or has_splits),
    )
    # Such files have another time, and no other content.
    same = {id for id, each in known.items() if each.same_id}
    changes = [change for change in changes if change.video.id not in same]
    collisions = [change for change in collisions if change.video.id not in same]
    kept: list[Change] = []
    if settings.changed == "keep":
        kept, changes = changes, []
    elif changes and settings.changed == "error":
        raise SourceChanged(
            f"{_videos(len(changes))} of {cache.folder} {'has' if len(changes) == 1 else 'have'} another file today "
            f"({changes[0]}). --changed encode reads them again, --changed keep leaves their features as they are."
        )
    elif collisions and settings.changed == "encode":
        raise SourceChanged(_collision_message(cache, collisions))
    generations = {video.id: number for video in todo if (number := cache.next_generation(video.id))}
    todo = [video for video in todo if video.id not in known]
    changes = [change for change in changes if change.video.id not in known]
    return Plan(mine, todo, generations, changes, kept, unknown, facts, relabeled, tuple(known.values()))


def request_of(video: Video, sampling: Sampling) -> VideoRequest:
    """Return what a decoder is asked for. Raises ValueError for a segment that ends before it begins."""
    draw = sampling.draw_of(video.id)
    try:
        return VideoRequest(video.path, video.start_seconds, video.end_seconds, draw)
    except ValueError as error:
        raise ValueError(f"{video.where}: {error}") from None


def _compare(info: VideoInfo, video: Video, now: Stamp) -> str:
    """Return `same`, `changed`, `unknown`, or `two videos` where the file from before is still there, elsewhere."""
    then, path = Stamp(info.source_bytes, info.source_modified_ns), str(video.path)
    if not now.known:  # it has gone since it was listed
        return "same"
    if then.known and then.same(now):
        return "same"
    elsewhere = path != info.path
    there = elsewhere and is_there(info.path) and not _same_file(path, info.path)
    if not then.known:
        # Where an older vidclip did not write down what it read, the file from before may still say it.
        if not elsewhere or not there:
            return "same" if elsewhere and _same_file(path, info.path) else "unknown"
        return "same" if stamp_of(info.path).same(now) else "two videos"
    return "two videos" if there else "changed"


def is_there(path: str) -> bool:
    """Return whether there is a file, a folder of images, or an object in a store."""
    return stamp_of(path).known if is_remote(path) else os.path.exists(path)


def _may_pass(failure: Failure) -> bool:
    """Return whether a video may be read today because its store was the reason, not the video."""
    return is_remote(failure.path) and failure.stage in ("missing", "permission", "network", "timeout")


def _same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _mended(failure: Failure, now: Stamp) -> bool:
    """Return whether a video could not be read before, and has another file today."""
    then = Stamp(failure.source_bytes, failure.source_modified_ns)
    return then.known and now.known and not then.same(now)


def _collision_message(cache: FeatureCache, collisions: list[Change]) -> str:
    first = collisions[0]
    above = os.path.commonpath([os.path.dirname(first.before.path), os.path.dirname(first.video.path)])
    more = f" So it is with {_videos(len(collisions) - 1)} more." if len(collisions) > 1 else ""
    return (
        f"two videos are called {first.video.id!r}: {cache.folder} has the features of {first.before.path}, which is "
        f"still there, and this list names {first.video.path}.{more}\n"
        f"To keep both, begin the ids in a folder above both (--root {above}), or use another --cache. "
        "--changed replace puts the new ones in the place of the old, --changed keep leaves the old."
    )


def _videos(n: int) -> str:
    return f"{n:,} video{'' if n == 1 else 's'}"
