"""What an extraction has to do: which videos of a list are new, were changed, or are to be tried again.

Knows files and caches, but no encoder: to find that there is nothing to do takes no torch.
"""

# Paths are text here: pathlib would take most of the time of 250,000 files.
# ruff: noqa: PTH110, PTH116, PTH120, PTH121
from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ...cache import (
    CacheMismatch,
    Failure,
    FeatureCache,
    Identity,
    ListFacts,
    MissingVideo,
    VideoInfo,
    update_labels,
    update_missing,
)
from ...cache.failures import mark_reported
from ...cache.features import IDENTITY_FILE
from ...cache.files import folder_turn, writer_lock
from ..datasets import IMAGE_SUFFIXES, Video, VideoList
from ..encoders import EncoderRequest, is_known_encoder

CHANGED = ("encode", "replace", "keep", "error")
"""What to do with a video that the cache has, and whose file is another one today."""


class SourceChanged(Exception):
    """Files of videos that are in the cache have changed, and the extraction was not to go on then."""


# --- files


class Stamp(NamedTuple):
    """By which a file is known again without reading it; of a folder of images, the images together."""

    size: int
    """Bytes; -1 where they are not known."""
    modified_ns: int
    """The newest modification, in nanoseconds since 1970."""

    @property
    def known(self) -> bool:
        return self.size >= 0

    def same(self, other: Stamp) -> bool:
        """Whether two files are taken for the same: size and time agree.

        A copy may have lost what its file system does not store: a time in whole seconds, or microseconds,
        is compared as such.
        """
        mine, theirs = self.modified_ns, other.modified_ns
        coarse = next((unit for unit in (10**9, 10**3) if mine % unit == 0 or theirs % unit == 0), 1)
        return self.size == other.size and mine // coarse == theirs // coarse


UNKNOWN = Stamp(-1, -1)


def stamp_of(path: str | Path) -> Stamp:
    """Of a video file, or of a folder of images; `UNKNOWN` where there is none or it cannot be looked at."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return Stamp(status.st_size, status.st_mtime_ns)
        size = newest = 0
        with os.scandir(path) as scan:
            for entry in scan:
                if not entry.name.startswith(".") and entry.name.lower().endswith(tuple(IMAGE_SUFFIXES)):
                    status = entry.stat()
                    size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
        return Stamp(size, newest) if newest else UNKNOWN
    except (OSError, ValueError):
        return UNKNOWN


def stamps_of(paths: Iterable[str], threads: int = 16) -> dict[str, Stamp]:
    """Many at a time: of a network file system, the waiting counts and not the work."""
    rest = iter(dict.fromkeys(paths))
    pieces = iter(lambda: list(islice(rest, 256)), [])
    found: dict[str, Stamp] = {}
    with ThreadPoolExecutor(threads) as pool:
        for piece, stamps in pool.map(lambda piece: (piece, [stamp_of(path) for path in piece]), pieces):
            found.update(zip(piece, stamps, strict=True))
    return found


def root_of(video: Video) -> str:
    """Where the id of a video begins; empty where its path does not end in its id."""
    id, path = video.id, str(video.path)
    if video.start_seconds is not None or video.end_seconds is not None:
        id = id.rpartition("#t=")[0]
    return path[: -len(id) - 1] if path.endswith(f"/{id}") else ""


# --- the plan


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
    """Of those to read, where it is not 0."""
    changed: list[Change]
    """Those that are read again, because their files have changed."""
    kept: list[Change]
    """Those that have changed, and whose old features stay (`keep`)."""
    unknown: int
    """Those in the cache of which nobody knows whether they have changed: an older vidclip read them."""
    facts: dict[str, ListFacts]
    """What the list says otherwise than the cache, by id."""
    relabelled: int
    """Videos of the cache whose labels or split change."""

    def apply_list(self, folder: Path, source: str, present: set[str]) -> None:
        """Writes down what the list says; nothing of it needs an encoder."""
        update_labels(folder, self.facts, len(present))
        update_missing(
            folder,
            (
                MissingVideo(video.id, video.split, video.labels, video.origin, source)
                for video in self.videos.missing
            ),
            source,
            present | {video.id for video in self.videos},
        )


def part_of(id: str, n: int) -> int:
    """Which of n parts a video is in. It depends on nothing but its id, so all jobs agree, whatever they find."""
    return int.from_bytes(hashlib.sha256(id.encode("utf-8", "surrogateescape")).digest()[:8], "big") % n


def videos_of_part(videos: VideoList, part: tuple[int, int] | None) -> VideoList:
    """The videos of part i of n; all where no part is asked for."""
    if part is None:
        return videos
    index, n = part
    return VideoList(
        (video for video in videos if part_of(video.id, n) == index),
        n_other_files=videos.n_other_files,
        missing=videos.missing,
        notes=videos.notes,
    )


def plan_extraction(
    videos: VideoList,
    cache: FeatureCache,
    *,
    part: tuple[int, int] | None = None,
    changed: str = "encode",
    retry_failed: bool = False,
) -> Plan:
    """Compares a list with a cache; reads nothing but the sizes and times of files that the cache knows.

    changed    what to do with videos whose file is another one today. `encode`: read them again; but
               where the file from before is still there under another path, two videos have one name, and
               neither is given up for the other: that is an error. `replace`: read these again too.
               `keep`: leave the old features. `error`: for any.
    Raises SourceChanged; ValueError for an unknown `changed`.
    """
    if changed not in CHANGED:
        raise ValueError(f"changed must be one of {', '.join(CHANGED)}, got {changed!r}")
    mine = videos_of_part(videos, part)
    failed = {failure.id: failure for failure in cache.failures()}
    stamps = stamps_of(str(video.path) for video in mine if video.id in cache or video.id in failed)
    unknown = relabelled = 0
    todo: list[Video] = []
    changes: list[Change] = []
    facts: dict[str, ListFacts] = {}
    says = (any(video.labels for video in videos), any(video.split for video in videos))
    collisions: list[Change] = []
    for video in mine:
        info = cache.videos[cache.index(video.id)] if video.id in cache else None
        known = cache.list_facts.get(video.id) if info is None else ListFacts(info.labels, info.split)
        said = ListFacts(
            video.labels if says[0] or known is None else known.labels,
            video.split if says[1] or known is None else known.split,
        )
        if known is not None and said != known:
            facts[video.id] = said
            relabelled += info is not None
        wanted = replace(video, **said._asdict()) if said != (video.labels, video.split) else video
        if info is not None:
            verdict = _compare(info, video, stamps[str(video.path)])
            unknown += verdict == "unknown"
            if verdict in ("changed", "two videos"):
                changes.append(Change(video, info))
                todo.append(wanted)
                if verdict == "two videos":
                    collisions.append(changes[-1])
        elif video.id not in failed or retry_failed or _mended(failed[video.id], stamps, video, changed):
            todo.append(wanted)
    kept: list[Change] = []
    if changed == "keep":
        kept, changes = changes, []
        left = {change.video.id for change in kept}
        todo = [video for video in todo if video.id not in left]
    elif changes and changed == "error":
        raise SourceChanged(
            f"{_videos(len(changes))} of {cache.folder} {'has' if len(changes) == 1 else 'have'} another file today "
            f"({changes[0]}). --changed encode reads them again, --changed keep leaves their features as they are."
        )
    elif collisions and changed == "encode":
        raise SourceChanged(_collision_message(cache, collisions))
    generations = {video.id: number for video in todo if (number := cache.next_generation(video.id))}
    return Plan(mine, todo, generations, changes, kept, unknown, facts, relabelled)


def _compare(info: VideoInfo, video: Video, now: Stamp) -> str:
    """`same`, `changed`, `unknown`, or `two videos` where the file from before is still there, elsewhere."""
    then, path = Stamp(info.source_bytes, info.source_modified_ns), str(video.path)
    if not now.known:  # it has gone since it was listed
        return "same"
    if then.known and then.same(now):
        return "same"
    elsewhere = path != info.path
    there = elsewhere and os.path.exists(info.path) and not _same_file(path, info.path)
    if not then.known:
        # Where an older vidclip did not write down what it read, the file from before may still say it.
        if not elsewhere or not there:
            return "same" if elsewhere and _same_file(path, info.path) else "unknown"
        return "same" if stamp_of(info.path).same(now) else "two videos"
    return "two videos" if there else "changed"


def _same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _mended(failure: Failure, stamps: dict[str, Stamp], video: Video, changed: str) -> bool:
    """Whether a video could not be read before, and has another file today."""
    then, now = Stamp(failure.source_bytes, failure.source_modified_ns), stamps[str(video.path)]
    return changed != "keep" and then.known and now.known and not then.same(now)


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


# --- precision


def stored_precisions(cache: FeatureCache) -> list[str]:
    """In which the features of a cache were computed, the most frequent first."""
    rows: Counter[str] = Counter()
    for shard in cache.shards:
        for precision in filter(None, shard.precision.split("+")):
            rows[precision] += shard.num_videos
    return [precision for precision, _ in rows.most_common()]


def check_precision(cache: FeatureCache, precision: str) -> None:
    """Raises CacheMismatch where features of this precision would be the first of their kind in the cache."""
    stored = stored_precisions(cache)
    if stored and precision not in stored:
        raise CacheMismatch(
            f"{cache.folder} holds features computed in {' and '.join(stored)}; this run would add some in {precision}.\n"
            f"Use --precision {stored[0]}, or leave --precision out; or use another --cache."
        )


# --- where an extraction stands, and what it did


@dataclass
class Progress:
    """Where an extraction stands; updated while it runs."""

    listed: int = 0
    """Videos of this part of the list."""
    present: int = 0
    """Of those, videos that the cache had, or had recorded as failed, before this run."""
    encoded: int = 0
    """Videos encoded in this run."""
    frames: int = 0
    """Frames encoded in this run, crops counted apart."""
    failed: int = 0
    """Videos that failed in this run."""
    damaged: int = 0
    """Videos encoded in this run whose frames cannot all be right; their notes say why."""
    waited_seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "write": 0.0})
    """How long the encoder has stood still for want of frames, or because the disk was slow."""
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return self.present + self.encoded + self.failed

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def bottleneck(self) -> str:
        """The stage that the others wait for: decode, encode or write."""
        stage, waited = max(self.waited_seconds.items(), key=lambda item: item[1])
        return stage if waited > 0.5 * self.seconds else "encode"


@dataclass(frozen=True)
class Summary:
    """What an extraction did."""

    progress: Progress
    failures: list[Failure]
    """All videos of the list that have no features, those of earlier runs included."""
    interrupted: bool
    """Whether Ctrl-C ended it before the list did."""
    changed: Sequence[Change] = ()
    """Videos that were in the cache, and were read again because their files had changed."""
    kept: Sequence[Change] = ()
    """Videos whose files had changed, and whose features were left as they were."""
    relabelled: int = 0
    """Videos that were in the cache, and have other labels or another split by this list."""
    unknown: int = 0
    """Videos in the cache of which nobody knows whether their files have changed."""

    @property
    def new_failures(self) -> list[Failure]:
        """Of the failures, those that no extraction has told of that came to its end."""
        return [failure for failure in self.failures if not failure.reported]


def summarize(plan: Plan, progress: Progress, cache: FeatureCache, *, interrupted: bool = False) -> Summary:
    """The summary of an extraction at its end; what it tells of, it marks as told of."""
    failed = {failure.id: failure for failure in cache.failures()}
    failures = [failed[video.id] for video in plan.videos if video.id in failed]
    if not interrupted:
        mark_reported(cache.folder, [failure.id for failure in failures])
    read = {video.id: video.generation for video in cache.videos if video.generation}
    return Summary(
        progress,
        failures,
        interrupted,
        [change for change in plan.changed if read.get(change.video.id, 0) > change.before.generation],
        plan.kept,
        plan.relabelled,
        plan.unknown,
    )


# --- before the encoder is loaded


@dataclass(frozen=True)
class Look:
    """What a cache says before any encoder is loaded."""

    summary: Summary | None = None
    """Of an extraction that has nothing to read; None where an encoder is needed to say so, or to read."""
    precision: str = "auto"
    """In which the encoder is to run."""


def look(
    videos: VideoList,
    folder: Path,
    sampling_of: Callable[[Identity], Mapping[str, Any]],
    asked: EncoderRequest | None,
    *,
    precision: str = "auto",
    part: tuple[int, int] | None = None,
    changed: str = "encode",
    retry_failed: bool = False,
    source: str = "",
) -> Look:
    """Finishes an extraction that has nothing to read, without its encoder; else says in which precision to go on.

    sampling_of    from the identity of the cache, the sampling that is asked for, `resize` included
    asked          the encoder; where it is not certainly the one of the cache, it has to be loaded. None: so it is
    The others are those of `extract`.
    Raises CacheBusy, CacheError, SourceChanged.
    """
    if not (folder / IDENTITY_FILE).exists():
        return Look(precision=precision)
    with contextlib.ExitStack() as held:
        with folder_turn(folder):
            held.enter_context(writer_lock(folder, part))
        cache = FeatureCache(folder)
        stored = stored_precisions(cache)
        if precision == "auto" and stored:
            precision = stored[0]
        identity = replace(cache.identity, sampling=sampling_of(cache.identity))
        if (
            identity.digest != cache.identity.digest
            or (stored and precision not in stored)
            or asked is None
            or not is_known_encoder(cache.folder, cache.identity, asked)
        ):
            return Look(precision=precision)
        plan = plan_extraction(videos, cache, part=part, changed=changed, retry_failed=retry_failed)
        if plan.todo:
            return Look(precision=precision)
        plan.apply_list(folder, source, set(cache.ids))
        progress = Progress(listed=len(plan.videos), present=len(plan.videos))
        return Look(summarize(plan, progress, cache), precision)


def size_of(identity: Identity) -> int:
    """The longer side of what the encoder of a cache sees; 0 where the cache does not say."""
    size = identity.encoder.get("preprocess", {}).get("size")
    known = isinstance(size, (list, tuple)) and all(isinstance(side, int) for side in size)
    return max(size, default=0) if known else 0
