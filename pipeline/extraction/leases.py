"""Leases: pieces of the work that are given to workers, and who is to blame when a worker dies.

A worker may die of a video (its memory, a fault of a library), or of something else: a node that is switched off, an
operator, a neighbor that took the memory. It is not known which. So:

    a lease whose worker dies once     is done again, and its worker has no other lease meanwhile
    ... twice                          is cut in two halves; each is cut again as soon as a worker dies over it
    ... of one video, twice            that video is said to have failed

Only the lease that a worker was busy with is blamed, never those that waited behind it. This module knows no Ray.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...cache import Failure
from ..datasets import Video
from .stamps import stamp_of

DEATHS_OF_A_VIDEO = 2
"""After how many deaths of workers over one video alone it is said to have failed."""
SMALLEST = 8
"""At the end of a list leases become smaller, so that no worker is left alone with a long one: down to this part."""


@dataclass(frozen=True)
class Lease:
    """Some videos that one worker reads and writes as one shard."""

    videos: tuple[Video, ...]
    generations: Mapping[str, int]
    """Of these videos, by id, where they are not 0."""
    deaths: int = 0
    """How many workers have died over it."""
    alone: bool = False
    """Whether its worker is to have no other lease beside it: it is under suspicion."""

    @cached_property
    def shard_name(self) -> str:
        """The name of its shard: a digest of ids and generations, so that a second attempt overwrites the first."""
        digest = hashlib.sha256()
        for video in self.videos:
            raw = video.id.encode("utf-8", "surrogateescape")
            digest.update(f"{len(raw)} {self.generations.get(video.id, 0)} ".encode() + raw)
        return f"frames-lease-{digest.hexdigest()[:24]}.h5"

    def without(self, ids: Iterable[str]) -> Lease:
        """Return a lease of the videos that are not among `ids`, as one that no worker has died over."""
        gone = set(ids)
        return self._of([video for video in self.videos if video.id not in gone])

    def halves(self) -> list[Lease]:
        """Return two leases; each is under suspicion, but a single video, which has to kill by itself."""
        middle = (len(self.videos) + 1) // 2
        parts = (self.videos[:middle], self.videos[middle:])
        return [self._of(part, deaths=int(len(part) > 1), alone=True) for part in parts]

    def _of(self, videos: Sequence[Video], *, deaths: int = 0, alone: bool = False) -> Lease:
        generations = {
            video.id: self.generations[video.id] for video in videos if video.id in self.generations
        }
        return Lease(tuple(videos), generations, deaths, alone)

    def died(self) -> Lease:
        """Return it with one death more."""
        return Lease(self.videos, self.generations, self.deaths + 1, alone=True)


class LeaseBoard:
    """What is still to be given out of a list of videos."""

    def __init__(self, videos: Sequence[Video], generations: Mapping[str, int], size: int) -> None:
        """
        size    of a lease, in videos, at most
        """
        self._rest: Iterator[Video] = iter(videos)
        self._left = len(videos)
        self._generations = generations
        self._size = size
        self._returned: deque[Lease] = deque()
        self._suspects: deque[Lease] = deque()

    def __bool__(self) -> bool:
        """Whether there is anything to give out."""
        return bool(self._left or self._returned or self._suspects)

    def take(self, workers: int, *, busy: bool) -> Lease | None:
        """Return a lease for a worker; None where there is none for it.

        workers    among how many the list is shared
        busy       whether it has a lease already: then it gets none that is under suspicion
        """
        if self._suspects and not busy:
            return self._suspects.popleft()
        if self._returned:
            return self._returned.popleft()
        if not self._left:
            return None
        fair = self._left // (2 * max(1, workers))
        size = min(self._size, max(fair, -(-self._size // SMALLEST)))
        videos = tuple(itertools.islice(self._rest, size))
        self._left -= len(videos)
        generations = {
            video.id: self._generations[video.id] for video in videos if video.id in self._generations
        }
        return Lease(videos, generations)

    def give_back(self, lease: Lease) -> None:
        """Take back a lease whose worker is gone, and which that worker was not busy with."""
        if lease.videos:
            (self._suspects if lease.alone else self._returned).append(lease)

    def blame(self, lease: Lease) -> Failure | None:
        """Take back a lease that a worker has died over; return the failure of a video that has killed enough."""
        lease = lease.died()
        if len(lease.videos) > 1:
            self._suspects.extend(lease.halves() if lease.deaths >= 2 else [lease])
            return None
        if lease.deaths < DEATHS_OF_A_VIDEO:
            self._suspects.append(lease)
            return None
        video = next(iter(lease.videos))
        reason = (
            f"the process that reads it and nothing else beside it has ended {lease.deaths} times without an answer: killed "
            "for its memory, or crashed"
        )
        size, modified_ns = stamp_of(video.path)
        generation = lease.generations.get(video.id, 0)
        return Failure(video.id, str(video.path), "crash", reason, size, modified_ns, generation)
