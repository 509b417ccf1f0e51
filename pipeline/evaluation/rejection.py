"""`none of these`: a probability below which no class is named, chosen on videos of classes that are not in the lexicon.

n such videos, each with a confidence: the probability of the class that it would be called. A new video is named where its
confidence is above the threshold. The threshold is the least at which, of videos like these, at most a stated share is
named on average: with m = floor(rate (n + 1)), the one that stands m-th from above. This is a conformal test, exact for any n and any
distribution, as long as new videos are exchangeable with these (Vovk et al. 2005; Bates et al. 2023, Testing for
outliers with conformal p-values, equation 1).

Videos of one class are alike, so for videos of other classes than these the promise is an estimate: each class in turn
meets the threshold of the others, and the mean, the least and the most of these shares are reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon
from .labels import LabeledVideos, choose_split
from .results import EvaluationError


@dataclass(frozen=True)
class Rejection:
    """A threshold, the rule that chose it, and what it does."""

    threshold: float
    """Videos whose best class has no more than this probability are none of these."""
    rule: str = "given"
    """given; outside: chosen on videos of classes outside the lexicon; left-out: on videos whose own class was left out."""
    rate: float | None = None
    """The share of videos of no class that may be named, in 0..1."""
    split: str = ""
    n_outside: int = 0
    """Videos that it was chosen on."""
    n_outside_classes: int = 0
    new_class: tuple[float, float, float] | None = None
    """Mean, least and most share of a class's videos that are named at the threshold of the other classes, in 0..1; None where
    these are too few."""
    known_named: float | None = None
    """Share of the split's videos of classes in the lexicon that are named at all, rightly or not."""
    n_known: int = 0


def rejection_threshold(outside: np.ndarray, rate: float) -> float:
    """Return the confidence that a named video exceeds.

    outside    [n] confidences of videos of no class
    rate       share of such videos that may be named, above 0 and below 1
    Raises EvaluationError where n is too small for the rate: n must be at least 1 / rate - 1.
    """
    place = math.floor(rate * (len(outside) + 1) + 1e-9)
    if place < 1:
        raise EvaluationError(
            f"{len(outside)} videos outside the lexicon cannot show a share of {rate:g}: {math.ceil(1 / rate - 1 - 1e-9)} "
            "are needed. Allow a larger --false-positive-rate, or name a split with more of them."
        )
    return float(np.sort(outside)[::-1][place - 1])


def choose_rejection(
    outside: np.ndarray, groups: Sequence[str], known: np.ndarray, rate: float, *, rule: str, split: str
) -> Rejection:
    """Return the threshold for a rate, and what it does.

    outside    [n] confidences of videos of no class, `groups` the class of each
    known      [m] confidences of videos of classes in the lexicon
    Raises EvaluationError as `rejection_threshold` does.
    """
    threshold = rejection_threshold(outside, rate)
    names = np.array(groups)
    shares = []
    for name in dict.fromkeys(groups):
        own = names == name
        try:
            shares.append(float(np.mean(outside[own] > rejection_threshold(outside[~own], rate))))
        except EvaluationError:
            shares = []
            break
    return Rejection(
        threshold,
        rule,
        rate,
        split,
        len(outside),
        len(set(groups)),
        (float(np.mean(shares)), min(shares), max(shares)) if shares else None,
        float(np.mean(known > threshold)) if len(known) else None,
        len(known),
    )


def known_and_outside(
    cache: FeatureCache, lexicon: Lexicon, split: str
) -> tuple[LabeledVideos, np.ndarray, list[str]]:
    """Return the videos of a split whose one label is in the lexicon; the positions of those none of whose labels is; and
    the first label of each of these.

    Raises EvaluationError for a split that the cache does not have, LexiconError for labels that may mean several classes.
    """
    chosen, split, notes = choose_split(cache, split)
    known: list[int] = []
    targets: list[int] = []
    outside: list[int] = []
    several = 0
    for i in chosen:
        inside = [lexicon.index(label) for label in cache.labels[i] if lexicon.find(label)]
        if cache.labels[i] and not inside:
            outside.append(i)
        elif len(cache.labels[i]) == 1:
            known.append(i)
            targets.append(inside[0])
        else:
            several += bool(inside)
    if not known and not outside:
        raise EvaluationError(
            f"no video of {split or 'the cache'} in {cache.folder} has a label. Labels come from the list that was extracted."
        )
    labels = [cache.labels[i][0] for i in outside]
    if several:
        notes.append(f"{several} videos with several labels are left out of it.")
    videos = LabeledVideos(np.array(known, np.int64), np.array(targets, np.int64), split, notes)
    return videos, np.array(outside, np.int64), labels
