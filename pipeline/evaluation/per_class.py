"""The figures of each class: how many videos, how many right, and what it is taken for."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from ...lexicons import Lexicon
from .metrics import Interval
from .results import Result

_Z = 1.959963984540054
"""Of the 95 % interval: the 97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class ClassFigures:
    """How one class was recognized by one scorer."""

    label: str
    n: int
    """Videos tested; one that several trials test counts in each."""
    top1: float
    """Percent of them that are right."""
    low: float
    """Lower end of Wilson's 95 % interval, in percent; trials are not independent, so it is of one trial's kind."""
    high: float
    confusion: str
    """What the others are most often taken for; of equals, the first in the lexicon. Empty where all are right."""
    n_confused: int
    """So many of them."""


def class_figures(result: Result, lexicon: Lexicon) -> list[ClassFigures]:
    """Return the figures of every class that has videos, in the order of the lexicon.

    result    one that kept its predictions, the likeliest class at least
    """
    taken: dict[int, Counter[int]] = {}
    for trial in result.predictions:
        for label, best in zip(trial.labels.tolist(), trial.best[:, 0].tolist(), strict=True):
            taken.setdefault(label, Counter())[best] += 1
    found = []
    for label in sorted(taken):
        counts, n = taken[label], taken[label].total()
        right = counts.pop(label, 0)
        worst = min(counts, key=lambda other: (-counts[other], other)) if counts else None
        low, high = wilson_interval(right, n)
        name = "" if worst is None else lexicon.labels[worst]
        more = 0 if worst is None else counts[worst]
        found.append(
            ClassFigures(lexicon.labels[label], n, 100 * right / n, 100 * low, 100 * high, name, more)
        )
    return found


def wilson_interval(right: int, n: int) -> Interval:
    """Return the 95 % score interval of a share, right of n, in 0..1: it holds for few videos, and at 0 and 1.

    Source: Wilson 1927.
    """
    share, square = right / n, _Z * _Z / n
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
