"""Where an extraction stands, and what it did."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...cache import Failure, FeatureCache
from ...cache.failures import mark_reported
from .plan import Change, Plan


@dataclass
class Progress:
    """Where an extraction stands; updated while it runs."""

    listed: int = 0
    """Videos of this part of the list."""
    present: int = 0
    """Videos of these that the cache had, or had recorded as failed, before this run."""
    encoded: int = 0
    """Videos encoded in this run."""
    frames: int = 0
    """Frames encoded in this run, crops counted apart."""
    failed: int = 0
    """Videos that failed in this run."""
    damaged: int = 0
    """Videos encoded in this run whose frames cannot all be right; their notes say why."""
    waited_seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "write": 0.0})
    """How long the encoder has waited for frames, or for the disk; the mean over the workers of a cluster."""
    workers: tuple[int, int] | None = None
    """(n, m): n of m workers are at work, on a cluster. None: this process alone."""
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
    plan: Plan
    failures: list[Failure]
    """All videos of the list that have no features, those of earlier runs included."""
    interrupted: bool
    """Whether Ctrl-C ended it before the list did."""
    changed: Sequence[Change]
    """Videos that were in the cache, and were read again because their files had changed."""

    @property
    def new_failures(self) -> list[Failure]:
        """The failures that no extraction has reported that came to its end."""
        return [failure for failure in self.failures if not failure.reported]


def summarize(plan: Plan, progress: Progress, cache: FeatureCache, *, interrupted: bool = False) -> Summary:
    """Return the summary of an extraction at its end, and mark the failures that it reports as reported."""
    failed = {failure.id: failure for failure in cache.failures()}
    failures = [failed[video.id] for video in plan.videos if video.id in failed]
    if not interrupted:
        mark_reported(cache.folder, [failure.id for failure in failures])
    read = cache.generations()
    changed = [change for change in plan.changed if read.get(change.video.id, 0) > change.before.generation]
    return Summary(progress, plan, failures, interrupted, changed)
