"""Embeddings of whole lists of videos, in the frames that an extraction reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..datasets import Video
from .clips import ClipReader, request_of

_BATCH = 8


def embed_videos(
    reader: ClipReader,
    videos: Sequence[Video],
    encode: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Return (positions [m] of the videos that can be read, theirs of `encode`, [m, *shape] float32, reasons by id of the
    rest).

    encode    pixels [B, T, H, W, 3] uint8 -> embeddings or scores [B, *shape]
    """
    parts = [list(videos[start : start + _BATCH]) for start in range(0, len(videos), _BATCH)]
    kept: list[int] = []
    frames, failures = [np.zeros((0, *shape), np.float32)], {}
    requests = (request_of(video) for video in videos)
    for number, batch in enumerate(reader.batches(requests, [len(part) for part in parts])):
        failures |= {parts[number][i].id: why for i, why in batch.failures.items()}
        kept += (number * _BATCH + batch.indices).tolist()
        if len(batch.indices):
            frames.append(encode(batch.pixels).float().cpu().numpy())
    return np.array(kept, np.int64), np.concatenate(frames), failures
