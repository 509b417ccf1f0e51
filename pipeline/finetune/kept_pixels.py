"""Training clips from frames that are decoded once and kept, so that later epochs decode nothing.

    |x . x . x|x . x . x|     M = 3 kept frames in each of T = 2 segments: a clip has one of them, drawn
     frames in their own proportions -> box, flip, as drawn for a clip -> pixels

Boxes are cut out of frames whose shorter side is 8 / 7 of what the model sees (256 for 224), as the papers scale them.
T frames of a clip.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from ..video import ClipSpec, DecodeFailure, DecodePool, FrameSelection, VideoRequest, whole_frames
from .clips import Batch


def kept_spec(drawn: ClipSpec, per_segment: int) -> ClipSpec:
    """Return what is decoded of a video: M frames of each segment, at the middles of its M parts.

    drawn    what a clip is: random frames, boxes and flips
    """
    n_frames = drawn.sampling.frames * per_segment
    sampling = replace(drawn.sampling, frames=n_frames, position="middle")
    side = drawn.preprocess.resize or max(drawn.preprocess.size)
    if drawn.augmentation is not None and drawn.augmentation.crop:
        side = max(side, round(max(drawn.preprocess.size) * 8 / 7))
    return whole_frames(sampling, drawn.preprocess, side)


class KeptReader:
    """Reads batches of clips, as `ClipReader` does; what it has decoded, it keeps.

    waited_seconds    how long somebody has waited for clips so far
    """

    def __init__(self, pool: DecodePool, drawn: ClipSpec, per_segment: int, threads: int) -> None:
        """
        pool       decodes `kept_spec`
        threads    that cut boxes out of the kept frames
        """
        self._pool, self._drawn, self._per_segment, self._threads = pool, drawn, per_segment, threads
        self._kept: dict[VideoRequest, np.ndarray] = {}
        self._failed: dict[VideoRequest, str] = {}
        self.waited_seconds = 0.0

    @property
    def bytes_per_video(self) -> float:
        """Of kept frames, on average; 0 where nothing was read yet."""
        return sum(frames.nbytes for frames in self._kept.values()) / max(1, len(self._kept))

    def batches(self, requests: Iterable[VideoRequest], sizes: Sequence[int]) -> Iterator[Batch]:
        """Yield the requests, in order, in batches of these sizes. Raises DecodeWorkerError."""
        clips = list(requests)
        known = self._kept.keys() | self._failed.keys()
        wanted = [video for video in dict.fromkeys(map(_whole, clips)) if video not in known]
        results, shape = self._decode(wanted), self._drawn.shape[1:]
        with ThreadPoolExecutor(self._threads) as threads:
            for start, size in zip(np.cumsum([0, *sizes]).tolist(), sizes, strict=False):
                began = time.monotonic()
                own = clips[start : start + size]
                for request in own:
                    while _whole(request) not in self._kept and _whole(request) not in self._failed:
                        next(results)
                failures = {
                    i: self._failed[_whole(each)]
                    for i, each in enumerate(own)
                    if _whole(each) in self._failed
                }
                read = [i for i in range(size) if i not in failures]
                pixels = torch.empty(len(read), *shape, dtype=torch.uint8)
                for place, clip in enumerate(threads.map(self._draw, [own[i] for i in read])):
                    np.copyto(pixels[place].numpy(), clip)
                self.waited_seconds += time.monotonic() - began
                yield Batch(np.array(read, np.int64), pixels, failures)

    def _decode(self, videos: Sequence[VideoRequest]) -> Iterator[None]:
        """Keep the videos, one after the other, in order."""
        for index, result in self._pool.decode(videos):
            with result:
                if isinstance(result, DecodeFailure):
                    self._failed[videos[index]] = result.reason
                else:
                    self._kept[videos[index]] = result.pixels[0].copy()
            yield

    def _draw(self, request: VideoRequest) -> np.ndarray:
        """Return the clip [T, H, W, 3] of a draw."""
        frames, per_segment = self._kept[_whole(request)], self._per_segment
        n_frames = self._drawn.sampling.frames
        rng = np.random.default_rng(request.draw)
        chosen = np.arange(n_frames) * per_segment + rng.integers(per_segment, size=n_frames)
        selection = FrameSelection(request, self._drawn)
        return np.stack([selection.crops(frames[i])[0] for i in chosen])


def _whole(request: VideoRequest) -> VideoRequest:
    """Return the video, or segment, of a clip."""
    return replace(request, draw=None)
