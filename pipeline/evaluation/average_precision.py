"""How good scores are where a video has several labels, or none: mean average precision, and how sure it is.

N videos, C classes, R sets of weights. Average precisions of a class lie in 0..1; means over classes are in
percent. Scores are compared as they come, in their own dtype: no softmax before ranking. A softmax over the
classes divides each video by another number, so it reorders the videos of a class, beyond making ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics import BLOCK_ELEMENTS, Interval, checked_scores

# Elements of a block of resamples, which should fit a CPU's cache.
_BLOCK_WEIGHTS = 1 << 18


@dataclass(frozen=True)
class MultiLabelMetrics:
    """The figures of one test with any number of labels a video."""

    map: float
    """Mean average precision, in percent."""
    top1: float
    """Percent of the videos with a label whose best-scored class is one of their labels."""
    n_videos: int
    """Videos tested, those without a label included: they are negatives of every class."""
    n_unlabeled: int
    """Videos without a label. They count in `map`, not in `top1`."""
    n_classes: int
    """Candidate classes, those without positives included."""
    n_absent: int
    """Classes that no video has: left out of `map`, or 0 in it as released code counts."""


def multi_label_metrics(
    scores: ArrayLike, targets: ArrayLike, *, released: bool = False
) -> MultiLabelMetrics:
    """Return all figures, for scores [N, C] and targets [N, C] as `mean_average_precision` takes them.

    Top-1 is that of single labels where each video has one: of equal scores, the smallest class is the best.
    """
    scores, targets = _checked(scores, targets)
    labeled = targets.any(axis=1)
    hits = targets[np.arange(len(scores)), scores.argmax(axis=1)]
    return MultiLabelMetrics(
        map=mean_average_precision(scores, targets, released=released),
        top1=100 * float(np.mean(hits[labeled])),
        n_videos=len(scores),
        n_unlabeled=int(np.sum(~labeled)),
        n_classes=scores.shape[1],
        n_absent=int(np.sum(~targets.any(axis=0))),
    )


def mean_average_precision(scores: ArrayLike, targets: ArrayLike, *, released: bool = False) -> float:
    """Return the mean over the classes of their average precision, in percent.

    scores      [N, C] larger is likelier; infinities are allowed
    targets     [N, C] booleans: which classes each video has; some, one or none
    released    False: `average_precisions`, with classes without positives left out.
                True: as the meter counts that released BIKE (Charades) and Text4Vis (ActivityNet)
                share. The precision at the place of each positive, averaged over the positives, in a
                list where equal scores keep the order of the videos; a class without positives scores 0
                and counts.
    Raises ValueError as `average_precisions` does, and when no video has any label.

    As released, ties make the figure depend on the order of the videos. The scripts leave that order
    open (`torch.sort`, not stable), so with many ties their figure can be met only by chance. The rest of
    what they do is up to the caller: they rank float32 scores that went through two or three softmaxes over
    the classes, and the Charades script prints, as its result, the mean over batches, weighted by their
    videos, of this figure for all videos up to that batch.
    """
    scores, targets = _checked_labeled(scores, targets)
    if released:
        return 100 * float(np.mean([_precision_at_positives(*pair) for pair in _by_class(scores, targets)]))
    return 100 * float(np.nanmean(average_precisions(scores, targets)))


def average_precisions(scores: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Return the area under the precision-recall points of each class's ranked videos, without interpolation.

    scores   [N, C] larger is likelier; infinities are allowed
    targets  [N, C] booleans: which classes each video has
    Returns [C] in 0..1; NaN for a class without positives.
    Raises ValueError for shapes or types that do not fit, no videos, no classes, and scores that are not
    numbers.

    The list has one point for each different score, so videos that score the same come together, whatever
    their order. With R_k and P_k the recall and precision of all that score at least the k-th best value:
    AP = sum_k (R_k - R_(k-1)) P_k. This is what scikit-learn's `average_precision_score` computes.
    """
    scores, targets = _checked(scores, targets)
    areas = np.full(scores.shape[1], np.nan)
    for c, (of_class, truth) in enumerate(_by_class(scores, targets)):
        if truth.any():
            areas[c] = _areas(_rank(of_class, truth), np.ones((1, len(scores))))[0]
    return areas


def moved_interval(
    means: ArrayLike, figure: float, level: float = 0.95, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Return the percentile interval of resampled figures [repeats], moved so that their mean lies on the figure itself.

    means    NaN for resamples without a figure: they do not count
    level    share of the resamples inside the interval, between 0 and 1
    limits   where the interval is cut off

    Why it is moved: average precision falls as the list gets longer at the same share of positives, and the
    copies of a drawn positive stand together, so resamples score higher than the videos they come from. The
    percentile interval of weak scores can lie above the figure altogether; the spread is right. For the same
    reason the interval is about test sets of N videos, not about the limit of ever more videos. Differences of
    two scorers' resamples are moved in the same way.
    Raises ValueError for a level out of range, and where no resample has a figure.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    means = np.asarray(means, np.float64)
    n_resamples = len(means)
    means = means[~np.isnan(means)]
    if not len(means):
        raise ValueError(
            f"none of the {n_resamples} resamples has a video with a label: ask for more repeats"
        )
    tail = (1 - level) / 2
    low, high = np.clip(np.quantile(means, [tail, 1 - tail]) - means.mean() + figure, *limits)
    return Interval(float(low), float(high))


def resampled_maps(
    scores: ArrayLike,
    targets: ArrayLike,
    rng: np.random.Generator,
    repeats: int,
    *,
    released: bool = False,
) -> NDArray[np.float64]:
    """Return mean average precisions [repeats], in percent, of N of the videos drawn with replacement.

    scores [N, C], targets [N, C], and errors, as in `mean_average_precision`.
    released    False: classes of which a resample has no positive are left out of its mean; NaN where
                that leaves no class. True: they count as 0, as in the figure itself; equal scores
                are taken together all the same, as the order of drawn videos means nothing.

    The draws depend on the generator and N alone: two scorers of the same videos, each with a generator of
    the same seed, are resampled in pairs.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    scores, targets = _checked_labeled(scores, targets)
    # A resample is the number of times each video was drawn, as weights: each class is sorted once.
    rankings = [_rank(of_class, truth) for of_class, truth in _by_class(scores, targets) if truth.any()]
    n_videos, n_classes = scores.shape
    means = np.full(repeats, np.nan)
    at_once = max(1, _BLOCK_WEIGHTS // n_videos)
    for start in range(0, repeats, at_once):
        weights = _draw_counts(n_videos, min(at_once, repeats - start), rng)
        total, n_present = np.zeros(len(weights)), np.zeros(len(weights))
        for ranking in rankings:
            areas = _areas(ranking, weights)
            total += np.nan_to_num(areas)
            n_present += ~np.isnan(areas)
        if released:
            n_present[:] = n_classes
        np.divide(100 * total, n_present, out=means[start : start + at_once], where=n_present > 0)
    return means


@dataclass(frozen=True)
class _Ranking:
    """The videos of one class, best first, cut into segments that each end with the videos of one score.

    Precision counts only where recall grows, so a segment runs to the last video of the next score that a
    positive has, and the videos that follow the last positive's score are left out:

        score     9 8 8 7 6 6 5        + positive, - negative
        video     - - + - + - -
        segments  |x x x|x x x|        G = 2
    """

    videos: NDArray[np.intp]
    """[n] rows of the videos in the segments."""
    starts: NDArray[np.intp]
    """[G] where in `videos` each segment starts."""
    positives: NDArray[np.intp]
    """[P] rows of the positives, best first."""
    positive_starts: NDArray[np.intp]
    """[G] where in `positives` those of each segment start."""


def _rank(scores: NDArray, truth: NDArray[np.bool_]) -> _Ranking:
    """Rank scores [N] with truth [N], of which one at least is positive."""
    order = np.argsort(scores)[::-1]
    ranked, hits = scores[order], truth[order]
    last_of_score = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    score_of_hit = np.searchsorted(last_of_score, np.flatnonzero(hits))  # [P] which of the different scores
    segments, positive_starts = np.unique(score_of_hit, return_index=True)
    stops = last_of_score[segments] + 1
    return _Ranking(order[: stops[-1]], np.append(0, stops[:-1]), order[hits], positive_starts)


def _areas(ranking: _Ranking, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precisions [R] under the weights [R, N]; NaN where no positive has a weight."""
    positive_weights, all_weights = (
        weights.take(rows, axis=1) for rows in (ranking.positives, ranking.videos)
    )
    gained = np.add.reduceat(positive_weights, ranking.positive_starts, axis=1)  # [R, G]
    passed = np.add.reduceat(all_weights, ranking.starts, axis=1)  # [R, G]
    found, seen = gained.cumsum(axis=1), passed.cumsum(axis=1)
    precision = found / np.where(seen > 0, seen, 1)
    n_positives = found[:, -1]
    return (gained * precision).sum(axis=1) / np.where(n_positives > 0, n_positives, np.nan)


def _precision_at_positives(scores: NDArray, truth: NDArray[np.bool_]) -> float:
    """The released average precision of scores [N] and truth [N]."""
    # Best first with equal scores in the order of the videos, without negating: unsigned scores stay whole.
    order = (len(scores) - 1 - np.argsort(scores[::-1], kind="stable"))[::-1]
    places = 1 + np.flatnonzero(truth[order])
    return float(np.mean(np.arange(1, len(places) + 1) / places)) if len(places) else 0.0


def _draw_counts(n_videos: int, repeats: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of N videos is among N drawn with replacement: [repeats, N]."""
    drawn = rng.integers(n_videos, size=(repeats, n_videos)) + n_videos * np.arange(repeats)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=repeats * n_videos)
    return counts.reshape(repeats, n_videos).astype(np.float64)


def _by_class(scores: NDArray, targets: NDArray[np.bool_]) -> Iterator[tuple[NDArray, NDArray[np.bool_]]]:
    """(scores [N], truth [N]) of each class, contiguous: single columns lie scattered in memory."""
    at_once = max(1, BLOCK_ELEMENTS // len(scores))
    for start in range(0, scores.shape[1], at_once):
        classes = slice(start, start + at_once)
        yield from zip(
            np.ascontiguousarray(scores[:, classes].T),
            np.ascontiguousarray(targets[:, classes].T),
            strict=True,
        )


def _checked(scores: ArrayLike, targets: ArrayLike) -> tuple[NDArray, NDArray[np.bool_]]:
    scores, targets = checked_scores(scores), np.asarray(targets)
    if targets.shape != scores.shape:
        raise ValueError(
            f"scores have the shape {scores.shape} [videos, classes], but targets have {targets.shape}"
        )
    if targets.dtype.kind != "b":
        raise ValueError(
            f"targets must be booleans, True where a video has a class, but they are {targets.dtype}"
        )
    return scores, targets


def _checked_labeled(scores: ArrayLike, targets: ArrayLike) -> tuple[NDArray, NDArray[np.bool_]]:
    scores, targets = _checked(scores, targets)
    if not targets.any():
        n_videos, n_classes = targets.shape
        raise ValueError(
            f"none of the {n_videos} videos has any of the {n_classes} classes, so there is nothing to find"
        )
    return scores, targets
