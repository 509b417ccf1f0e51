"""Two evaluations against each other, from their files: of predictions, paired by video; or of figures alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .predictions import PredictionRow
from .results import METRICS, Comparison, Estimate, EvaluationError, Result, compare


@dataclass(frozen=True)
class ClassDifference:
    """How differently two evaluations recognized a class."""

    label: str
    n: int
    """Tests of its videos that both made."""
    first: float
    """Top-1 in percent."""
    second: float


@dataclass(frozen=True)
class PairedComparison:
    """Two scorers on the videos that both were tested on."""

    first: str
    second: str
    n: int
    """Tests that both made: videos, in every trial."""
    n_only_first: int
    """Tests that one alone made, and that do not count."""
    n_only_second: int
    top1_first: float
    top1_second: float
    comparison: Comparison
    """Of the second with the first."""
    classes: Sequence[ClassDifference]
    """Those that differ, the greatest number of videos first."""
    gained: Sequence[tuple[PredictionRow, PredictionRow]]
    """(first, second): tests that the second alone has right, the worst rank in the first before others."""
    lost: Sequence[tuple[PredictionRow, PredictionRow]]
    """Tests that the first alone has right."""


def compare_predictions(first: Sequence[PredictionRow], second: Sequence[PredictionRow]) -> PairedComparison:
    """Return how two scorers differ, paired by protocol, trial and video.

    first, second    the rows of one scorer each

    Raises EvaluationError where they have no test in common, or do not agree on a label.
    """
    one, other = ({(row.protocol, row.trial, row.id): row for row in rows} for rows in (first, second))
    shared = [key for key in one if key in other]
    if not shared:
        raise EvaluationError(
            "the two have no test of a video in common: videos are paired by protocol, trial and id. Evaluate the same "
            "--protocol and --split, of lists with the same --root."
        )
    apart = [key for key in shared if one[key].label != other[key].label]
    if apart:
        key = apart[0]
        raise EvaluationError(
            f"{len(apart)} videos have another label in one than in the other; the first is {key[2]!r} "
            f"({one[key].label!r} and {other[key].label!r}). Evaluate both with the same labels and --lexicon."
        )
    names = first[0].scorer, second[0].scorer
    place = {id: i for i, id in enumerate(sorted({key[2] for key in shared}))}
    a, b = (_result(rows, shared, place) for rows in (one, other))
    pairs = [(one[key], other[key]) for key in shared]
    gained = [pair for pair in pairs if pair[0].rank > 1 == pair[1].rank]
    lost = [pair for pair in pairs if pair[1].rank > 1 == pair[0].rank]
    return PairedComparison(
        *names,
        len(shared),
        len(one) - len(shared),
        len(other) - len(shared),
        a.figures["top1"].mean,
        b.figures["top1"].mean,
        compare(b, a),
        _classes(pairs),
        sorted(gained, key=lambda pair: -pair[0].rank),
        sorted(lost, key=lambda pair: -pair[1].rank),
    )


def _result(rows: Mapping[Any, PredictionRow], shared: Sequence[Any], place: Mapping[str, int]) -> Result:
    """Return what `compare` reads of a result."""
    trials: dict[tuple[str, str], list[tuple[int, bool]]] = {}
    for key in shared:
        trials.setdefault(key[:2], []).append((place[key[2]], rows[key].rank == 1))
    hits = []
    for tested in trials.values():
        videos, right = zip(*sorted(tested), strict=True)
        hits.append((np.array(videos), np.array(right)))
    top1 = Estimate(float(np.mean([100 * right.mean() for _, right in hits])))
    scorer = next(iter(rows.values())).scorer
    return Result("", scorer, {"top1": top1}, (), len(place), 0, {}, hits=hits)


def _classes(pairs: Sequence[tuple[PredictionRow, PredictionRow]]) -> list[ClassDifference]:
    right: dict[str, list[tuple[bool, bool]]] = {}
    for a, b in pairs:
        right.setdefault(a.label, []).append((a.rank == 1, b.rank == 1))
    found = []
    for label, both in right.items():
        a, b = np.array(both).sum(axis=0)
        if a != b:
            found.append((abs(int(a) - int(b)), ClassDifference(label, len(both), 100 * a / len(both), 100 * b / len(both))))  # fmt: skip
    return [each for _, each in sorted(found, key=lambda pair: (-pair[0], pair[1].label))]


@dataclass(frozen=True)
class FigureDifference:
    """A figure in one file of `vidclip eval --json` and in another."""

    protocol: str
    scorer: str
    metric: str
    first: float
    second: float
    interval: tuple[float, float] | None
    """95 %, of second - first as of independent tests: on the same videos it is wider than a paired one. None where one of
    them has none."""


def compare_figures(first: Any, second: Any) -> list[FigureDifference]:
    """Return the figures that two documents of `vidclip eval --json` both have, by protocol, scorer and shots.

    The interval is made of those of the two (square and add: Zou & Donner 2008).
    Raises EvaluationError where they have none in common, or are no such documents.
    """
    try:
        one, other = _figures(first), _figures(second)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise EvaluationError("this is JSON, but no result of `vidclip eval --json FILE`.") from error
    found = []
    for (protocol, scorer, metric), a in one.items():
        b = other.get((protocol, scorer, metric))
        if b is None:
            continue
        interval = None
        if None not in (a["low"], a["high"], b["low"], b["high"]):
            difference = b["mean"] - a["mean"]
            down = math.hypot(b["mean"] - b["low"], a["high"] - a["mean"])
            up = math.hypot(b["high"] - b["mean"], a["mean"] - a["low"])
            interval = (difference - down, difference + up)
        found.append(FigureDifference(protocol, scorer, METRICS[metric], a["mean"], b["mean"], interval))
    if not found:
        raise EvaluationError(
            "the two have no figure in common: they are compared by protocol, scorer and shots. For scorers of different names, "
            "compare two files of `vidclip eval --predictions FILE`."
        )
    return found


def _figures(documents: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for document in documents:
        for result in document["results"]:
            shots = result["settings"].get("shots")
            name = result["scorer"] if shots is None else f"{result['scorer']}, shots: {shots}"
            for metric, figure in result["figures"].items():
                if metric in METRICS:
                    own = {
                        key: None if figure[key] is None else float(figure[key])
                        for key in ("mean", "low", "high")
                    }
                    found[(document["protocol"], name, metric)] = own
    return found
