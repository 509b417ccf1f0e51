"""The frames of a video of the cache, read from its file again: those that its features are of, or many more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...cache import FeatureCache
from ..datasets import segment_of
from ..encoders import Encoder
from ..video import ClipSpec, Decoded, DecodeError, Sampling, VideoRequest, decode_video, middle_frames

_BATCH = 32


class FramesError(ValueError):
    """Frames of a video of the cache that cannot be had, with what to do."""


@dataclass(frozen=True, eq=False)
class DenseFrames:
    """N different frames of a video, evenly over its time."""

    pixels: np.ndarray
    """[N, h, w, 3] uint8."""
    embeddings: np.ndarray
    """[N, D] float32, as the encoder gives them."""
    seconds: np.ndarray
    """[N] float64; nan for images."""
    indices: np.ndarray
    """[N] int64, which frames of the file they are."""


def read_cached_frames(cache: FeatureCache, index: int) -> np.ndarray:
    """Return what the encoder saw of a video, [V, T', h, w, 3] uint8; of several frames that have one embedding, the middle.

    Raises FramesError where the video cannot be read any more, or is not the one that the features are of.
    """
    clip_spec = _clip_spec(cache)
    decoded = _decode(cache, index, clip_spec)
    stored = cache.frame_indices([index])[0]  # [V, T']
    try:
        places = middle_frames(clip_spec.sampling.frames, stored.shape[1])
    except ValueError as error:
        raise FramesError(f"{cache.videos[index].id} cannot be drawn: {error}.") from error
    now = decoded.frame_indices[:, places].repeat(len(stored) // len(decoded.frame_indices), axis=0)
    if not np.array_equal(stored, now):
        info = cache.videos[index]
        raise FramesError(
            f"{info.id} cannot be drawn: {info.path} now gives the frames {_few(now)}, where the features are of "
            f"{_few(stored)}: the file has changed. Leave the picture out, or extract it into another --cache."
        )
    return decoded.pixels[:, places]


def read_dense_frames(cache: FeatureCache, index: int, count: int, encoder: Encoder) -> DenseFrames:
    """Read `count` frames of a video of the cache, or all of a shorter one, and encode them.

    Each is the middle one of its part of the time; of each its center crop, prepared as the cache's were.

    encoder    that of the cache
    Raises FramesError where the video cannot be read, and for an encoder whose frames see each other.
    """
    if encoder.frames_per_sample != 1:
        raise FramesError(
            f"the frames of {encoder.name} see each other, {encoder.frames_per_sample} at a time: others than those of "
            "the cache would be other embeddings. Leave --frames out."
        )
    sampling = Sampling(count, position="middle")
    decoded = _decode(cache, index, ClipSpec(sampling, _clip_spec(cache).preprocess))
    # A short video has fewer frames: one that stands there twice would take a share of its own twice.
    indices, first = np.unique(decoded.frame_indices[0], return_index=True)
    pixels = decoded.pixels[0][first]
    embeddings = [
        encoder.encode_frames(torch.from_numpy(pixels[start : start + _BATCH])).cpu().numpy()
        for start in range(0, len(pixels), _BATCH)
    ]
    return DenseFrames(pixels, np.concatenate(embeddings), decoded.timestamps[0][first], indices)


def _clip_spec(cache: FeatureCache) -> ClipSpec:
    try:
        return ClipSpec.from_identity(cache.identity)
    except ValueError as error:
        raise FramesError(f"the videos of {cache.folder} cannot be read as they were. {error}") from error


def _decode(cache: FeatureCache, index: int, clip_spec: ClipSpec) -> Decoded:
    info = cache.videos[index]
    draw = clip_spec.sampling.draw_of(info.id)
    try:
        return decode_video(VideoRequest(info.path, *segment_of(info.id, info.path), draw), clip_spec)
    except DecodeError as error:
        raise FramesError(
            f"{info.id} cannot be drawn: {info.path}: {error.reason}. Bring the video back, or ask for no picture of it."
        ) from error


def _few(indices: np.ndarray) -> str:
    numbers = [str(index) for index in indices[0][:8]]
    return ", ".join(numbers) + (", ..." if indices.size > 8 else "")
