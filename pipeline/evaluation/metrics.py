"""How good scores are: top-k, mean class accuracy, and how sure one can be of them.

N videos, C classes. Accuracies are in percent. Scores are compared as they come, in their own dtype: no
softmax before ranking, which would create ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Elements of the largest array made on the way: bounds the memory, whatever N and C are.
BLOCK_ELEMENTS = 1 << 22

# Up to so many different values, or one for so many videos, resamples are drawn as counts of values instead of as videos:
# a count costs as much as the draw of some sixteen videos.
_MOST_VALUES_COUNTED = 64
_VIDEOS_A_VALUE = 16


@dataclass(frozen=True)
class Metrics:
    """The figures of one test."""

    top1: float
    """Percent of the videos whose true class has the highest score."""
    top5: float
    """Percent of the videos whose true class is among the five highest."""
    mean_class: float
    """Mean over the classes that have videos of their top-1, in percent."""
    n_videos: int
    """Videos tested."""
    n_classes: int
    """Candidate classes."""


class Interval(NamedTuple):
    """The ends of a confidence interval, in the unit of what was averaged."""

    low: float
    high: float


def classification_metrics(scores: ArrayLike, labels: ArrayLike) -> Metrics:
    """Return all figures, for scores [N, C] and labels [N] as `label_ranks` takes them."""
    return metrics_of_ranks(label_ranks(scores, labels), labels, np.shape(scores)[1])


def metrics_of_ranks(ranks: NDArray[np.int64], labels: ArrayLike, n_classes: int) -> Metrics:
    """Return all figures, from the ranks [N] that `label_ranks` gave for labels [N] among C classes."""
    return Metrics(
        top1=_percent(ranks < 1),
        top5=_percent(ranks < 5),
        mean_class=_mean_over_classes(ranks < 1, labels),
        n_videos=len(ranks),
        n_classes=n_classes,
    )


def label_ranks(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Return how many classes come before the true one of each video; 0 where it is the best.

    scores  [N, C] larger is likelier; infinities are allowed
    labels  [N] integers in 0..C-1
    Returns [N] in 0..C-1. Classes before the true one are those that score higher, and of those that
    score the same, those with a smaller index: rank 0 is what `numpy.argmax` finds, and constant
    scores put class 0 first for every video instead of making all of them right.
    Raises ValueError for shapes or labels that do not fit, no videos, and scores that are not numbers.
    """
    scores = checked_scores(scores)
    n_videos, n_classes = scores.shape
    labels = np.asarray(labels)
    if labels.shape != scores.shape[:1]:
        raise ValueError(f"{n_videos} videos have scores, but the labels have the shape {labels.shape}")
    labels = checked_labels(labels, n_classes)
    ranks = np.empty(n_videos, np.int64)
    classes = np.arange(n_classes)
    rows = max(1, BLOCK_ELEMENTS // n_classes)
    for start in range(0, n_videos, rows):
        block, truth = scores[start : start + rows], labels[start : start + rows, None]
        own = np.take_along_axis(block, truth, axis=1)  # [rows, 1]
        found = ranks[start : start + rows]
        found[:] = np.count_nonzero(block > own, axis=1)
        equal = block == own  # [rows, C]
        tied = np.flatnonzero(np.count_nonzero(equal, axis=1) > 1)
        found[tied] += np.count_nonzero(equal[tied] & (classes < truth[tied]), axis=1)
    return ranks


def bootstrap_interval(
    values: ArrayLike, rng: np.random.Generator, *, level: float = 0.95, repeats: int = 10_000
) -> Interval:
    """Return the percentile bootstrap interval of the mean of one value a video.

    values   [N] hits (booleans), or any finite number for each video, such as the difference of two hits
    level    share of the resampled means inside the interval, between 0 and 1
    repeats  how often N videos are drawn, with replacement
    Returns the two ends in the unit of the values: give ``100 * hits`` for percent.
    Raises ValueError when there are no values, when one is not finite, or for a level or number of
    repeats out of range. Source: Efron 1979.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"values must be one number for each of one or more videos, got shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite, but that of video {np.argmin(np.isfinite(values))} is not")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    tail = (1 - level) / 2
    low, high = np.quantile(resampled_means(values, rng, repeats), [tail, 1 - tail])
    return Interval(float(low), float(high))


def resampled_means(
    values: NDArray[np.float64], rng: np.random.Generator, repeats: int
) -> NDArray[np.float64]:
    """Return means [repeats] of N of the values [N] drawn with replacement, again and again."""
    n_videos = len(values)
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= max(_MOST_VALUES_COUNTED, n_videos // _VIDEOS_A_VALUE):
        # How often each value occurs in a resample is multinomial (for hits: binomial): same distribution
        # as drawing videos, without drawing them.
        return rng.multinomial(n_videos, counts / n_videos, size=repeats) @ different / n_videos
    means = np.empty(repeats)
    at_once = max(1, BLOCK_ELEMENTS // n_videos)
    for start in range(0, repeats, at_once):
        stop = min(repeats, start + at_once)
        drawn = rng.integers(n_videos, size=(stop - start, n_videos))
        means[start:stop] = values[drawn].mean(axis=1)
    return means


def checked_scores(scores: ArrayLike) -> NDArray:
    """Return scores [N, C] as an array. Raises ValueError for another shape, no videos or classes, and scores that are
    not numbers, by the position of the video."""
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ValueError(f"scores must have the shape [videos, classes], got {scores.shape}")
    if not scores.size:
        raise ValueError(f"there are no {'classes' if len(scores) else 'videos'} to be tested")
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"scores must be numbers, but they are {scores.dtype}")
    rows = max(1, BLOCK_ELEMENTS // scores.shape[1])
    for start in range(0, len(scores), rows):
        bad = np.isnan(scores[start : start + rows]).any(axis=1)
        if bad.any():
            raise ValueError(f"the scores of video {start + int(np.argmax(bad))} are not numbers (NaN)")
    return scores


def checked_labels(labels: ArrayLike, n_classes: int) -> NDArray[np.intp]:
    """Return labels [N] as indices. Raises ValueError for no videos, another type, and labels that are no class."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be a class index for each of one or more videos, got {labels.dtype} {labels.shape}"
        )
    wrong = (labels < 0) | (labels >= n_classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"video {row} has the label {labels[row]}, but the classes are 0 to {n_classes - 1}")
    return labels.astype(np.intp)


def _mean_over_classes(hits: NDArray[np.bool_], labels: ArrayLike) -> float:
    labels = np.asarray(labels, np.intp)
    n_videos = np.bincount(labels)
    n_hits = np.bincount(labels, weights=hits)
    tested = n_videos > 0
    return 100 * float(np.mean(n_hits[tested] / n_videos[tested]))


def _percent(hits: NDArray[np.bool_]) -> float:
    return 100 * float(np.mean(hits))
