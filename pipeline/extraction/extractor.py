"""Stage 1: videos -> cache. Decode, encode and write overlap; what is there already is not done again.

    worker processes      decode, resize, crop     -> shared memory, bounded by its slots
    the calling thread    fills batches, encodes   -> a queue, bounded
    a thread              writes shards

A batch is filled across videos. It always has the same size (the last is padded), so a video's
embeddings do not depend on which videos shared its batch: a run that was killed and resumed gives the
same numbers as one that was not.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache import CacheWriter, Failure, FeatureCache, Identity, VideoRecord
from ..datasets import Video, VideoList
from ..encoders import Encoder, EncoderError
from ..video import (
    DAMAGED,
    WORKER_MEMORY_GIB,
    ClipSpec,
    Decoded,
    DecodeFailure,
    DecodePool,
    Preprocess,
    Sampling,
    VideoRequest,
)
from .plan import (
    Plan,
    Progress,
    Stamp,
    Summary,
    check_precision,
    plan_extraction,
    root_of,
    stamp_of,
    summarize,
)


class ExtractionError(Exception):
    """An extraction that could not go on, or whose books do not balance."""


def cache_identity(encoder: Encoder, sampling: Sampling, preprocess: Preprocess) -> Identity:
    """Who a cache of these features is. `preprocess` is the encoder's own, with another `resize` maybe."""
    return Identity(
        encoder=encoder.identity,
        sampling=ClipSpec(sampling, preprocess).to_dict(),
        model=encoder.model,
        pretrained=encoder.pretrained,
    )


def extract(
    videos: VideoList,
    encoder: Encoder,
    folder: str | Path,
    sampling: Sampling,
    *,
    preprocess: Preprocess | None = None,
    workers: int = 2,
    timeout_seconds: float = 60.0,
    memory_gib: float | None = WORKER_MEMORY_GIB,
    batch_size: int = 32,
    part: tuple[int, int] | None = None,
    retry_failed: bool = False,
    changed: str = "encode",
    source: str = "",
    shard_seconds: float = 60.0,
    created_by: str = "vidclip",
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Brings the features of `videos` into the cache `folder`; videos that are there, and whose files have not
    changed, are left alone. Their labels and splits become those of the list, where it says any.

    A video may be a file, a segment of a file, or a folder of images. Of a segment, frames are chosen inside
    it alone; `frame_indices`, `timestamps`, `duration_seconds` and `n_frames` are those of its whole file.

    preprocess      the encoder's own, or with another short side before cropping
    workers         processes that decode, one video at a time each
    memory_gib      what each of them may take (see `DecodePool`)
    batch_size      frames in one pass of the encoder
    part            (i, n): the i-th of n parts of the list, by the ids of the videos
    retry_failed    try those again that an earlier run could not read; others only where their files have changed
    changed         what to do with videos of the cache whose files are others today: see `plan_extraction`
    source          what the list was read from: in `missing.jsonl`, its entries of today stand in the place of
                    those of before
    on_progress     called a few times a second, from this thread

    KeyboardInterrupt ends it early: what is encoded is written, and the summary says so.
    Raises CacheMismatch, CacheBusy, CacheError (see `CacheWriter`), CacheMismatch too for another precision
    than that of the cache; SourceChanged (see `plan_extraction`); EncoderError when the encoder runs out of memory; OSError when the disk is full; ExtractionError when videos were lost; ValueError for a
    segment that ends before it begins. The cache is whole in any case.
    """
    preprocess = preprocess or encoder.preprocess
    identity = cache_identity(encoder, sampling, preprocess)
    report = _Reporter(Progress(), on_progress)
    interrupted = False
    with CacheWriter(
        folder,
        identity,
        part=part,
        precision=encoder.precision,
        created_by=created_by,
        shard_seconds=shard_seconds,
    ) as writer:
        stored = writer.stored or FeatureCache(folder)
        check_precision(stored, encoder.precision)
        plan = plan_extraction(videos, stored, part=part, changed=changed, retry_failed=retry_failed)
        writer.stored = None  # the memory is needed
        del stored
        requests = [_request(video) for video in plan.todo]  # now, not hours later: one may be wrong
        plan.apply_list(writer.folder, source, writer.ids)
        report.progress.listed = len(plan.videos)
        report.progress.present = len(plan.videos) - len(plan.todo)
        report(force=True)
        if plan.todo:
            reading = _Reading(plan, requests)
            batches = _Batches(encoder, preprocess, batch_size)
            try:
                with (
                    _Writing(writer, report) as writing,
                    DecodePool(
                        ClipSpec(sampling, preprocess),
                        workers=min(workers, len(plan.todo)),
                        timeout_seconds=timeout_seconds,
                        memory_gib=memory_gib,
                    ) as pool,
                ):
                    # As they are finished: a video that hangs holds up its worker, and nobody else.
                    results = pool.decode(reading.requests(), ordered=False)
                    _encode_all(reading, results, writing, batches, report)
            except KeyboardInterrupt:
                interrupted = True
    report(force=True)
    cache = FeatureCache(folder)
    if not interrupted:
        _balance(plan.videos, cache)
    return summarize(plan, report.progress, cache, interrupted=interrupted)


class _Reading:
    """The videos that are being read, and what their files were when they were handed to a decoder."""

    def __init__(self, plan: Plan, requests: Sequence[VideoRequest]) -> None:
        self.videos = plan.todo
        self._requests = requests
        self._generations = plan.generations
        self._stamps: dict[int, Stamp] = {}

    def requests(self) -> Iterator[VideoRequest]:
        """Looks at each file before it is read: if it is changed while it is read, the next extraction sees it."""
        for index, request in enumerate(self._requests):
            self._stamps[index] = stamp_of(self.videos[index].path)
            yield request

    def source(self, index: int) -> dict[str, Any]:
        """What a record or a failure says of the file."""
        size, modified_ns = self._stamps.pop(index)
        generation = self._generations.get(self.videos[index].id, 0)
        return {"source_bytes": size, "source_modified_ns": modified_ns, "generation": generation}


def _request(video: Video) -> VideoRequest:
    try:
        return VideoRequest(video.path, video.start_seconds, video.end_seconds)
    except ValueError as error:
        raise ValueError(f"{video.where}: {error}") from None


def _balance(videos: VideoList, cache: FeatureCache) -> None:
    """Raises ExtractionError if a video has neither features nor a failure."""
    failed = {failure.id for failure in cache.failures()}
    lost = [video.id for video in videos if video.id not in cache and video.id not in failed]
    if lost:
        raise ExtractionError(
            f"{len(lost)} of {len(videos)} videos are neither in {cache.folder} nor in its failures.jsonl, the first "
            f"is {lost[0]!r}. Run the same command again; if it happens again, please report it."
        )


class _Reporter:
    """Calls back now and then, not for every video."""

    def __init__(self, progress: Progress, callback: Callable[[Progress], None] | None) -> None:
        self.progress = progress
        self._callback = callback
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


class _Writing:
    """A thread that puts finished videos into the cache; its error comes up in the thread that feeds it."""

    def __init__(self, writer: CacheWriter, report: _Reporter) -> None:
        self._writer = writer
        self._report = report
        self._items: queue.Queue[VideoRecord | Failure | None] = queue.Queue(maxsize=64)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="vidclip-writer", daemon=True)

    def __enter__(self) -> _Writing:
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
                    return

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


def _encode_all(
    reading: _Reading,
    results: Iterator[tuple[int, Decoded | DecodeFailure]],
    writing: _Writing,
    batches: _Batches,
    report: _Reporter,
) -> None:
    while True:
        with report.waiting("decode"):
            index, result = next(results, (-1, None))
        if result is None:
            break
        video, source = reading.videos[index], reading.source(index)
        if isinstance(result, DecodeFailure):
            writing.put(Failure(video.id, str(video.path), result.stage, _why(video, result), **source))
            report.progress.failed += 1
        else:
            with result:
                finished = batches.add(video, result, source)
            _hand_over(finished, writing, report)
        report()
    _hand_over(batches.finish(), writing, report)


def _why(video: Video, failure: DecodeFailure) -> str:
    """Of a segment, the row with its times too: that may be what is wrong."""
    segment = video.start_seconds is not None or video.end_seconds is not None
    return f"{failure.reason} ({video.origin})" if segment and video.origin else failure.reason


def _hand_over(records: list[VideoRecord], writing: _Writing, report: _Reporter) -> None:
    for record in records:
        reason = _unusable(record.frames)
        if not reason:
            writing.put(record)
            report.progress.encoded += 1
            report.progress.frames += record.frames.shape[0] * record.frames.shape[1]
            report.progress.damaged += record.note.startswith(DAMAGED)
        else:
            source = {name: getattr(record, name) for name in _SOURCE}
            writing.put(Failure(record.id, record.path, "encode", reason, **source))
            report.progress.failed += 1


_SOURCE = ("source_bytes", "source_modified_ns", "generation")


def _unusable(frames: np.ndarray) -> str:
    """Why embeddings [V, T, D] cannot be kept; empty where they can."""
    with np.errstate(over="ignore"):
        stored = frames.astype(np.float16)
    if not np.isfinite(stored).all():
        return "the encoder gave numbers that are not finite; try --precision bf16 or fp32"
    if not stored.any(axis=-1).all():
        return "the encoder gave an embedding that is all zeros: it has no direction; are its weights whole?"
    return ""


@dataclass
class _Assembling:
    """A video whose frames are on their way through the encoder."""

    record: VideoRecord
    embeddings: np.ndarray
    """[V * T, D] float32: the record's frames, filled batch by batch."""
    missing: int
    """Rows not yet there."""


class _Batches:
    """Fills batches across videos and encodes them; on an accelerator, one is computed while the next fills."""

    def __init__(self, encoder: Encoder, preprocess: Preprocess, batch_size: int) -> None:
        self._encoder = encoder
        pinned = encoder.device.type == "cuda"
        shape = (batch_size, *preprocess.size, 3)
        self._buffers = deque(
            torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned) for _ in range(2 if pinned else 1)
        )
        self._filled = 0
        self._rows: list[tuple[_Assembling, int, int, int]] = []  # video, its rows, from row of the batch
        self._running: deque[tuple[torch.Tensor, list[tuple[_Assembling, int, int, int]]]] = deque()

    def add(self, video: Video, decoded: Decoded, source: dict[str, Any]) -> list[VideoRecord]:
        """Takes the pixels of a video in; returns the videos that became complete.

        source    what `_Reading.source` says of its file
        """
        views, times = decoded.pixels.shape[:2]
        pixels = decoded.pixels.reshape(views * times, *decoded.pixels.shape[2:])
        crops = views // len(decoded.frame_indices)
        embeddings = np.empty((views * times, self._encoder.dimension), np.float32)
        record = VideoRecord(
            id=video.id,
            path=str(video.path),
            frames=embeddings.reshape(views, times, -1),
            frame_indices=decoded.frame_indices.repeat(crops, axis=0),
            timestamps=decoded.timestamps.repeat(crops, axis=0),
            labels=video.labels,
            split=video.split,
            duration_seconds=decoded.duration_seconds,
            n_frames=decoded.n_frames,
            readable_frames=decoded.readable_frames,
            repeated=decoded.repeated,
            decoder=decoded.decoder,
            note=decoded.note,
            root=root_of(video),
            **source,
        )
        item = _Assembling(record, embeddings, missing=len(embeddings))
        finished: list[VideoRecord] = []
        taken = 0
        while taken < len(pixels):
            buffer = self._buffers[0]
            room = min(len(buffer) - self._filled, len(pixels) - taken)
            buffer[self._filled : self._filled + room].numpy()[:] = pixels[taken : taken + room]
            self._rows.append((item, taken, taken + room, self._filled))
            self._filled += room
            taken += room
            if self._filled == len(buffer):
                finished += self._encode()
        return finished

    def finish(self) -> list[VideoRecord]:
        """Encodes what is left, the batch padded to its size with what an earlier one left in it."""
        finished = self._encode() if self._rows else []
        while self._running:
            finished += self._collect()
        return finished

    def _encode(self) -> list[VideoRecord]:
        try:
            embeddings = self._encoder.encode_frames(self._buffers[0])
            self._running.append((embeddings, self._rows))
            self._rows, self._filled = [], 0
            self._buffers.rotate()
            finished: list[VideoRecord] = []
            while len(self._running) >= len(self._buffers):
                finished += self._collect()
        except torch.OutOfMemoryError:
            raise EncoderError(
                f"{self._encoder.device} has too little memory for batches of {len(self._buffers[0])} frames; "
                f"use --batch-size {max(1, len(self._buffers[0]) // 2)}."
            ) from None
        return finished

    def _collect(self) -> list[VideoRecord]:
        embeddings, rows = self._running.popleft()
        host = embeddings.cpu().numpy()
        finished = []
        for item, start, stop, place in rows:
            item.embeddings[start:stop] = host[place : place + stop - start]
            item.missing -= stop - start
            if not item.missing:
                finished.append(item.record)
        return finished
