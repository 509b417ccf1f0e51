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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..cache import CacheWriter, Failure, FeatureCache, Identity, VideoRecord
from .datasets import Video, VideoList
from .decode import WORKER_MEMORY_GIB, Decoded, DecodeFailure, DecodePool, VideoRequest
from .encoder import Encoder, EncoderError
from .preprocess import Preprocess
from .sampling import Sampling


class ExtractionError(Exception):
    """An extraction that could not go on, or whose books do not balance."""


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
    def held_up_by(self) -> str:
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


def cache_identity(encoder: Encoder, sampling: Sampling, preprocess: Preprocess) -> Identity:
    """Who a cache of these features is. `preprocess` is the encoder's own, with another `resize` maybe."""
    return Identity(
        encoder=encoder.identity,
        sampling={**sampling.to_dict(), "resize": preprocess.resize},
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
    shard_seconds: float = 60.0,
    created_by: str = "vidclip",
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Brings the features of `videos` into the cache `folder`; videos that are there are left alone.

    A video may be a file, a segment of a file, or a folder of images. Of a segment, frames are chosen inside
    it alone; `frame_indices`, `timestamps`, `duration_seconds` and `n_frames` are those of its whole file.

    preprocess      the encoder's own, or with another short side before cropping
    workers         processes that decode, one video at a time each
    memory_gib      what each of them may take (see `DecodePool`)
    batch_size      frames in one pass of the encoder
    part            (i, n): of the list, the videos i, i + n, i + 2n, ...
    retry_failed    try those again that an earlier run could not read
    on_progress     called a few times a second, from this thread

    KeyboardInterrupt ends it early: what is encoded is written, and the summary says so.
    Raises CacheMismatch, CacheBusy, CacheError (see `CacheWriter`); EncoderError when the encoder runs
    out of memory; OSError when the disk is full; ExtractionError when videos were lost; ValueError for a
    segment that ends before it begins. The cache is whole in any case.
    """
    preprocess = preprocess or encoder.preprocess
    mine = videos if part is None else videos[part[0] :: part[1]]
    identity = cache_identity(encoder, sampling, preprocess)
    report = _Reporter(Progress(listed=len(mine)), on_progress)
    interrupted = False
    with CacheWriter(
        folder,
        identity,
        part=part,
        precision=encoder.precision,
        created_by=created_by,
        shard_seconds=shard_seconds,
    ) as writer:
        known = writer.ids if retry_failed else writer.ids | writer.failed_ids
        todo = [video for video in mine if video.id not in known]
        report.progress.present = len(mine) - len(todo)
        report(force=True)
        if todo:
            requests = [_request(video) for video in todo]  # now, not hours later: one may be wrong
            batches = _Batches(encoder, preprocess, batch_size)
            try:
                with (
                    _Writing(writer, report) as writing,
                    DecodePool(
                        sampling,
                        preprocess,
                        workers=min(workers, len(todo)),
                        timeout_seconds=timeout_seconds,
                        memory_gib=memory_gib,
                    ) as pool,
                ):
                    # As they are finished: a video that hangs holds up its worker, and nobody else.
                    results = pool.decode(requests, ordered=False)
                    _encode_all(todo, results, writing, batches, report)
            except KeyboardInterrupt:
                interrupted = True
    report(force=True)
    failures = _balance(mine, folder, interrupted)
    return Summary(report.progress, failures, interrupted)


def _request(video: Video) -> VideoRequest:
    try:
        return VideoRequest(video.path, video.start_seconds, video.end_seconds)
    except ValueError as error:
        raise ValueError(f"{video.where}: {error}") from None


def _balance(videos: VideoList, folder: str | Path, interrupted: bool) -> list[Failure]:
    """The failures among `videos`. Raises ExtractionError if one has neither features nor a failure."""
    cache = FeatureCache(folder)
    failed = {failure.id: failure for failure in cache.failures()}
    lost = [video.id for video in videos if video.id not in cache and video.id not in failed]
    if lost and not interrupted:
        raise ExtractionError(
            f"{len(lost)} of {len(videos)} videos are neither in {folder} nor in its failures.jsonl, the first "
            f"is {lost[0]!r}. Run the same command again; if it happens again, please report it."
        )
    return [failed[video.id] for video in videos if video.id in failed]


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
    todo: Sequence[Video],
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
        video = todo[index]
        if isinstance(result, DecodeFailure):
            writing.put(Failure(video.id, str(video.path), result.stage, _why(video, result)))
            report.progress.failed += 1
        else:
            with result:
                finished = batches.add(video, result)
            _hand_over(finished, writing, report)
        report()
    _hand_over(batches.finish(), writing, report)


def _why(video: Video, failure: DecodeFailure) -> str:
    """Of a segment, the row with its times too: that may be what is wrong."""
    segment = video.start_seconds is not None or video.end_seconds is not None
    return f"{failure.reason} ({video.origin})" if segment and video.origin else failure.reason


def _hand_over(records: list[VideoRecord], writing: _Writing, report: _Reporter) -> None:
    for record in records:
        with np.errstate(over="ignore"):
            finite = bool(np.isfinite(record.frames.astype(np.float16)).all())
        if finite:
            writing.put(record)
            report.progress.encoded += 1
            report.progress.frames += record.frames.shape[0] * record.frames.shape[1]
        else:
            reason = "the encoder gave numbers that are not finite; try --precision bf16 or fp32"
            writing.put(Failure(record.id, record.path, "encode", reason))
            report.progress.failed += 1


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

    def add(self, video: Video, decoded: Decoded) -> list[VideoRecord]:
        """Takes the pixels of a video in; returns the videos that became complete."""
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
