"""Cache + protocol + scorer -> a result table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..cache import FeatureCache, TextEmbeddings
from ..lexicons import Lexicon, LexiconError, lexicon_of_labels
from .metrics import Metrics, bootstrap_interval, classification_metrics, top_k_hits
from .pooling import cosine_scores, mean_embeddings
from .protocols import Trial, trials

METRICS = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class"}
"""Field of `Metrics` -> its name in tables."""

TEST_SPLITS = ("test", "testing", "val", "validation")
"""Which split is tested when none is named: the first of these that the cache has."""


class EvaluationError(ValueError):
    """Videos, labels and protocol that do not go together."""


@dataclass(frozen=True)
class Figure:
    """One number of a result, in percent."""

    mean: float
    """Over the repetitions of the protocol."""
    spread: float | None = None
    """Population standard deviation over the repetitions; None where there is one."""
    low: float | None = None
    """End of the 95 % bootstrap interval over videos; None where the protocol repeats."""
    high: float | None = None

    def __str__(self) -> str:
        if self.spread is not None:
            return f"{self.mean:.1f} ± {self.spread:.1f}"
        if self.low is not None and self.high is not None:
            return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.mean:.1f}"


@dataclass(frozen=True)
class Result:
    """What an evaluation found, with all that is needed to find it again."""

    protocol: str
    scorer: str
    figures: Mapping[str, Figure]
    """By the fields of `Metrics`: top1, top5, mean_class."""
    repetitions: Sequence[tuple[str, Metrics]]
    """(name, metrics) of every trial of the protocol."""
    n_videos: int
    """Videos with a known label, in the split that was tested."""
    n_classes: int
    settings: Mapping[str, Any]
    """Split, lexicon, prompts, the digests of cache and text: whatever shaped the figures."""
    notes: Sequence[str] = ()
    """What a reader should know: videos left out, and why."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
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


@dataclass(frozen=True, eq=False)
class TestSet:
    """The videos that are tested, and the class of each."""

    rows: np.ndarray
    """[n] rows of the cache."""
    labels: np.ndarray
    """[n] class indices, in the order of the lexicon."""
    split: str
    """Empty where all videos are tested."""
    notes: Sequence[str]


def own_classes(cache: FeatureCache) -> Lexicon:
    """The labels of the cache's videos as a lexicon, in alphabetical order. Raises EvaluationError without any."""
    labels = [label for labels in cache.labels for label in labels]
    if not labels:
        raise EvaluationError(_no_labels(cache, len(cache)))
    return lexicon_of_labels(labels)


def _no_labels(cache: FeatureCache, n_videos: int) -> str:
    return (
        f"none of the {n_videos} videos of {cache.folder} has a label, so there is nothing to compare with. "
        "Labels come from folders (ROOT/LABEL/VIDEO) or from a CSV with the columns path,label; extract such a "
        "list into another --cache."
    )


def select_test_set(cache: FeatureCache, lexicon: Lexicon, split: str | None = None) -> TestSet:
    """The videos of a split that carry one label of the lexicon.

    split    None: test where the cache has such a split (see TEST_SPLITS), else all videos

    Raises EvaluationError for a split the cache does not have, a label the lexicon does not have, videos
    of several labels, and when nothing is left.
    """
    splits = sorted(set(cache.splits) - {""})
    if split is None:
        split = next((name for name in TEST_SPLITS if name in splits), "")
        if splits and not split:
            raise EvaluationError(
                f"{cache.folder} has the splits {', '.join(splits)}: say which to test with --split."
            )
    elif split not in splits:
        has = f"has {', '.join(splits)}" if splits else "has no splits"
        raise EvaluationError(f"{cache.folder} {has}, not {split!r}. Leave --split out, or name another.")
    chosen = [row for row, name in enumerate(cache.splits) if not split or name == split]
    labelled = [row for row in chosen if cache.labels[row]]
    several = [row for row in labelled if len(cache.labels[row]) > 1]
    if several:
        raise EvaluationError(
            f"{len(several)} videos have several labels (the first is {cache.ids[several[0]]!r}): top-1 is not "
            "defined for them."
        )
    if not labelled:
        raise EvaluationError(_no_labels(cache, len(chosen)))
    try:
        classes = lexicon.resolve(cache.labels[row][0] for row in labelled)
    except LexiconError as error:
        raise EvaluationError(f"{error} The labels of {cache.folder} and --lexicon must fit.") from error
    notes = []
    if len(labelled) < len(chosen):
        notes.append(f"{len(chosen) - len(labelled)} videos without a label are not tested.")
    failures = cache.failures()
    if failures:
        notes.append(
            f"{len(failures)} listed videos could not be read and are not tested; the first is "
            f"{failures[0].id!r} ({failures[0].reason})."
        )
    for first, second in lexicon.ambiguous():
        notes.append(
            f"the classes {lexicon.labels[first]!r} and {lexicon.labels[second]!r} read the same: no text "
            "classifier can tell them apart."
        )
    return TestSet(np.array(labelled), np.array(classes), split, notes)


def mean_scores(cache: FeatureCache, rows: np.ndarray, texts: TextEmbeddings) -> np.ndarray:
    """Scores [n, C]: cosine between the mean frame embedding of each video and each class sentence."""
    scores = np.empty((len(rows), len(texts.phrases)), np.float32)
    start = 0
    for piece, frames in cache.batches(1024, rows):
        scores[start : start + len(piece)] = cosine_scores(mean_embeddings(frames), texts.sentence)
        start += len(piece)
    return scores


def evaluate(
    scores: np.ndarray,
    test: TestSet,
    protocol: str,
    *,
    scorer: str,
    settings: Mapping[str, Any],
    repeats: int = 10,
    seed: int = 0,
) -> Result:
    """Runs a protocol over scores [n, C] of the videos of `test`.

    repeats    of half-classes
    seed       of the bootstrap over videos
    Raises ValueError where the protocol cannot run (too few classes).
    """
    runs = trials(protocol, test.labels, scores.shape[1], repeats=repeats)
    found = [(run.name, classification_metrics(_part(scores, run), run.labels)) for run in runs]
    figures = {
        name: _figure([getattr(metrics, name) for _, metrics in found], _interval(name, scores, runs, seed))
        for name in METRICS
    }
    return Result(
        protocol=protocol,
        scorer=scorer,
        figures=figures,
        repetitions=found,
        n_videos=len(test.rows),
        n_classes=scores.shape[1],
        settings={**settings, "split": test.split},
        notes=test.notes,
    )


def _part(scores: np.ndarray, run: Trial) -> np.ndarray:
    return scores[np.ix_(run.videos, run.classes)]


def _figure(values: list[float], interval: Callable[[], tuple[float, float]] | None) -> Figure:
    if len(values) > 1:
        return Figure(float(np.mean(values)), spread=float(np.std(values)))
    low, high = interval() if interval else (None, None)
    return Figure(values[0], low=low, high=high)


def _interval(
    name: str, scores: np.ndarray, runs: Sequence[Trial], seed: int
) -> Callable[[], tuple[float, float]] | None:
    k = {"top1": 1, "top5": 5}.get(name)
    if k is None:
        return None

    def interval() -> tuple[float, float]:
        hits = top_k_hits(_part(scores, runs[0]), runs[0].labels, k)
        found = bootstrap_interval(100.0 * hits, np.random.default_rng(seed))
        return found.low, found.high

    return interval
