"""The accounts of an extraction: lock, plan, failures, and the check at the end that no video was lost.

What decodes and encodes is handed in (`Work`): the decoders and the encoder of this process, or those of a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from ...cache import CacheMismatch, CacheWriter, Failure, FeatureCache, Identity, VideoRecord
from ..datasets import VideoList
from ..encoders import embeddings_of_view
from ..video import DAMAGED, ClipSpec, Preprocess, Sampling
from .known_content import copy_known_content
from .plan import Plan, plan_extraction, request_of
from .progress import Progress, Summary, summarize
from .settings import ExtractSettings


class ExtractionError(Exception):
    """An extraction that could not go on, or that lost videos."""


class KnownEncoder(Protocol):
    """What the accounts have to know of an encoder: it may be loaded elsewhere. See `encoders.Encoder`."""

    @property
    def model(self) -> str: ...
    @property
    def pretrained(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def precision(self) -> str: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    @property
    def frames_per_sample(self) -> int: ...
    @property
    def embeddings_per_sample(self) -> int: ...
    @property
    def patch_shape(self) -> tuple[int, int] | None: ...


def created_by() -> str:
    """Return the name and version of the program, as shards keep them."""
    return f"vidclip {version('vidclip')}"


def cache_identity(encoder: KnownEncoder, clip: ClipSpec | Sampling) -> Identity:
    """Return the identity of a cache of the features that `extract` computes."""
    return Identity(
        encoder=encoder.identity,
        sampling=clip_spec(encoder, clip).to_dict(),
        model=encoder.model,
        pretrained=encoder.pretrained,
    )


def clip_spec(encoder: KnownEncoder, clip: ClipSpec | Sampling) -> ClipSpec:
    """Return which frames and pixels are read; of a sampling alone, the pixels are the encoder's own."""
    return clip if isinstance(clip, ClipSpec) else ClipSpec(clip, encoder.preprocess)


def run_file(part: tuple[int, int] | None) -> str:
    """Return the name of the file of a cache that tells workers on other machines that their run goes on."""
    return ".ray-run" if part is None else f".ray-run-{part[0]}-of-{part[1]}"


@dataclass(frozen=True)
class Job:
    """What is left to do, once a list has been compared with a cache."""

    plan: Plan
    clip: ClipSpec
    settings: ExtractSettings
    writer: CacheWriter
    """Holds the lock."""
    patches: bool
    """Whether patch tokens are kept."""
    report: Reporter


Work = Callable[[Job], None]
"""Brings the features or the failure of every video of `Job.plan.todo` into the cache. KeyboardInterrupt ends it early."""


def extract_by(
    work: Work,
    videos: VideoList,
    encoder: KnownEncoder,
    folder: str | Path,
    clip: ClipSpec,
    settings: ExtractSettings,
    *,
    stored: FeatureCache | None,
    on_progress: Callable[[Progress], None] | None,
) -> Summary:
    """Do what `extract` does, by `work`: it is called where there is something to read. Raises what `extract` does."""
    times = embeddings_of_view(encoder, clip.sampling.frames)
    report = Reporter(Progress(), on_progress, clip.sampling.frames // times)
    interrupted = False
    with CacheWriter(
        folder,
        cache_identity(encoder, clip),
        part=settings.part,
        precision=encoder.precision,
        created_by=created_by(),
        shard_seconds=settings.shard_seconds,
        stored=stored,
    ) as writer:
        # Workers of a command that was killed, should there still be some, write no more from here on.
        (writer.folder / run_file(settings.part)).unlink(missing_ok=True)
        stored = writer.stored
        if (found := stored.precisions) and encoder.precision not in found:
            raise CacheMismatch(
                f"{stored.folder} holds features computed in {' and '.join(found)}; this run would add some in "
                f"{encoder.precision}.\nUse --precision {found[0]}, or leave --precision out; or use another --cache."
            )
        patches = settings.patches and encoder.patch_shape is not None
        if len(stored) and (stored.patch_shape is not None) != patches:
            raise CacheMismatch(
                f"{stored.folder} holds no patch tokens, which X-CLIP's prompts read, and this run would add some.\n"
                "Use --no-patches, or another --cache."
                if patches
                else f"{stored.folder} holds patch tokens.\nLeave --no-patches out, or use another --cache."
            )
        plan = plan_extraction(videos, stored, settings)
        copy_known_content(plan.known, plan.generations, stored, writer)
        writer.use_precision(encoder.precision)
        for video in plan.todo:
            request_of(video, clip.sampling)  # now, not hours later: one may be wrong
        plan.apply_list(stored)
        report.progress.listed = len(plan.videos)
        report.progress.present = len(plan.videos) - len(plan.todo)
        report(force=True)
        if plan.todo:
            try:
                work(Job(plan, clip, settings, writer, patches, report))
            except KeyboardInterrupt:
                interrupted = True
    report(force=True)
    stored.refresh()
    if not interrupted:
        _check_all_accounted(plan.videos, stored)
    return summarize(plan, report.progress, stored, interrupted=interrupted)


def _check_all_accounted(videos: VideoList, cache: FeatureCache) -> None:
    """Raise ExtractionError if a video has neither features nor a failure."""
    failed = {failure.id for failure in cache.failures()}
    lost = [video.id for video in videos if video.id not in cache and video.id not in failed]
    if lost:
        raise ExtractionError(
            f"{len(lost)} of {len(videos)} videos are neither in {cache.folder} nor in its failures.jsonl, the first "
            f"is {lost[0]!r}. Run the same command again; if it happens again, please report it."
        )


class Reporter:
    """Calls back a few times a second, not for every video."""

    def __init__(
        self, progress: Progress, callback: Callable[[Progress], None] | None, frames_per_embedding: int
    ) -> None:
        self.progress = progress
        self._callback = callback
        self._frames_per_embedding = frames_per_embedding
        self._last = 0.0

    def __call__(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._callback and (force or now - self._last > 0.2):
            self._last = now
            self._callback(self.progress)

    def count(self, item: VideoRecord | Failure) -> None:
        if isinstance(item, Failure):
            self.progress.failed += 1
        else:
            self.progress.encoded += 1
            views, times, _ = item.frames.shape
            self.progress.frames += views * times * self._frames_per_embedding
            self.progress.damaged += item.note.startswith(DAMAGED)
