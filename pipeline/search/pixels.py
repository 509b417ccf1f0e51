"""Near-duplicates by their pixels: candidates that features find are looked at again.

Of each video 16 frames over its length are made 32 x 32 gray pixels. What is compared is their differences between neighboring
pixels: edges stay where brightness, contrast, size and compression change, and two videos of the same kind of scene have
others.

    similarity    (mean over i of max over j of g_i . g_j  +  mean over j of max over i of g_i . g_j) / 2

of the L2-normalized differences g. A copy at another frame rate, or without its beginning, has other frames of the same
scene, so each frame counts by the nearest of the other video.

n videos, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ...cache import FeatureCache
from ..datasets import segment_of
from ..extraction import ExtractSettings, stamp_of
from ..scoring import l2_normalize
from ..video import ClipSpec, Decoded, DecodeFailure, DecodePool, Preprocess, Sampling, VideoRequest
from .duplicates import THRESHOLD, Duplicates

PIXELS_THRESHOLD = 0.7
"""Half-way between copies and other pairs of validation videos of the demo's world."""
FRAMES, SIDE = 16, 32
_FLAT = 20.0
"""A number that all frames have beside their differences, in gray levels: so two frames without any edge are alike."""


def compare_pixels(
    cache: FeatureCache,
    candidates: Sequence[Duplicates],
    threshold: float = PIXELS_THRESHOLD,
    *,
    features_threshold: float = THRESHOLD,
    reading: ExtractSettings | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> tuple[list[Duplicates], dict[int, str]]:
    """Return (the candidates that show the same, the most alike first; why videos could not be looked at, by position).

    candidates            pairs of videos of the cache, as `find_duplicates` finds them with `candidates_threshold`
    threshold             how alike the pixels are of two videos that show the same
    features_threshold    how alike the features are of two that show the same, where a file is gone, has changed since it
                          was read, or cannot be read
    reading               workers, and their limits of time and memory
    on_video              called with how many have been read, of how many
    """
    videos = sorted({video for pair in candidates for video in (pair.first, pair.second)})
    pictures = np.zeros((len(videos), FRAMES, SIDE, SIDE), np.uint8)
    clip_spec = ClipSpec(Sampling(FRAMES), Preprocess((SIDE, SIDE), resize_mode="squash"))
    unread: dict[int, str] = {}
    for done, (place, decoded) in enumerate(read_again(cache, videos, clip_spec, reading), 1):
        if isinstance(decoded, str):
            unread[videos[place]] = decoded
        else:
            pictures[place] = (decoded.pixels[0] @ np.array([0.299, 0.587, 0.114])).round()
        if on_video:
            on_video(done, len(videos))
    place_of = {video: place for place, video in enumerate(videos)}
    found = []
    for pair in candidates:
        if pair.first in unread or pair.second in unread:
            if pair.similarity >= features_threshold:
                found.append(pair)
            continue
        similarity = picture_similarity(pictures[place_of[pair.first]], pictures[place_of[pair.second]])
        if similarity >= threshold:
            found.append(replace(pair, similarity=similarity, by="pixels"))
    return sorted(found, key=lambda pair: (-pair.similarity, pair.first, pair.second)), unread


def picture_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Return how alike the frames [T, h, w] of two videos are, in gray levels; at most 1."""
    cosines = _edges(one) @ _edges(other).T
    return float(cosines.max(axis=1).mean() + cosines.max(axis=0).mean()) / 2


def _edges(frames: np.ndarray) -> np.ndarray:
    """Return the differences [T, h * (w - 1) + (h - 1) * w + 1] float32 of frames [T, h, w], L2-normalized."""
    gray = frames.astype(np.float32)
    across, down = np.diff(gray, axis=2), np.diff(gray, axis=1)
    flat = np.full((len(gray), 1), _FLAT, np.float32)
    return l2_normalize(
        np.concatenate([across.reshape(len(gray), -1), down.reshape(len(gray), -1), flat], axis=1)
    )


def read_again(
    cache: FeatureCache, indices: Sequence[int], clip_spec: ClipSpec, reading: ExtractSettings | None = None
) -> Iterator[tuple[int, Decoded | str]]:
    """Yield (place in `indices`, the video, or why it cannot be read again), in any order.

    A file of another size than the features are of is not read. Pixels are read before the next is asked for.
    """
    there: list[int] = []
    requests: list[VideoRequest] = []
    for place, index in enumerate(indices):
        info = cache.videos[index]
        stamp = stamp_of(info.path)
        if not stamp.known:
            yield place, "the file is gone"
        elif info.source_bytes >= 0 and stamp.size != info.source_bytes:
            yield place, "the file has changed since it was read"
        else:
            draw = clip_spec.sampling.draw_of(info.id)
            there.append(place)
            requests.append(VideoRequest(info.path, *segment_of(info.id, info.path), draw))
    if not requests:
        return
    reading = reading or ExtractSettings()
    with DecodePool(
        clip_spec,
        workers=min(reading.workers, len(requests)),
        timeout_seconds=reading.timeout_seconds,
        memory_gib=reading.memory_gib,
        decoder=reading.decoder,
    ) as pool:
        for number, result in pool.decode(requests, ordered=False):
            with result:
                yield there[number], result.reason if isinstance(result, DecodeFailure) else result
