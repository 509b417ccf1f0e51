"""Videos -> cache. Decode, encode and write overlap; what is there already is not done again.

worker processes      decode, resize, crop     -> shared memory, bounded by its slots
the calling thread    fills batches, encodes   -> a queue, bounded
a thread              writes shards
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...cache import CacheMismatch, CacheWriter, Failure, FeatureCache, Identity, VideoRecord
from ..datasets import Video, VideoList
from ..encoders import Encoder, embeddings_of_view
from ..video import (
    DAMAGED,
    DECODE_WITH_DIGEST,
    ClipSpec,
    Decoded,
    DecodeFailure,
    DecodePool,
    Sampling,
    VideoRequest,
    middle_frames,
)
from .batches import FrameBatches
from .known_content import copy_known_content
from .plan import Plan, plan_extraction
from .progress import Progress, Summary, summarize
from .settings import ExtractSettings
from .stamps import Stamp, root_of, stamps_ahead


class ExtractionError(Exception):
    """An extraction that could not go on, or that lost videos."""


def cache_identity(encoder: Encoder, clip: ClipSpec | Sampling) -> Identity:
    """Return the identity of a cache of the features that `extract` computes."""
    return Identity(
        encoder=encoder.identity,
        sampling=_clip_spec(encoder, clip).to_dict(),
        model=encoder.model,
        pretrained=encoder.pretrained,
    )


def _clip_spec(encoder: Encoder, clip: ClipSpec | Sampling) -> ClipSpec:
    return clip if isinstance(clip, ClipSpec) else ClipSpec(clip, encoder.preprocess)


def extract(
    videos: VideoList,
    encoder: Encoder,
    folder: str | Path,
    clip: ClipSpec | Sampling,
    settings: ExtractSettings | None = None,
    *,
    stored: FeatureCache | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Bring the features of `videos` into the cache `folder`; videos that are there, and whose files have not
    changed, are left alone; those whose content is there under another id are not read either (see
    `plan_extraction`). Their labels and splits become those of the list, where it says any.

    A video may be a file, a segment of a file, or a folder of images. The frames of a segment are chosen inside it
    alone; `frame_indices`, `timestamps`, `duration_seconds` and `n_frames` are those of its whole file. Embeddings of
    several frames have the mean of their times, and the index of the middle one.

    clip           which frames and which of their pixels; of a sampling alone, the pixels are the encoder's own
    stored         the cache, where it is open already
    on_progress    called a few times a second, from this thread

    KeyboardInterrupt ends it early: what is encoded is written, and the summary says so.
    Raises CacheMismatch, CacheBusy, CacheError (see `CacheWriter`), CacheMismatch too for another precision
    than that of the cache; SourceChanged (see `plan_extraction`); EncoderError when the encoder runs out of memory,
    or reads clips of another number of frames; OSError when the disk is full; ExtractionError when videos were lost; ValueError
    for a segment that ends before it begins. The cache is whole in any case.
    """
    clip, settings = _clip_spec(encoder, clip), settings or ExtractSettings()
    times = embeddings_of_view(encoder, clip.sampling.frames)
    report = _Reporter(Progress(), on_progress, clip.sampling.frames // times)
    interrupted = False
    with CacheWriter(
        folder,
        cache_identity(encoder, clip),
        part=settings.part,
        precision=encoder.precision,
        created_by=f"vidclip {version('vidclip')}",
        shard_seconds=settings.shard_seconds,
        stored=stored,
    ) as writer:
        stored = writer.stored
        if (found := stored.precisions) and encoder.precision not in found:
            raise CacheMismatch(
                f"{stored.folder} holds features computed in {' and '.join(found)}; this run would add some in "
                f"{encoder.precision}.\nUse --precision {found[0]}, or leave --precision out; or use another --cache."
            )
        patch_shape = encoder.patch_shape if settings.patches else None
        if len(stored) and (stored.patch_shape is None) != (patch_shape is None):
            raise CacheMismatch(
                f"{stored.folder} holds no patch tokens, which X-CLIP's prompts read, and this run would add some.\n"
                "Use --no-patches, or another --cache."
                if patch_shape
                else f"{stored.folder} holds patch tokens.\nLeave --no-patches out, or use another --cache."
            )
        plan = plan_extraction(videos, stored, settings)
        copy_known_content(plan.known, plan.generations, stored, writer)
        writer.use_precision(encoder.precision)
        requests = [
            _request(video, clip.sampling) for video in plan.todo
        ]  # now, not hours later: one may be wrong
        plan.apply_list(stored)
        report.progress.listed = len(plan.videos)
        report.progress.present = len(plan.videos) - len(plan.todo)
        report(force=True)
        if plan.todo:
            batch_size = settings.batch_size or (32 if encoder.device.type == "cpu" else 256)
            batches = FrameBatches(encoder, clip.preprocess.size, batch_size, patches=patch_shape is not None)
            try:
                with (
                    _WriterThread(writer, report) as thread,
                    DecodePool(
                        clip,
                        workers=min(settings.workers, len(plan.todo)),
                        timeout_seconds=settings.timeout_seconds,
                        memory_gib=settings.memory_gib,
                        decode=DECODE_WITH_DIGEST,
                    ) as pool,
                ):
                    empty = _Empty(times, encoder.dimension, patch_shape)
                    _encode_all(plan, requests, pool, batches, empty, thread, report)
            except KeyboardInterrupt:
                interrupted = True
    report(force=True)
    stored.refresh()
    if not interrupted:
        _check_all_accounted(plan.videos, stored)
    return summarize(plan, report.progress, stored, interrupted=interrupted)


def _request(video: Video, sampling: Sampling) -> VideoRequest:
    draw = sampling.draw_of(video.id)
    try:
        return VideoRequest(video.path, video.start_seconds, video.end_seconds, draw)
    except ValueError as error:
        raise ValueError(f"{video.where}: {error}") from None


def _check_all_accounted(videos: VideoList, cache: FeatureCache) -> None:
    """Raise ExtractionError if a video has neither features nor a failure."""
    failed = {failure.id for failure in cache.failures()}
    lost = [video.id for video in videos if video.id not in cache and video.id not in failed]
    if lost:
        raise ExtractionError(
            f"{len(lost)} of {len(videos)} videos are neither in {cache.folder} nor in its failures.jsonl, the first "
            f"is {lost[0]!r}. Run the same command again; if it happens again, please report it."
        )


class _Reporter:
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

    @contextlib.contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.progress.waited_seconds[stage] += time.monotonic() - began

    def count(self, item: VideoRecord | Failure) -> None:
        if isinstance(item, Failure):
            self.progress.failed += 1
        else:
            self.progress.encoded += 1
            views, times, _ = item.frames.shape
            self.progress.frames += views * times * self._frames_per_embedding
            self.progress.damaged += item.note.startswith(DAMAGED)


class _WriterThread:
    """A thread that puts finished videos into the cache; its error is raised in the thread that feeds it."""

    def __init__(self, writer: CacheWriter, report: _Reporter) -> None:
        self._writer = writer
        self._report = report
        self._items: queue.Queue[VideoRecord | Failure | None] = queue.Queue(maxsize=64)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="vidclip-writer", daemon=True)

    def __enter__(self) -> _WriterThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Also after Ctrl-C: what was encoded is written before the cache is closed.
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._items.put(None, timeout=0.1)
                break
        self._thread.join()
        self._check()

    def put(self, item: VideoRecord | Failure) -> None:
        with self._report.waiting("write"):
            while True:
                self._check()
                with contextlib.suppress(queue.Full):
                    self._items.put(item, timeout=0.5)
                    break
        self._report.count(item)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (item := self._items.get()) is not None:
                if isinstance(item, VideoRecord):
                    self._writer.add(item)
                else:
                    self._writer.add_failure(item)
        except BaseException as error:  # handed to the feeding thread
            self._error = error


class _Empty(NamedTuple):
    """The sizes of what the encoder is to fill."""

    times: int
    """T': embeddings of a view."""
    dimension: int
    patch_shape: tuple[int, int] | None

    def frames(self, views: int) -> np.ndarray:
        return np.empty((views, self.times, self.dimension), np.float32)

    def patches(self, views: int) -> np.ndarray | None:
        return None if self.patch_shape is None else np.empty((views, *self.patch_shape), np.float16)


def _encode_all(
    plan: Plan,
    requests: list[VideoRequest],
    pool: DecodePool,
    batches: FrameBatches,
    empty: _Empty,
    thread: _WriterThread,
    report: _Reporter,
) -> None:
    stamps: dict[int, Stamp] = {}

    def stamped() -> Iterator[VideoRequest]:
        # Each file is looked at before it is read: if it is changed while it is read, the next extraction sees it.
        for index, stamp in enumerate(stamps_ahead(request.path for request in requests)):
            stamps[index] = stamp
            yield requests[index]

    # As they are finished: a video that hangs blocks its worker alone.
    results = pool.decode(stamped(), ordered=False)
    while True:
        with report.waiting("decode"):
            index, result = next(results, (-1, None))
        if result is None:
            break
        video = plan.todo[index]
        size, modified_ns = stamps.pop(index)
        source = (size, modified_ns, plan.generations.get(video.id, 0))
        if isinstance(result, DecodeFailure):
            reason = result.reason
            if video.origin and (video.start_seconds is not None or video.end_seconds is not None):
                reason += f" ({video.origin})"  # the list's row: the times of the segment may be wrong
            thread.put(Failure(video.id, str(video.path), result.stage, reason, *source))
        else:
            with result:
                complete = batches.add(_record(video, result, empty, source), result.pixels)
            for record in complete:
                thread.put(_usable(record))
        report()
    for record in batches.finish():
        thread.put(_usable(record))


def _record(video: Video, decoded: Decoded, empty: _Empty, source: tuple[int, int, int]) -> VideoRecord:
    """Return the record of a video, its frames [V, T', D] float32 and patch tokens yet to be filled.

    source    size, modification time and generation of its file

    An embedding of several frames is at the mean of their times, and is called by the middle one.
    """
    views, n_frames = decoded.pixels.shape[:2]
    crops = views // len(decoded.frame_indices)
    middle = middle_frames(n_frames, empty.times)
    seconds = decoded.timestamps
    if empty.times != n_frames:
        seconds = seconds.reshape(len(seconds), empty.times, -1).mean(axis=2)
    return VideoRecord(
        id=video.id,
        path=str(video.path),
        frames=empty.frames(views),
        patches=empty.patches(views),
        frame_indices=decoded.frame_indices[:, middle].repeat(crops, axis=0),
        timestamps=seconds.repeat(crops, axis=0),
        labels=video.labels,
        split=video.split,
        duration_seconds=decoded.duration_seconds,
        n_frames=decoded.n_frames,
        readable_frames=decoded.readable_frames,
        repeated=decoded.repeated,
        decoder=decoded.decoder,
        note=decoded.note,
        root=root_of(video),
        source_bytes=source[0],
        source_modified_ns=source[1],
        source_digest=decoded.content_digest,
        generation=source[2],
    )


def _usable(record: VideoRecord) -> VideoRecord | Failure:
    """Return the record, or a failure where its embeddings cannot be kept in float16."""
    with np.errstate(over="ignore"):
        stored = record.frames.astype(np.float16)
    if not np.isfinite(stored).all():
        reason = "the encoder gave numbers that are not finite; try --precision bf16 or fp32"
    elif not stored.any(axis=-1).all():
        reason = (
            "the encoder gave an embedding that is all zeros: it has no direction; are its weights whole?"
        )
    else:
        return record
    source = (record.source_bytes, record.source_modified_ns, record.generation)
    return Failure(record.id, record.path, "encode", reason, *source)
