"""Cache + protocol + scorers -> results, with one label a video; `multi_label` has the other protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..scoring import FeatureSource, Scorer, scan_scores
from .labels import LabeledVideos
from .metrics import bootstrap_interval, label_ranks, metrics_of_ranks
from .protocols import Trial, trials
from .results import Estimate, EvaluationError, Result, TrialPredictions

_FIGURES = ("top1", "top5", "mean_class")
_HITS_WITHIN = {"top1": 1, "top5": 5}


def plan_trials(protocol: str, test: LabeledVideos, n_classes: int, **options: Any) -> list[Trial]:
    """Return the trials of a protocol, with the options of `protocols.trials`. Raises EvaluationError where it cannot run."""
    try:
        return trials(protocol, test.targets, n_classes, **options)
    except ValueError as error:
        raise EvaluationError(str(error)) from error


@dataclass(frozen=True, eq=False)
class ProtocolTest:
    """A protocol, and what it tests."""

    test: LabeledVideos
    protocol: str
    n_classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `protocols.trials`: repeats, class_sets, video_sets."""
    keep: int = 0
    """So many of the likeliest classes of every video are in `Result.predictions`; 0: there are none."""


def evaluate(
    source: FeatureSource,
    test: LabeledVideos,
    scorers: Sequence[Scorer],
    protocol: str,
    n_classes: int,
    *,
    settings: Mapping[str, Any] | None = None,
    keep: int = 0,
    **options: Any,
) -> list[Result]:
    """Run a protocol for every scorer, in one pass over the features.

    scorers          names must differ
    keep, options    of `ProtocolTest`
    Memory is that of a batch, and of one rank for each scorer, trial and video.
    Raises EvaluationError where the protocol cannot run (too few classes, no videos); NotFinite.
    """
    return evaluate_all(
        source, [ProtocolTest(test, protocol, n_classes, options, keep)], scorers, settings=settings
    )[0]


def evaluate_all(
    source: FeatureSource,
    tests: Sequence[ProtocolTest],
    scorers: Sequence[Scorer],
    *,
    settings: Mapping[str, Any] | None = None,
) -> list[list[Result]]:
    """Run several protocols for every scorer, in one pass over the features of all videos that any of them tests; return
    the results of each. Arguments and errors are those of `evaluate`."""
    tallies = [_Tally(each, scorers, source.shape[0]) for each in tests]
    # The videos of one test in its own order, as ever; those of several are of no order.
    wanted = tests[0].test.indices
    if any(not np.array_equal(wanted, each.test.indices) for each in tests[1:]):
        wanted = np.unique(np.concatenate([each.test.indices for each in tests]))
    for places, similarities in scan_scores(source, scorers, wanted):
        for tally in tallies:
            tally.add(wanted[places], similarities)
    return [tally.results(settings) for tally in tallies]


class _Tally:
    """The ranks of one protocol, as the batches bring them."""

    def __init__(self, given: ProtocolTest, scorers: Sequence[Scorer], n_source: int) -> None:
        self._given, self._scorers, test = given, scorers, given.test
        self._runs = plan_trials(given.protocol, test, given.n_classes, **given.options)
        self._ranks = [[np.empty(len(run.videos), np.int64) for run in self._runs] for _ in scorers]
        self._kept = [[_Kept(run, given.keep) for run in self._runs] for _ in scorers] if given.keep else []
        # Of each video of the source, where it stands in each trial; -1 where it is not tested.
        self._row_of = [row_numbers(test.indices[run.videos], n_source) for run in self._runs]

    def add(self, indices: np.ndarray, similarities: Sequence[Any]) -> None:
        """Take the similarities of each scorer for the videos at `indices` [n] of the source."""
        for number, run in enumerate(self._runs):
            rows = self._row_of[number][indices]
            tested = np.flatnonzero(rows >= 0)
            if not len(tested):
                continue
            rows, labels = rows[tested], run.labels[rows[tested]]
            for place, (scorer, found) in enumerate(zip(self._scorers, similarities, strict=True)):
                scores = scorer.scores(found if len(tested) == len(indices) else found[tested], run.classes)
                self._ranks[place][number][rows] = label_ranks(scores, labels)
                if self._kept:
                    self._kept[place][number].add(rows, scores)

    def results(self, settings: Mapping[str, Any] | None) -> list[Result]:
        given = self._given
        results = [
            result_of_ranks(
                scorer.name, given.protocol, self._runs, ranks, given.test, given.n_classes, settings
            )
            for scorer, ranks in zip(self._scorers, self._ranks, strict=True)
        ]
        if not self._kept:
            return results
        return [
            replace(result, predictions=[own.done(ranks) for own, ranks in zip(kept, found, strict=True)])
            for result, kept, found in zip(results, self._kept, self._ranks, strict=True)
        ]


def row_numbers(videos: np.ndarray, n: int) -> np.ndarray:
    """Return [n] where each of n videos stands among `videos`; -1 for those that do not."""
    rows = np.full(n, -1, np.int64)
    rows[videos] = np.arange(len(videos))
    return rows


class _Kept:
    """The likeliest classes of the videos of a trial, as the batches bring them."""

    def __init__(self, run: Trial, keep: int) -> None:
        n, k = len(run.videos), min(keep, len(run.classes))
        self._run, self._best, self._scores = run, np.empty((n, k), np.int64), np.empty((n, k))

    def add(self, rows: np.ndarray, scores: np.ndarray) -> None:
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self._best.shape[1]]
        self._best[rows] = self._run.classes[order]
        self._scores[rows] = np.take_along_axis(scores, order, axis=1)

    def done(self, ranks: np.ndarray) -> TrialPredictions:
        run = self._run
        return TrialPredictions(
            run.name, run.videos, run.classes[run.labels], ranks, self._best, self._scores
        )


def result_of_ranks(
    scorer: str,
    protocol: str,
    runs: Sequence[Trial],
    ranks: Sequence[np.ndarray],
    test: LabeledVideos,
    n_classes: int,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Return the result of R trials with the ranks [n] of their labels, as `label_ranks` gives them.

    Repetitions give mean and standard deviation; where all test the same videos among all classes (or there
    is one), the bootstrap interval over videos too.
    """
    same = all(
        np.array_equal(run.classes, runs[0].classes) and np.array_equal(run.videos, runs[0].videos)
        for run in runs
    )
    found = [
        (run.name, metrics_of_ranks(of_run, run.labels, len(run.classes)))
        for run, of_run in zip(runs, ranks, strict=True)
    ]
    figures = {}
    for name in _FIGURES:
        values = [getattr(metrics, name) for _, metrics in found]
        interval = (None, None)
        if same and name in _HITS_WITHIN:
            hits = np.mean([100.0 * (of_run < _HITS_WITHIN[name]) for of_run in ranks], axis=0)
            interval = bootstrap_interval(hits, np.random.default_rng(0))
        spread = float(np.std(values)) if len(values) > 1 else None
        figures[name] = Estimate(float(np.mean(values)), spread, *interval)
    return Result(
        protocol=protocol,
        scorer=scorer,
        figures=figures,
        repetitions=found,
        n_videos=len(test),
        n_classes=n_classes,
        settings={**(settings or {}), "split": test.split},
        notes=test.notes,
        hits=[(run.videos, of_run < 1) for run, of_run in zip(runs, ranks, strict=True)],
    )
