"""Videos through decoders and an encoder to records: `Extractor`, which knows neither a cache nor its lock.

worker processes      decode, resize, crop     -> shared memory, bounded by its slots
the calling thread    fills batches, encodes   -> records and failures
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...cache import Failure, VideoRecord
from ..datasets import Video
from ..encoders import Encoder, embeddings_of_view
from ..video import (
    DECODE_WITH_DIGEST,
    ClipSpec,
    Decoded,
    DecodeFailure,
    DecodePool,
    VideoRequest,
    middle_frames,
)
from .batches import FrameBatches
from .plan import request_of
from .settings import ExtractSettings
from .stamps import Stamp, root_of, stamps_ahead


class Extractor:
    """An encoder with the processes that decode for it, which stay from one `run` to the next.

    clip        which frames and which of their pixels
    patches     whether the patch tokens of each clip are kept too
    most        of how many videos at most a `run` will be: no more processes are started

    Close it, or use it in a `with` statement: the processes end with it.
    """

    def __init__(
        self, encoder: Encoder, clip: ClipSpec, settings: ExtractSettings, *, patches: bool, most: int
    ) -> None:
        self.waited_seconds = 0.0
        """How long the encoder has waited for frames, in all runs."""
        self._clip = clip
        self._empty = _Empty(
            embeddings_of_view(encoder, clip.sampling.frames),
            encoder.dimension,
            encoder.patch_shape if patches else None,
        )
        batch_size = settings.batch_size or (32 if encoder.device.type == "cpu" else 256)
        self._batches = FrameBatches(encoder, clip.preprocess.size, batch_size, patches=patches)
        self._pool = DecodePool(
            clip,
            workers=max(1, min(settings.workers, most)),
            timeout_seconds=settings.timeout_seconds,
            memory_gib=settings.memory_gib,
            decoder=settings.decoder,
            decode=DECODE_WITH_DIGEST,
        )

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def run(self, videos: Sequence[Video], generations: Mapping[str, int]) -> Iterator[VideoRecord | Failure]:
        """Yield the record of each video, or why there is none, as they are finished.

        generations    of the videos, by id, where they are not 0
        A run that is not taken to its end is the last one.
        Raises EncoderError when the encoder runs out of memory; ValueError for a segment that ends before it begins.
        """
        stamps: dict[int, Stamp] = {}

        def stamped() -> Iterator[VideoRequest]:
            # Each file is looked at before it is read: if it is changed while it is read, the next extraction sees it.
            for index, stamp in enumerate(stamps_ahead(video.path for video in videos)):
                stamps[index] = stamp
                yield request_of(videos[index], self._clip.sampling)

        # As they are finished: a video that hangs blocks its worker alone.
        results = self._pool.decode(stamped(), ordered=False)
        while True:
            began = time.monotonic()
            index, result = next(results, (-1, None))
            self.waited_seconds += time.monotonic() - began
            if result is None:
                break
            video = videos[index]
            size, modified_ns = stamps.pop(index)
            source = (size, modified_ns, generations.get(video.id, 0))
            if isinstance(result, DecodeFailure):
                reason = result.reason
                if video.origin and (video.start_seconds is not None or video.end_seconds is not None):
                    reason += f" ({video.origin})"  # the list's row: the times of the segment may be wrong
                yield Failure(video.id, str(video.path), result.stage, reason, *source)
            else:
                with result:
                    complete = self._batches.add(_record(video, result, self._empty, source), result.pixels)
                yield from map(_usable, complete)
        yield from map(_usable, self._batches.finish())


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
