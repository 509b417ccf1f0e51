"""The protocol `multi-label`: videos with any number of labels, all classes, mean average precision.

n videos tested, C classes. Scores are ranked as the scorers give them. Those of `vote`, of fusions, and of several
views are probabilities over the classes; the others, cosines. Ranked lists of the two kinds differ beyond what the
methods do: a softmax divides each video by another number.

The released scripts compute another figure (`CONVENTIONS`): probabilities go through a softmax over the classes again,
in float32, a class without positives counts as 0, and the Charades script prints a running mean of running figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon, LexiconError
from ..scoring import Scorer
from .average_precision import mean_average_precision, moved_interval, multi_label_metrics, resampled_maps
from .metrics import bootstrap_interval
from .run import (
    Comparison,
    Estimate,
    EvaluationError,
    Result,
    ambiguity_notes,
    bootstrap_p_value,
    check_finite,
    check_same_videos,
    choose_indices,
    coverage_notes,
    similarities_of,
)

PROTOCOL = "multi-label"
METRICS = {"map": "mAP", "top1": "top-1"}
"""Field of `MultiLabelMetrics` -> its name in tables."""

REPEATS = 1000
"""Resamples of the videos: each needs every class's list."""

CONVENTIONS = ("standard", "released-charades", "released-activitynet")
"""`standard`: scores as they are, classes without positives left out.

`released-charades`: test_charades.py of BIKE. Probabilities, their softmax in float32, the meter of
`mean_average_precision`; the figure is the mean over the batches of the meter for all videos up to each batch.
`released-activitynet`: test_anet.py of Text4Vis. Probabilities, their softmax in float32, the meter once. Where views
are averaged unscaled, as BIKE's scripts do, there is one softmax more: each of its scripts ends in one.
"""

RELEASED_BATCH = 256
"""Videos of a step of the Charades script: 32 on each of 8 devices."""

_BATCH_VIDEOS = 1024


@dataclass(frozen=True, eq=False)
class MultiLabelSet:
    """The videos that are tested, and the classes of each."""

    indices: np.ndarray
    """[n] positions of the videos in the cache."""
    targets: np.ndarray
    """[n, C] booleans, classes in the order of the lexicon."""
    split: str
    """Empty where all videos are tested."""
    notes: Sequence[str]

    def chance(self, convention: str) -> dict[str, float]:
        """What scores that know nothing reach on average, in percent, under one of CONVENTIONS.

        Of a class with P of n videos, the positive at place k of a random list has (k - 1) (P - 1) / (n - 1) others
        before it, so its precision is a little above P / n: much above where positives are few. Of top-1, the
        share of the classes that a labeled video has. Classes without videos count in `map` as 0 under the
        released conventions.
        """

        def expected_map(targets: np.ndarray) -> float:
            n_videos = len(targets)
            positives = targets.sum(axis=0)
            others = (positives - 1) / max(1, n_videos - 1)
            harmonic = (1 / np.arange(1, n_videos + 1)).sum()
            expected = np.where(positives > 0, others + (1 - others) * harmonic / n_videos, 0)
            return float((expected[positives > 0] if convention == "standard" else expected).mean())

        labeled = self.targets[self.targets.any(axis=1)]
        return {
            "map": 100 * _figure(convention, expected_map, self.targets),
            "top1": 100 * float(labeled.mean()),
        }


def select_multi_label(cache: FeatureCache, lexicon: Lexicon, split: str | None = None) -> MultiLabelSet:
    """All videos of a split, with their labels. Those without any are negatives of every class.

    split    as in `evaluate.select_test_set`
    Raises EvaluationError for a split the cache does not have, a label the lexicon does not have, and when no
    video has a label.
    """
    indices, split, notes = choose_indices(cache, split)
    targets = np.zeros((len(indices), len(lexicon)), bool)
    places = [i for i, index in enumerate(indices) for _ in cache.labels[index]]
    if not places:
        raise EvaluationError(
            f"none of the {len(indices)} videos of {cache.folder}{f' in the split {split}' if split else ''} has a "
            "label, so there is nothing to find. Labels come from --dataset, from folders, or from a CSV with the "
            "columns path,labels; extract such a list into another --cache."
        )
    try:
        classes = lexicon.resolve(label for index in indices for label in cache.labels[index])
    except LexiconError as error:
        raise EvaluationError(f"{error} The labels of {cache.folder} and --lexicon must fit.") from error
    targets[places, classes] = True
    unlabeled = int((~targets.any(axis=1)).sum())
    if unlabeled:
        notes.append(
            f"{unlabeled} videos without a label are negatives of every class in mAP, and do not count in top-1."
        )
    absent = int((~targets.any(axis=0)).sum())
    if absent:
        notes.append(
            f"{absent} classes have no video here: left out of mAP, or 0 in it with --map-convention released."
        )
    notes += [*coverage_notes(cache, split.split()), *ambiguity_notes(lexicon)]
    return MultiLabelSet(np.array(indices), targets, split, notes)


def released_convention(lexicon: str) -> str:
    """The convention of the script that tested the data set of this lexicon: Charades has one of its own."""
    return "released-charades" if lexicon == "charades" else "released-activitynet"


def evaluate_multi_label(
    cache: FeatureCache,
    test: MultiLabelSet,
    scorers: Sequence[Scorer],
    *,
    convention: str = "standard",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    repeats: int = REPEATS,
) -> list[Result]:
    """The mean average precision and top-1 of every scorer, in one pass over the features.

    convention    one of CONVENTIONS
    seed          of the bootstrap over videos, the same for every scorer: they are resampled in pairs
    repeats       resamples
    Memory is that of a batch, and of the scores [n, C] of every scorer, in its own type: float32 would make
    ties of small probabilities. Raises ValueError for another convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"the convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if not test.targets.any():
        raise EvaluationError("none of the videos to be tested has a label, so there is nothing to find.")
    classes = np.arange(test.targets.shape[1])
    pieces: list[list[np.ndarray]] = [[] for _ in scorers]
    for piece, frames in cache.batches(_BATCH_VIDEOS, test.indices):
        check_finite(cache, piece, frames)
        known: dict[int, Any] = {}
        for scorer, of_scorer in zip(scorers, pieces, strict=True):
            similarities = similarities_of(scorer, piece, frames, known)
            if convention == "standard":
                of_scorer.append(scorer.scores(similarities, classes))
            else:
                of_scorer.append(_released_scores(scorer, similarities, classes, convention))
    results = []
    for scorer, of_scorer in zip(scorers, pieces, strict=True):
        scores = np.concatenate(of_scorer)
        of_scorer.clear()
        results.append(_result(scorer.name, scores, test, convention, settings or {}, seed, repeats))
    return results


def _released_scores(scorer: Scorer, similarities: Any, classes: np.ndarray, convention: str) -> np.ndarray:
    """What the scripts rank: float32, with the ties that a softmax of probabilities makes."""
    scores = scorer.probabilities(similarities, classes).astype(np.float32)
    twice = convention == "released-activitynet" and getattr(scorer, "view_average", "") == "unscaled"
    for _ in range(2 if twice else 1):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores = powers / powers.sum(axis=-1, keepdims=True)
    return scores


def _figure(convention: str, figure: Callable[..., float], *arrays: np.ndarray) -> float:
    """The figure of arrays [n, C]; under `released-charades`, the mean over batches, weighted by their videos, of the
    figure for all videos up to each batch, in the order that its sampler draws (seed 0)."""
    if convention != "released-charades":
        return figure(*arrays)
    import torch

    n_videos = len(arrays[0])
    order = torch.randperm(n_videos, generator=torch.Generator().manual_seed(0)).numpy()
    ends = [min(n_videos, start + RELEASED_BATCH) for start in range(0, n_videos, RELEASED_BATCH)]
    figures = [figure(*(array[order[:end]] for array in arrays)) for end in ends]
    return float(np.average(figures, weights=np.diff([0, *ends])))


def _released_meter(scores: np.ndarray, targets: np.ndarray) -> float:
    """In percent; 0 for a beginning of the videos that has no label."""
    return mean_average_precision(scores, targets, convention="released") if targets.any() else 0.0


def _result(
    name: str,
    scores: np.ndarray,
    test: MultiLabelSet,
    convention: str,
    settings: Mapping[str, Any],
    seed: int,
    repeats: int,
) -> Result:
    meter = "standard" if convention == "standard" else "released"
    metrics = multi_label_metrics(scores, test.targets, convention=meter)
    if convention == "released-charades":
        metrics = replace(metrics, map=_figure(convention, _released_meter, scores, test.targets))
    labeled = np.flatnonzero(test.targets.any(axis=1))
    hits = test.targets[labeled, scores[labeled].argmax(axis=1)]
    maps = resampled_maps(scores, test.targets, np.random.default_rng(seed), repeats, convention=meter)
    of_map = moved_interval(maps, metrics.map)
    of_top1 = bootstrap_interval(100.0 * hits, np.random.default_rng(seed))
    return Result(
        protocol=PROTOCOL,
        scorer=name,
        figures={
            "map": Estimate(metrics.map, None, max(of_map.low, 0.0), min(of_map.high, 100.0)),
            "top1": Estimate(metrics.top1, None, of_top1.low, of_top1.high),
        },
        repetitions=[(PROTOCOL, metrics)],
        n_videos=metrics.n_videos,
        n_classes=metrics.n_classes,
        settings={
            **settings,
            "split": test.split,
            "map_convention": convention,
            "chance": test.chance(convention),
        },
        notes=test.notes,
        hits=[(labeled, hits)],
        resampled=maps,
    )


def compare_maps(result: Result, baseline: Result) -> Comparison:
    """How much higher the mean average precision of `result` is, over the same resamples of the videos.

    Raises EvaluationError when the two did not test the same videos, or were not resampled alike.
    """
    check_same_videos(result, baseline)
    if (
        result.resampled is None
        or baseline.resampled is None
        or len(result.resampled) != len(baseline.resampled)
    ):
        raise EvaluationError(f"{result.scorer} and {baseline.scorer} were not resampled alike")
    difference = result.figures["map"].mean - baseline.figures["map"].mean
    differences = result.resampled - baseline.resampled
    differences = differences[~np.isnan(differences)]
    interval = moved_interval(differences, difference)
    p = bootstrap_p_value(differences - differences.mean() + difference)
    name = f"{result.scorer} - {baseline.scorer}"
    return Comparison(name, difference, interval.low, interval.high, p, "map")
