"""Moments: when in a video something happens.

    frame scores      .1  .1  .6  .7  .6  .2  .5  .1      background .1, best .7, level .5: from .4 on
    moments                  |=========|     |==|         borders half-way between neighboring frames

A frame belongs to a moment where it lies above `level` of the way from the background, the mean score of all frames
of the cache, to the best frame of its video. So a video that shows the same throughout is one moment, and one that
shows it for a while is that while.

N videos, V views, T frames, F different times of a video, D dimensions, Q queries, K results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...cache import FeatureCache
from ..datasets import segment_of
from ..scoring import ConceptSpotter, cosine_scores, read_frames

LEVEL = 0.7
"""Chosen on validation videos of the demo's world, among 0.3, 0.4, ... 0.8."""


@dataclass(frozen=True)
class Moment:
    """A part of a video."""

    video: int
    """Its position in the cache."""
    score: float
    """Of its best frame; by concept spotting, of the video."""
    start_seconds: float | None
    """Half-way between its first frame and the one before; None where the frames have no times, as images."""
    end_seconds: float | None
    """Half-way between its last frame and the next."""
    frames: tuple[int, int]
    """Its first and last embedded frame, as frames of the video."""
    share: float | None = None
    """By concept spotting, the share of attention that its frames have."""


@dataclass(frozen=True)
class Timeline:
    """The different frames that are known of a video, in the order of time."""

    frame_indices: np.ndarray
    """[F] int64, ascending."""
    borders: np.ndarray
    """[F + 1] float64 seconds: frame i stands for borders[i] to borders[i + 1]. NaN where there are no times."""
    places: np.ndarray
    """[V * T] int64: which of the F frames each stored one is; crops and repeated frames are of one time."""


def timeline_of(
    frame_indices: np.ndarray,
    timestamps: np.ndarray,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> Timeline:
    """Return the timeline of a video.

    frame_indices    [V, T] int64
    timestamps       [V, T] float64 seconds; NaN where there are none
    start_seconds    where the video, or its segment, begins
    end_seconds      where it ends; None: unknown

    The first and the last frame stand for as much before and after them as lies between neighbors, within the video:
    dense frames show a part of it alone. A single frame stands for all of it; where the end is unknown, for no time.
    """
    indices, first, places = np.unique(frame_indices.reshape(-1), return_index=True, return_inverse=True)
    times = timestamps.reshape(-1)[first].astype(np.float64)
    end = math.inf if end_seconds is None else end_seconds
    if np.isnan(times).any():
        borders = np.full(len(times) + 1, np.nan)
    elif len(times) == 1:
        borders = np.array([start_seconds, end if math.isfinite(end) else times[0]])
    else:
        before, after = times[0] - (times[1] - times[0]), times[-1] + (times[-1] - times[-2])
        middles = (times[:-1] + times[1:]) / 2
        borders = np.concatenate([[max(start_seconds, before)], middles, [min(end, after)]])
    return Timeline(indices, borders, places.reshape(-1))


def runs_above(scores: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each run of neighbors [F] that are at least the threshold."""
    inside = np.concatenate([[False], scores >= threshold, [False]])
    changes = np.flatnonzero(inside[1:] != inside[:-1])
    for begin, end in changes.reshape(-1, 2).tolist():
        yield begin, end - 1


def moments_of(
    cache: FeatureCache, videos: Sequence[int], query: np.ndarray, background: float, *, level: float = LEVEL
) -> list[Moment]:
    """Return the moments of some videos, those of the best frames first.

    query         [D]
    background    the mean cosine of the query with the frames of the cache; see `mean_frame`
    level         how far from the background, 0, to the best frame of the video, 1, a moment reaches down

    A video whose best frame is not above the background has its best frames alone. Raises NotFinite for damaged features.
    """
    found = []
    for video, frames, timeline in _read(cache, videos):
        cosines = cosine_scores(frames, query[None])[:, 0]
        scores = _best_by_time(cosines, timeline)
        best = float(scores.max())
        threshold = min(best, background + level * (best - background))
        for first, last in runs_above(scores, threshold):
            found.append(_moment(video, timeline, first, last, float(scores[first : last + 1].max())))
    return sorted(found, key=lambda moment: -moment.score)


def spotted_moments(
    cache: FeatureCache, videos: Sequence[int], spotter: ConceptSpotter, query: int, *, level: float = LEVEL
) -> list[Moment]:
    """Return the moments of some videos by the saliency of concept spotting, those of the best video first.

    query    which class of the spotter
    level    the share of attention of a frame, over that of the best frame of the video, from which a moment has it

    Of several views each gives its frames their shares; a frame that two views have, the mean.
    Source: Wu et al. 2023 (BIKE), section 2.3, equation 5.
    """
    found = []
    views, times = cache.shape[1:3]
    for video, frames, timeline in _read(cache, videos):
        by_view = frames.reshape(views, times, -1)
        score = float(spotter.scores(by_view)[:, query].mean())
        shares = np.bincount(timeline.places, spotter.saliency(by_view)[:, query].reshape(-1)) / views
        own = []
        for first, last in runs_above(shares, level * float(shares.max())):
            share = float(shares[first : last + 1].sum())
            own.append(_moment(video, timeline, first, last, score, share))
        found += sorted(own, key=lambda moment: -(moment.share or 0))
    return sorted(found, key=lambda moment: -moment.score)


def mean_frame(cache: FeatureCache, *, sample: int = 2048, seed: int = 0) -> np.ndarray:
    """Return the mean [D] float32 of the L2-normalized frame embeddings of the cache, over a random sample of videos: its
    product with a query is the background of `moments_of`."""
    n = len(cache)
    if n > sample:
        indices = np.sort(np.random.default_rng(seed).choice(n, sample, replace=False))
    else:
        indices = np.arange(n)
    total = np.zeros(cache.shape[3], np.float64)
    for start in range(0, len(indices), 512):
        frames = torch.from_numpy(read_frames(cache, indices[start : start + 512])).float()
        total += F.normalize(frames, dim=-1).sum(dim=(0, 1, 2)).double().numpy()
    return (total / max(1, len(indices) * cache.shape[1] * cache.shape[2])).astype(np.float32)


def _read(cache: FeatureCache, videos: Sequence[int]) -> Iterator[tuple[int, np.ndarray, Timeline]]:
    """Yield (video, frames [V * T, D], timeline) of each."""
    wanted = np.asarray(videos, np.int64)
    for start in range(0, len(wanted), 256):
        piece = wanted[start : start + 256]
        frames = read_frames(cache, piece)
        indices, seconds = cache.frame_indices(piece), cache.timestamps(piece)
        for video, own, own_indices, own_seconds in zip(
            piece.tolist(), frames, indices, seconds, strict=True
        ):
            info = cache.videos[video]
            start_of, end_of = segment_of(info.id, info.path)
            ends = [end for end in (end_of, info.duration_seconds or None) if end is not None]
            timeline = timeline_of(
                own_indices,
                own_seconds,
                start_seconds=start_of or 0.0,
                end_seconds=min(ends) if ends else None,
            )
            yield video, own.reshape(-1, own.shape[-1]), timeline


def _best_by_time(cosines: np.ndarray, timeline: Timeline) -> np.ndarray:
    """Return [F] of [V * T]: of several crops at one time, the best."""
    best = np.full(len(timeline.frame_indices), -np.inf)
    np.maximum.at(best, timeline.places, cosines)
    return best


def _moment(
    video: int, timeline: Timeline, first: int, last: int, score: float, share: float | None = None
) -> Moment:
    start, end = float(timeline.borders[first]), float(timeline.borders[last + 1])
    known = not math.isnan(start) and not math.isnan(end)
    frames = (int(timeline.frame_indices[first]), int(timeline.frame_indices[last]))
    return Moment(video, score, start if known else None, end if known else None, frames, share)
