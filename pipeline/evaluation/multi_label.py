"""The protocol `multi-label`: videos with any number of labels, all classes, mean average precision.

n videos tested, C classes. Scores are ranked as the scorers give them. Those of `vote`, of fusions, and of several
views are probabilities over the classes; the others, cosines. Ranked lists of the two kinds differ beyond what the
methods do: a softmax divides each video by another number.

The released scripts compute another figure. The conventions (MAP_CONVENTIONS):

`standard`: scores as they are, classes without positives left out.

`released-charades`: test_charades.py of BIKE. Probabilities, their softmax in float32, the meter of
`mean_average_precision`; the figure is the mean over the batches of the meter for all videos up to each batch.
`released-activitynet`: test_anet.py of Text4Vis. Probabilities, their softmax in float32, the meter once. Where views
are averaged unscaled, as BIKE's scripts do, there is one softmax more: each of its scripts ends in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..choices import MAP_CONVENTIONS, MULTI_LABEL
from ..scoring import FeatureSource, Scorer, scan_scores
from .average_precision import mean_average_precision, moved_interval, multi_label_metrics, resampled_maps
from .labels import LabeledVideos
from .metrics import bootstrap_interval
from .results import Estimate, EvaluationError, Result

REPEATS = 1000
"""Resamples of the videos: each needs every class's list."""

RELEASED_BATCH = 256
"""Videos of a step of the Charades script: 32 on each of 8 devices."""


def chance(targets: np.ndarray, convention: str) -> dict[str, float]:
    """Return what scores that know nothing reach on average, in percent, under one of MAP_CONVENTIONS.

    targets    [n, C] booleans
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

    labeled = targets[targets.any(axis=1)]
    return {"map": 100 * _figure(convention, expected_map, targets), "top1": 100 * float(labeled.mean())}


def released_convention(lexicon: str) -> str:
    """Return the convention of the script that tested the data set of this lexicon: Charades has one of its own."""
    return "released-charades" if lexicon == "charades" else "released-activitynet"


def evaluate_multi_label(
    source: FeatureSource,
    test: LabeledVideos,
    scorers: Sequence[Scorer],
    *,
    convention: str = "standard",
    settings: Mapping[str, Any] | None = None,
    repeats: int = REPEATS,
) -> list[Result]:
    """Return the mean average precision and top-1 of every scorer, in one pass over the features.

    test          targets [n, C]
    convention    one of MAP_CONVENTIONS
    repeats       resamples of the videos, the same for every scorer: they are compared in pairs
    Memory is that of a batch, and of the scores [n, C] of every scorer, in its own type: float32 would make
    ties of small probabilities. Raises ValueError for another convention, EvaluationError without labels, NotFinite.
    """
    if convention not in MAP_CONVENTIONS:
        raise ValueError(f"the convention must be one of {', '.join(MAP_CONVENTIONS)}, got {convention!r}")
    if not test.targets.any():
        raise EvaluationError("none of the videos to be tested has a label, so there is nothing to find.")
    classes = np.arange(test.targets.shape[1])
    found: dict[int, np.ndarray] = {}
    for places, batch in scan_scores(source, scorers, test.indices):
        for number, (scorer, similarities) in enumerate(zip(scorers, batch, strict=True)):
            if convention == "standard":
                scores = scorer.scores(similarities, classes)
            else:
                scores = _released_scores(scorer, similarities, classes, convention)
            found.setdefault(number, np.empty((len(test), len(classes)), scores.dtype))[places] = scores
    results = []
    for number, scorer in enumerate(scorers):
        scores = found.pop(number)
        results.append(_result(scorer.name, scores, test, convention, settings or {}, repeats))
    return results


def _released_scores(scorer: Scorer, similarities: Any, classes: np.ndarray, convention: str) -> np.ndarray:
    """Return what the scripts rank: float32, with the ties that a softmax of probabilities makes."""
    scores = scorer.probabilities(similarities, classes).astype(np.float32)
    twice = convention == "released-activitynet" and getattr(scorer, "view_average", "") == "unscaled"
    for _ in range(2 if twice else 1):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores = powers / powers.sum(axis=-1, keepdims=True)
    return scores


def _figure(convention: str, figure: Callable[..., float], *arrays: np.ndarray) -> float:
    """Return the figure of arrays [n, C]; under `released-charades`, the mean over batches, weighted by their videos, of the
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
    """Return the figure in percent; 0 for a beginning of the videos that has no label."""
    return mean_average_precision(scores, targets, released=True) if targets.any() else 0.0


def _result(
    name: str,
    scores: np.ndarray,
    test: LabeledVideos,
    convention: str,
    settings: Mapping[str, Any],
    repeats: int,
) -> Result:
    released = convention != "standard"
    metrics = multi_label_metrics(scores, test.targets, released=released)
    if convention == "released-charades":
        metrics = replace(metrics, map=_figure(convention, _released_meter, scores, test.targets))
    labeled = np.flatnonzero(test.targets.any(axis=1))
    hits = test.targets[labeled, scores[labeled].argmax(axis=1)]
    maps = resampled_maps(scores, test.targets, np.random.default_rng(0), repeats, released=released)
    of_map = moved_interval(maps, metrics.map, limits=(0, 100))
    of_top1 = bootstrap_interval(100.0 * hits, np.random.default_rng(0))
    return Result(
        protocol=MULTI_LABEL,
        scorer=name,
        figures={
            "map": Estimate(metrics.map, None, *of_map),
            "top1": Estimate(metrics.top1, None, *of_top1),
        },
        repetitions=[(MULTI_LABEL, metrics)],
        n_videos=metrics.n_videos,
        n_classes=metrics.n_classes,
        settings={
            **settings,
            "split": test.split,
            "map_convention": convention,
            "chance": chance(test.targets, convention),
        },
        notes=test.notes,
        hits=[(labeled, hits)],
        resampled=maps,
    )
