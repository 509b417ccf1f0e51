"""Clips of a training, batch by batch: in which order, with which draws, and their pixels.

The clips of a step follow from (seed, epoch) alone; of G processes each takes every G-th of them. What is drawn for a
clip follows from (seed, pass, video), so that the same recipe sees the same clips on any number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..datasets import Video
from ..heads import random_order
from ..video import DecodeFailure, DecodePool, VideoRequest
from .errors import FinetuneError


def epoch_steps(n_clips: int, batch_size: int) -> int:
    """Return the steps of an epoch: a last batch that is not full is left out, unless it is the only one."""
    return max(1, n_clips // batch_size)


def epoch_order(n_videos: int, copies: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the clips of each step of an epoch: numbers below n_videos x copies, number = copy x n_videos + video."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    order = random_order(n_videos, copies, rng) + np.repeat(np.arange(copies) * n_videos, n_videos)
    steps = epoch_steps(len(order), batch_size)
    return [order[step * batch_size : (step + 1) * batch_size] for step in range(steps)]


def request_of(video: Video, draw: tuple[int, ...] | None = None) -> VideoRequest:
    """Return what is asked of a video, or of its segment."""
    return VideoRequest(video.path, video.start_seconds, video.end_seconds, draw)


@dataclass(frozen=True)
class Batch:
    """Clips that could be read, and the others."""

    indices: np.ndarray
    """[B] positions in what was asked for as one batch."""
    pixels: torch.Tensor
    """[B, T, H, W, 3] uint8."""
    failures: dict[int, str]
    """Position of a clip that could not be read, and why."""


class ClipReader:
    """Reads batches of clips in the processes of a pool, which work ahead by as many as its slots.

    waited_seconds    how long somebody has waited for clips so far
    """

    def __init__(self, pool: DecodePool, shape: tuple[int, ...]) -> None:
        """shape    [T, H, W, 3] of a clip"""
        self._pool, self._shape = pool, shape
        self.waited_seconds = 0.0

    def batches(self, requests: Iterable[VideoRequest], sizes: Sequence[int]) -> Iterator[Batch]:
        """Yield the requests, in order, in batches of these sizes. Raises DecodeWorkerError."""
        results = self._pool.decode(requests)
        for size in sizes:
            pixels = torch.empty(size, *self._shape, dtype=torch.uint8)
            read: list[int] = []
            failures: dict[int, str] = {}
            began = time.monotonic()
            for place in range(size):
                _, result = next(results)
                with result:
                    if isinstance(result, DecodeFailure):
                        failures[place] = result.reason
                    else:
                        np.copyto(pixels[len(read)].numpy(), result.pixels[0])
                        read.append(place)
            self.waited_seconds += time.monotonic() - began
            yield Batch(np.array(read, np.int64), pixels[: len(read)], failures)


def check_held_out(reader: ClipReader, videos: Sequence[Video]) -> None:
    """Raise FinetuneError where there are videos that would choose the epoch, and none of them can be read."""
    first = ""
    for video, batch in zip(videos, reader.batches(map(request_of, videos), [1] * len(videos)), strict=True):
        if not batch.failures:
            return
        first = first or f"{video.id}: {batch.failures[0]}"
    if first:
        raise FinetuneError(
            f"none of the {len(videos)} held-out videos can be read; {first}. Take such videos out of the list, or hold "
            "none out: --held-out 0."
        )
