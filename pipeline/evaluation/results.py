"""The results of an evaluation: estimates, results, and paired comparisons of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .average_precision import moved_interval
from .metrics import Metrics, resampled_means

if TYPE_CHECKING:
    from .average_precision import MultiLabelMetrics

METRICS = {"map": "mAP", "top1": "top-1", "top5": "top-5", "mean_class": "mean class"}
"""The name of each metric in tables; a result has those of its protocol."""


class EvaluationError(ValueError):
    """Videos, labels, settings and protocol that do not go together."""


@dataclass(frozen=True)
class Estimate:
    """One number of a result, in percent."""

    mean: float
    """Over the repetitions of the protocol."""
    spread: float | None = None
    """Population standard deviation over the repetitions; None where there is one."""
    low: float | None = None
    """Lower end of the 95 % bootstrap interval over videos; None where repetitions test different videos or classes."""
    high: float | None = None

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.mean:.1f}{spread}{interval}"


@dataclass(frozen=True, eq=False)
class TrialPredictions:
    """What one scorer said of the videos of one trial."""

    name: str
    videos: np.ndarray
    """[n] positions in the videos tested."""
    labels: np.ndarray
    """[n] class indices, as `best` has them: in the list of all classes."""
    ranks: np.ndarray
    """[n] how many classes come before the true one."""
    best: np.ndarray
    """[n, k] the likeliest classes, best first; of equals, the smaller index."""
    scores: np.ndarray
    """[n, k] theirs, as the scorer ranks by."""


@dataclass(frozen=True)
class Result:
    """What one scorer reached under a protocol, with all that is needed to find it again."""

    protocol: str
    scorer: str
    figures: Mapping[str, Estimate]
    """By METRICS: top1, top5, mean_class; of multi-label: map, top1."""
    repetitions: Sequence[tuple[str, Metrics | MultiLabelMetrics]]
    """(name, metrics) of every trial of the protocol."""
    n_videos: int
    """Videos with a known label, in the split that was tested."""
    n_classes: int
    settings: Mapping[str, Any]
    """Split, lexicon, prompts, the digests of cache and text: whatever shaped the figures."""
    notes: Sequence[str] = ()
    """What a reader should know: videos left out, and why."""
    hits: Sequence[tuple[np.ndarray, np.ndarray]] = field(default=(), repr=False, compare=False)
    """For `compare`: of every trial, the videos tested, and which of them were right."""
    predictions: Sequence[TrialPredictions] = field(default=(), repr=False, compare=False)
    """Of every trial, where `evaluate` was asked to keep them."""
    resampled: np.ndarray | None = field(default=None, repr=False, compare=False)
    """For `compare`, of multi-label: mean average precisions of resamples of the videos."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "protocol": self.protocol,
            "scorer": self.scorer,
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
            "repetitions": [{"name": name, **asdict(metrics)} for name, metrics in self.repetitions],
            "n_videos": self.n_videos,
            "n_classes": self.n_classes,
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Comparison:
    """A figure of one result against that of another, on the same videos."""

    name: str
    """`vcs - mean`."""
    difference: float
    """In points, mean over the repetitions."""
    low: float
    """Lower end of the 95 % bootstrap interval over videos, paired."""
    high: float
    p: float
    """Two-sided, from the same bootstrap: how often the difference has the other sign, twice."""
    metric: str = "top1"
    """What was compared: top1, or map."""

    def __str__(self) -> str:
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        metric = f"{METRICS[self.metric]}, " if self.metric != "top1" else ""
        return f"{metric}{self.name}: {self.difference:+.1f} [{self.low:+.1f}, {self.high:+.1f}], {p}"


def compare(result: Result, baseline: Result) -> Comparison:
    """Return how much better `result` is than `baseline`, paired by video: in top-1, or of multi-label in mAP.

    Raises EvaluationError when the two did not test the same videos, or were not resampled alike.
    """
    if len(result.hits) != len(baseline.hits) or any(
        not np.array_equal(mine, theirs)
        for (mine, _), (theirs, _) in zip(result.hits, baseline.hits, strict=True)
    ):
        raise EvaluationError(f"{result.scorer} and {baseline.scorer} did not test the same videos")
    name = f"{result.scorer} - {baseline.scorer}"
    if "map" in result.figures:
        return _compare_maps(name, result, baseline)
    # A video's share of the mean over repetitions of each repetition's accuracy.
    shares = np.zeros(1 + max(int(videos[-1]) for videos, _ in result.hits))
    for (videos, mine), (_, theirs) in zip(result.hits, baseline.hits, strict=True):
        shares[videos] += 100 * (mine.astype(float) - theirs) / len(videos) / len(result.hits)
    tested = np.unique(np.concatenate([videos for videos, _ in result.hits]))
    values = shares[tested] * len(tested)
    means = resampled_means(values, np.random.default_rng(0), 10_000)
    low, high = np.quantile(means, [0.025, 0.975])
    return Comparison(name, float(values.mean()), float(low), float(high), bootstrap_p_value(means))


def compare_with_first(results: Sequence[Result]) -> list[tuple[int | str | None, Comparison]]:
    """Return (shots, comparison) of every scorer with the first, where both were trained on as many videos; shots is
    None where nothing was trained."""
    first = {result.settings.get("shots"): result for result in results if result.scorer == results[0].scorer}
    return [
        (shots, compare(result, first[shots]))
        for result in results
        if result.scorer != results[0].scorer
        and (shots := result.settings.get("shots")) in first
        and len(result.hits) == len(first[shots].hits)
    ]


def _compare_maps(name: str, result: Result, baseline: Result) -> Comparison:
    mine, theirs = result.resampled, baseline.resampled
    if mine is None or theirs is None or len(mine) != len(theirs):
        raise EvaluationError(f"{result.scorer} and {baseline.scorer} were not resampled alike")
    difference = result.figures["map"].mean - baseline.figures["map"].mean
    differences = mine - theirs
    differences = differences[~np.isnan(differences)]
    p = bootstrap_p_value(differences - differences.mean() + difference)
    return Comparison(name, difference, *moved_interval(differences, difference), p, "map")


def bootstrap_p_value(differences: np.ndarray) -> float:
    """Return how often resampled differences [repeats] have the rarer sign, twice."""
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (1 + rarer) / (len(differences) + 1)))
