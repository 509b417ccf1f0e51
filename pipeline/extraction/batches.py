"""Batches of frames across videos, on their way through an encoder: `FrameBatches`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ...cache import VideoRecord
from ..encoders import Encoder, EncoderError


@dataclass
class _Unfinished:
    """A video whose frames are on their way through the encoder."""

    record: VideoRecord
    embeddings: np.ndarray
    """[V * T', D] float32: the record's frames, filled batch by batch."""
    missing: int
    """How many frames are not embedded yet."""


class _Part(NamedTuple):
    """Frames `start` to `stop` of a video, which begin at `place` in a batch."""

    video: _Unfinished
    start: int
    stop: int
    place: int


class FrameBatches:
    """Fills batches across videos and encodes them; on an accelerator, one is computed while the next fills.

    A batch always has the same size (the last is padded), so the embeddings of a video do not depend on the videos
    that share its batches. It holds whole samples: frames that the encoder looks at together are neighbors in it.

    size          (height, width) of a frame
    batch_size    frames in one pass of the encoder, less what would cut a sample; at least one sample
    patches       whether the patch tokens of each clip are wanted too
    """

    def __init__(
        self, encoder: Encoder, size: tuple[int, int], batch_size: int, *, patches: bool = False
    ) -> None:
        self._encoder, self._patches = encoder, patches
        pinned = encoder.device.type == "cuda"
        batch_size = max(1, batch_size // encoder.frames_per_sample) * encoder.frames_per_sample
        self._buffers = deque(
            torch.zeros((batch_size, *size, 3), dtype=torch.uint8, pin_memory=pinned)
            for _ in range(2 if pinned else 1)
        )
        self._filled = 0
        self._parts: list[_Part] = []
        self._running: deque[tuple[torch.Tensor, torch.Tensor | None, list[_Part]]] = deque()

    def add(self, record: VideoRecord, pixels: np.ndarray) -> list[VideoRecord]:
        """Take a video in, and return the videos that became complete.

        record    its `frames` [V, T', D] float32, and `patches` [V, P, d] where they are wanted, are filled in place
        pixels    [V, T, height, width, 3] uint8, copied
        Raises EncoderError when the encoder runs out of memory.
        """
        pixels = pixels.reshape(-1, *pixels.shape[2:])
        embeddings = record.frames.reshape(-1, record.frames.shape[-1])
        video = _Unfinished(record, embeddings, missing=len(pixels))
        complete: list[VideoRecord] = []
        taken = 0
        while taken < len(pixels):
            buffer = self._buffers[0]
            stop = min(taken + len(buffer) - self._filled, len(pixels))
            part = _Part(video, taken, stop, self._filled)
            self._filled += stop - taken
            buffer[part.place : self._filled].numpy()[:] = pixels[taken:stop]
            self._parts.append(part)
            taken = stop
            if self._filled == len(buffer):
                complete += self._encode()
        return complete

    def finish(self) -> list[VideoRecord]:
        """Encode what is left, the batch padded to its size with what an earlier one left in it."""
        complete = self._encode() if self._parts else []
        while self._running:
            complete += self._collect()
        return complete

    def _encode(self) -> list[VideoRecord]:
        complete: list[VideoRecord] = []
        try:
            self._running.append((*self._embed(self._buffers[0]), self._parts))
            self._parts, self._filled = [], 0
            self._buffers.rotate()
            while len(self._running) >= len(self._buffers):
                complete += self._collect()
        except torch.OutOfMemoryError:
            raise EncoderError(
                f"{self._encoder.device} has too little memory for batches of {len(self._buffers[0])} frames; "
                f"use --batch-size {max(1, len(self._buffers[0]) // 2)}."
            ) from None
        return complete

    def _embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the embeddings [B n' / n, D] of a batch, and the patch tokens [B / T, P, d] of its clips."""
        if not self._patches:
            return self._encoder.encode_frames(pixels), None
        clips = pixels.unflatten(0, (-1, self._encoder.frames_per_sample))
        frames, patches = self._encoder.encode_clips(clips)
        return frames.flatten(0, 1), patches

    def _collect(self) -> list[VideoRecord]:
        embeddings, patches, parts = self._running.popleft()
        host = embeddings.cpu().numpy()
        tokens = None if patches is None else patches.cpu().numpy()
        size, given = self._encoder.frames_per_sample, self._encoder.embeddings_per_sample
        complete = []
        for video, start, stop, place in parts:  # of whole samples
            samples = slice(start // size, stop // size)
            found = slice(place // size, (place + stop - start) // size)
            video.embeddings[_times(samples, given)] = host[_times(found, given)]
            if tokens is not None and video.record.patches is not None:
                video.record.patches[samples] = tokens[found]
            video.missing -= stop - start
            if not video.missing:
                complete.append(video.record)
        return complete


def _times(samples: slice, given: int) -> slice:
    return slice(samples.start * given, samples.stop * given)
