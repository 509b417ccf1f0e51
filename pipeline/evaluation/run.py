"""Cache + protocol + scorers -> results, with one label a video; `multi_label` has the other protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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

    scorers    names must differ
    keep       so many of the likeliest classes of every video are in `Result.predictions`; 0: there are none
    options    of `protocols.trials`: repeats, keep_absent, class_sets, video_sets
    Memory is that of a batch, and of one rank for each scorer, trial and video.
    Raises EvaluationError where the protocol cannot run (too few classes, no videos); NotFinite.
    """
    runs = plan_trials(protocol, test, n_classes, **options)
    ranks = [[np.empty(len(run.videos), np.int64) for run in runs] for _ in scorers]
    kept = [[_Kept(run, keep) for run in runs] for _ in scorers] if keep else []
    row_of = [row_numbers(run.videos, len(test)) for run in runs]
    for places, similarities in scan_scores(source, scorers, test.indices):
        for place, (scorer, found, of_scorer) in enumerate(zip(scorers, similarities, ranks, strict=True)):
            for number, (run, of_run) in enumerate(zip(runs, of_scorer, strict=True)):
                rows = row_of[number][places]  # in the trial; -1 for a video that it does not test
                tested = np.flatnonzero(rows >= 0)
                if not len(tested):
                    continue
                rows = rows[tested]
                scores = scorer.scores(found if len(tested) == len(places) else found[tested], run.classes)
                of_run[rows] = label_ranks(scores, run.labels[rows])
                if keep:
                    kept[place][number].add(rows, scores)
    results = [
        result_of_ranks(scorer.name, protocol, runs, of_scorer, test, n_classes, settings)
        for scorer, of_scorer in zip(scorers, ranks, strict=True)
    ]
    if not keep:
        return results
    return [
        replace(result, predictions=[own.done(of_run) for own, of_run in zip(of_scorer, given, strict=True)])
        for result, of_scorer, given in zip(results, kept, ranks, strict=True)
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
