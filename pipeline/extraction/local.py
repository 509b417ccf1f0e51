"""Videos -> cache in one process. Decode, encode and write overlap; what is there already is not done again.

worker processes      decode, resize, crop     -> shared memory, bounded by its slots
the calling thread    fills batches, encodes   -> a queue, bounded
a thread              writes shards
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...cache import CacheWriter, Failure, FeatureCache, VideoRecord
from ..datasets import VideoList
from ..encoders import Encoder
from ..video import ClipSpec, Sampling
from .accounts import Job, Reporter, clip_spec, extract_by
from .extractor import Extractor
from .progress import Progress, Summary
from .settings import ExtractSettings


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

    def work(job: Job) -> None:
        todo, report = job.plan.todo, job.report
        with (
            _WriterThread(job.writer, report) as thread,
            Extractor(encoder, job.clip, job.settings, patches=job.patches, most=len(todo)) as extractor,
        ):
            for item in extractor.run(todo, job.plan.generations):
                report.progress.waited_seconds["decode"] = extractor.waited_seconds
                thread.put(item)
                report()

    settings = settings or ExtractSettings()
    clip = clip_spec(encoder, clip)
    return extract_by(work, videos, encoder, folder, clip, settings, stored=stored, on_progress=on_progress)


class _WriterThread:
    """A thread that puts finished videos into the cache; its error is raised in the thread that feeds it."""

    def __init__(self, writer: CacheWriter, report: Reporter) -> None:
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
        began = time.monotonic()
        try:
            while True:
                self._check()
                with contextlib.suppress(queue.Full):
                    self._items.put(item, timeout=0.5)
                    break
        finally:
            self._report.progress.waited_seconds["write"] += time.monotonic() - began
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
