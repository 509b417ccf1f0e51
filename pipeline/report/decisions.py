"""What each scorer takes each video for: decisions, the most confused pairs of classes, examples to look at.

N videos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...lexicons import Lexicon
from ..evaluation import LabeledVideos, PredictionRow
from ..scoring import FeatureSource, Scorer, scan_scores
from .confusion import confused_pairs, confusion_counts


@dataclass(frozen=True, eq=False)
class Decisions:
    """What one scorer takes N videos for."""

    scorer: str
    predicted: np.ndarray
    """[N] int64, the class of the highest score; of several such, the first."""
    score: np.ndarray
    """[N] float64, the score of that class, in the scorer's own unit: a cosine or a probability."""
    label_score: np.ndarray
    """[N] float64, the score of the video's own class; nan where a file of predictions does not have it."""


@dataclass(frozen=True)
class ConfusedPair:
    """Videos of one class that were taken for another."""

    label: int
    taken: int
    count: int
    examples: tuple[int, ...]
    """Positions in 0..N-1 of some of these videos, the worst mistakes first."""


def decide(
    source: FeatureSource, test: LabeledVideos, scorers: Sequence[Scorer], n_classes: int
) -> list[Decisions]:
    """Return what each scorer takes the tested videos for, among all classes, in one pass over the features.

    A video is right here where its rank in `evaluate` is 0. Raises NotFinite.
    """
    every = np.arange(n_classes)
    found = [
        Decisions(scorer.name, np.empty(len(test), np.int64), np.empty(len(test)), np.empty(len(test)))
        for scorer in scorers
    ]
    for places, similarities in scan_scores(source, scorers, test.indices):
        own = test.targets[places]
        for scorer, decisions, each in zip(scorers, found, similarities, strict=True):
            scores = scorer.scores(each, every)  # [n, C]
            decisions.predicted[places] = scores.argmax(axis=1)
            decisions.score[places] = scores.max(axis=1)
            decisions.label_score[places] = scores[np.arange(len(places)), own]
    return found


def decisions_of(rows: Sequence[PredictionRow], lexicon: Lexicon) -> Decisions:
    """Return what a scorer took N videos for by the rows of a file of predictions, as `results_of_predictions` gives
    them."""
    place = {label: c for c, label in enumerate(lexicon.labels)}
    return Decisions(
        rows[0].scorer,
        np.array([place[row.best[0][0]] for row in rows], np.int64),
        np.array([row.best[0][1] for row in rows]),
        np.array([dict(row.best).get(row.label, np.nan) for row in rows]),
    )


def most_confused(
    decisions: Decisions, targets: np.ndarray, n_classes: int, *, most: int = 20, examples: int = 4
) -> list[ConfusedPair]:
    """Return the pairs of classes that are confused most often, the most frequent first.

    targets     [N] the classes of the videos
    most        pairs at most
    examples    videos of a pair at most
    """
    counts = confusion_counts(decisions.predicted, targets, n_classes)
    # A class below those that a file of predictions has is further away than any of them.
    margin = np.nan_to_num(decisions.score - decisions.label_score, nan=np.inf)
    pairs = []
    for label, taken, count in confused_pairs(counts)[:most]:
        videos = np.flatnonzero((targets == label) & (decisions.predicted == taken))
        worst = videos[np.argsort(-margin[videos], kind="stable")][:examples]
        pairs.append(ConfusedPair(label, taken, count, tuple(map(int, worst))))
    return pairs


def choose_examples(decisions: Decisions, targets: np.ndarray, count: int) -> list[int]:
    """Return the positions of `count` videos to look at: half of them wrong, half right, spread over the classes.

    Where there are too few of one kind, the others take their place. Nothing is random: the same decisions give the
    same videos, in ascending order.
    """
    right = decisions.predicted == targets
    n_wrong = min(int((~right).sum()), max((count + 1) // 2, count - int(right.sum())))
    chosen = _spread(np.flatnonzero(~right), targets, n_wrong)
    shown = set(targets[chosen].tolist())
    others = np.flatnonzero(right)
    fresh = others[[int(targets[i]) not in shown for i in others]] if len(others) else others
    chosen += _spread(fresh, targets, min(count - len(chosen), len(fresh)))
    rest = np.setdiff1d(others, chosen)
    chosen += _spread(rest, targets, min(count - len(chosen), len(rest)))
    return sorted(chosen)


def _spread(videos: np.ndarray, targets: np.ndarray, count: int) -> list[int]:
    """Return `count` of the videos: one of each class before a second of any, and classes at even distances."""
    turn = np.zeros(len(videos), np.int64)  # the how manieth video of its class
    seen: dict[int, int] = {}
    for place, video in enumerate(videos):
        label = int(targets[video])
        turn[place] = seen[label] = seen.get(label, -1) + 1
    chosen: list[int] = []
    for number in range(int(turn.max(initial=-1)) + 1):
        of_turn = videos[turn == number]
        of_turn = of_turn[np.argsort(targets[of_turn], kind="stable")]
        wanted = min(count - len(chosen), len(of_turn))
        steps = (2 * np.arange(wanted) + 1) * len(of_turn) // (2 * max(wanted, 1))
        chosen += of_turn[steps].tolist()
    return chosen
