"""Cache + protocol + scorer -> a result table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon, LexiconError, lexicon_of_labels
from ..scoring import FusionScorer, Scorer
from .average_precision import MultiLabelMetrics
from .metrics import Metrics, bootstrap_interval, label_ranks, metrics_of_ranks, resampled_means
from .protocols import Trial, trials

METRICS = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class"}
"""Field of `Metrics` -> its name in tables."""

ALL = "all"
"""As a split: every labeled video, whatever its split, where no split is called so."""

_HITS_WITHIN = {"top1": 1, "top5": 5}
_BATCH_VIDEOS = 1024

TEST_SPLITS = ("test", "testing", "val", "validation")
"""Which split is tested when none is named: the first of these that has labeled videos."""

_FEW_SEVERAL = 0.05
"""So large a share of videos with several labels may be left out of a test of single labels."""


class EvaluationError(ValueError):
    """Videos, labels and protocol that do not go together."""


@dataclass(frozen=True)
class Estimate:
    """One number of a result, in percent."""

    mean: float
    """Over the repetitions of the protocol."""
    spread: float | None = None
    """Population standard deviation over the repetitions; None where there is one."""
    low: float | None = None
    """End of the 95 % bootstrap interval over videos; None where repetitions test different videos or classes."""
    high: float | None = None

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.mean:.1f}{spread}{interval}"


@dataclass(frozen=True)
class Result:
    """What an evaluation found, with all that is needed to find it again."""

    protocol: str
    scorer: str
    figures: Mapping[str, Estimate]
    """By the fields of `Metrics`: top1, top5, mean_class; or of `MultiLabelMetrics`: map, top1."""
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
    resampled: np.ndarray | None = field(default=None, repr=False, compare=False)
    """For `multi_label.compare_maps`: mean average precisions of resamples of the videos."""

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
class LabeledVideos:
    """The videos that are tested, and the class of each."""

    indices: np.ndarray
    """[n] positions of the videos in the cache."""
    labels: np.ndarray
    """[n] class indices, in the order of the lexicon."""
    split: str
    """Empty where all videos are tested."""
    notes: Sequence[str]
    split_sets: Mapping[str, np.ndarray] = field(default_factory=dict)
    """For the protocol `splits`: {test1: positions in `indices` of its videos, ...}."""


def lexicon_from_labels(cache: FeatureCache) -> Lexicon:
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


def default_split(cache: FeatureCache) -> str | None:
    """The split that is tested when none is named: the first of `TEST_SPLITS` with labeled videos, or else the
    first that the cache has. Empty for a cache without splits, None where none has such a name."""
    has = split_names(cache)
    known = [name for name in TEST_SPLITS if name in has]
    labeled = split_names(cache, labeled=True)
    return next((name for name in known if name in labeled), known[0] if known else None if has else "")


def split_names(cache: FeatureCache, *, labeled: bool = False) -> list[str]:
    """The splits of a cache, each alone (``train1 test2`` is two), in alphabetical order."""
    pairs = zip(cache.splits, cache.labels, strict=True)
    return sorted({word for name, labels in pairs if labels or not labeled for word in name.split()})


def choose_indices(cache: FeatureCache, split: str | None) -> tuple[list[int], str, list[str]]:
    """The indices of a split, its name (empty: all), and what is to be said about the choice.

    split    None: `default_split`. `all`: every video, unless a split is called so
    Raises EvaluationError for a split the cache does not have, and where none can be chosen for the user.
    """
    has = split_names(cache)
    notes = []
    if split is None:
        split = default_split(cache)
        if split is None:
            numbered = [name for name in has if re.fullmatch(r"test\d+", name)]
            splits = f"; --protocol splits tests {', '.join(numbered)}" if numbered else ""
            raise EvaluationError(
                f"{cache.folder} has the splits {', '.join(has)}: say which to test with --split; "
                f"--split {ALL} tests every labeled video{splits}."
            )
        first = next((name for name in TEST_SPLITS if name in has), split)
        if first != split:
            notes.append(f"no video of the split {first} has a label: the split {split} is tested.")
    elif split == ALL and ALL not in has:
        split = ""
    elif split not in has and split not in cache.splits:
        if not has:
            raise EvaluationError(
                f"{cache.folder} has no splits, not {split!r}. Name no split; --test-share draws test videos for heads."
            )
        raise EvaluationError(
            f"{cache.folder} has {', '.join(has)}, not {split!r}. Name one of these as the split, or {ALL} for every "
            "labeled video."
        )
    indices = [
        index for index, name in enumerate(cache.splits) if not split or split in (name, *name.split())
    ]
    return indices, split, notes


def select_test_set(
    cache: FeatureCache, lexicon: Lexicon, split: str | None = None, *, by_split_sets: bool = False
) -> LabeledVideos:
    """The videos of a split that carry one label of the lexicon.

    split            None: test where the cache has such a split with labels (see TEST_SPLITS), else all videos of
                     a cache without splits; `all`: every labeled video
    by_split_sets    for the protocol `splits`: a video may be in several of test1, test2, test3, with
                     spaces between them ("test1 test3")

    Videos of several labels are left out, with a note, where they are few (1 in 20): ActivityNet has some.
    Raises EvaluationError for a split the cache does not have, a label the lexicon does not have, more videos
    of several labels, and when nothing is left.
    """
    test_splits = [name for name in split_names(cache) if re.fullmatch(r"test\d+", name)]
    if by_split_sets:
        if not test_splits:
            raise EvaluationError(
                f"{cache.folder} has no splits test1, test2, ...: name them in the column `split` of the list, with "
                'spaces between several ("test1 test3").'
            )
        split, notes = "", []
        chosen = [index for index, name in enumerate(cache.splits) if set(name.split()) & set(test_splits)]
    else:
        chosen, split, notes = choose_indices(cache, split)
    labeled = [index for index in chosen if cache.labels[index]]
    several = [index for index in labeled if len(cache.labels[index]) > 1]
    if len(several) > _FEW_SEVERAL * len(labeled):
        raise EvaluationError(
            f"{len(several)} videos have several labels (the first is {cache.ids[several[0]]!r}): accuracy among "
            "single labels is not defined for them. Use --protocol multi-label."
        )
    if several:
        labeled = [index for index in labeled if len(cache.labels[index]) == 1]
        notes.append(
            f"{len(several)} videos with several labels are not tested (the first is {cache.ids[several[0]]!r}); "
            "--protocol multi-label takes them."
        )
    if not labeled:
        raise EvaluationError(_no_labels(cache, len(chosen)))
    try:
        classes = lexicon.resolve(cache.labels[index][0] for index in labeled)
    except LexiconError as error:
        raise EvaluationError(f"{error} The labels of {cache.folder} and --lexicon must fit.") from error
    unlabeled = len(chosen) - len(labeled) - len(several)
    if unlabeled:
        notes.append(f"{unlabeled} videos without a label are not tested.")
    notes += coverage_notes(cache, test_splits if by_split_sets else split.split())
    notes += ambiguity_notes(lexicon)
    members = {
        name: np.array(
            [i for i, index in enumerate(labeled) if name in cache.splits[index].split()], np.int64
        )
        for name in test_splits
    }
    return LabeledVideos(np.array(labeled), np.array(classes), split, notes, members)


def coverage_notes(cache: FeatureCache, splits: Sequence[str]) -> list[str]:
    """Notes on listed videos that have no features: unreadable ones, and missing ones of these splits (none: all)."""
    notes = []
    failures = cache.failures()
    if failures:
        notes.append(
            f"not tested: {len(failures)} of the listed videos that could not be read; the first is "
            f"{failures[0].id!r} ({failures[0].reason})."
        )
    missing = [video for video in cache.missing() if not splits or set(splits) & set(video.split.split())]
    if missing:
        notes.append(
            f"not tested: {len(missing)} of the listed videos that were missing at the last extraction; the first is "
            f"{missing[0].id!r}."
        )
    return notes


def ambiguity_notes(lexicon: Lexicon) -> list[str]:
    """Notes on classes of which the text is the same."""
    return [
        f"the classes {lexicon.labels[first]!r} and {lexicon.labels[second]!r} read the same: no text "
        "classifier can tell them apart."
        for first, second in lexicon.ambiguous()
    ]


def evaluate(
    cache: FeatureCache,
    test: LabeledVideos,
    scorers: Sequence[Scorer],
    protocol: str,
    n_classes: int,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Result]:
    """Runs a protocol for every scorer, in one pass over the features.

    scorers    names must differ
    options    of `protocols.trials`: repeats, keep_absent, class_sets, video_sets
    seed       of the bootstrap over videos
    Memory is that of a batch, and of one rank for each scorer, trial and video.
    Raises EvaluationError where the protocol cannot run (too few classes, no videos).
    """
    try:
        runs = trials(protocol, test.labels, n_classes, **options)
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    ranks = [[np.empty(len(run.videos), np.int64) for run in runs] for _ in scorers]
    start = 0
    for piece, frames in cache.batches(_BATCH_VIDEOS, test.indices):
        stop = start + len(piece)
        check_finite(cache, piece, frames)
        known: dict[int, Any] = {}
        for scorer, found in zip(scorers, ranks, strict=True):
            similarities = similarities_of(scorer, piece, frames, known)
            for run, of_run in zip(runs, found, strict=True):
                # run.videos ascends: those of this piece stand together.
                first, last = np.searchsorted(run.videos, [start, stop])
                if first == last:
                    continue
                scores = scorer.scores(similarities[run.videos[first:last] - start], run.classes)
                of_run[first:last] = label_ranks(scores, run.labels[first:last])
        start = stop
    return [
        result_of_ranks(scorer.name, protocol, runs, of_scorer, test, n_classes, settings, seed=seed)
        for scorer, of_scorer in zip(scorers, ranks, strict=True)
    ]


def check_finite(cache: FeatureCache, indices: np.ndarray, frames: np.ndarray) -> None:
    """Raises EvaluationError, by the name of the video, for features [n, V, T, D] that no score can be made of."""
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=(1, 2, 3)))
    if len(bad):
        raise EvaluationError(
            f"the features of {cache.ids[indices[bad[0]]]!r} hold numbers that are not finite. `vidclip verify` looks "
            "at every file of the cache."
        )


def similarities_of(scorer: Scorer, indices: np.ndarray, frames: np.ndarray, known: dict[int, Any]) -> Any:
    """The scorer's evidence, made of what is known where it is a fusion of scorers."""
    if id(scorer) not in known:
        if isinstance(scorer, FusionScorer):
            known[id(scorer)] = scorer.join(
                *(similarities_of(part, indices, frames, known) for part in scorer.parts)
            )
        else:
            known[id(scorer)] = scorer.similarities(indices, frames)
    return known[id(scorer)]


def result_of_ranks(
    scorer: str,
    protocol: str,
    runs: Sequence[Trial],
    ranks: Sequence[np.ndarray],
    test: LabeledVideos,
    n_classes: int,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
) -> Result:
    """The result of R trials with the ranks [n] of their labels, as `label_ranks` gives them.

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
    for name in METRICS:
        values = [getattr(metrics, name) for _, metrics in found]
        low = high = None
        if same and name in _HITS_WITHIN:
            hits = np.mean([100.0 * (of_run < _HITS_WITHIN[name]) for of_run in ranks], axis=0)
            interval = bootstrap_interval(hits, np.random.default_rng(seed))
            low, high = interval.low, interval.high
        spread = float(np.std(values)) if len(values) > 1 else None
        figures[name] = Estimate(float(np.mean(values)), spread, low, high)
    return Result(
        protocol=protocol,
        scorer=scorer,
        figures=figures,
        repetitions=found,
        n_videos=len(test.indices),
        n_classes=n_classes,
        settings={**(settings or {}), "split": test.split},
        notes=test.notes,
        hits=[(run.videos, of_run < 1) for run, of_run in zip(runs, ranks, strict=True)],
    )


@dataclass(frozen=True)
class Comparison:
    """A figure of one result against that of another, on the same videos."""

    name: str
    """`vcs - mean`."""
    difference: float
    """In points, mean over the repetitions."""
    low: float
    """End of the 95 % bootstrap interval over videos, paired."""
    high: float
    p: float
    """Two-sided, from the same bootstrap: how often the difference has the other sign, twice."""
    metric: str = "top1"
    """What was compared: top1, or map."""

    def __str__(self) -> str:
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        return f"{self.name}: {self.difference:+.1f} [{self.low:+.1f}, {self.high:+.1f}], {p}"


def bootstrap_p_value(differences: np.ndarray) -> float:
    """How often resampled differences [repeats] have the rarer sign, twice."""
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (1 + rarer) / (len(differences) + 1)))


def check_same_videos(result: Result, baseline: Result) -> None:
    """Raises EvaluationError when the two did not test the same videos."""
    if len(result.hits) != len(baseline.hits) or any(
        not np.array_equal(mine, theirs)
        for (mine, _), (theirs, _) in zip(result.hits, baseline.hits, strict=True)
    ):
        raise EvaluationError(f"{result.scorer} and {baseline.scorer} did not test the same videos")


def compare(result: Result, baseline: Result, *, seed: int = 0, repeats: int = 10_000) -> Comparison:
    """How much better `result` is than `baseline`, video by video.

    Raises EvaluationError when the two did not test the same videos.
    """
    check_same_videos(result, baseline)
    # A video's share of the mean over repetitions of each repetition's accuracy.
    shares = np.zeros(1 + max(int(videos[-1]) for videos, _ in result.hits))
    for (videos, mine), (_, theirs) in zip(result.hits, baseline.hits, strict=True):
        shares[videos] += 100 * (mine.astype(float) - theirs) / len(videos) / len(result.hits)
    tested = np.unique(np.concatenate([videos for videos, _ in result.hits]))
    values = shares[tested] * len(tested)
    means = resampled_means(values, np.random.default_rng(seed), repeats)
    low, high = np.quantile(means, [0.025, 0.975])
    p = bootstrap_p_value(means)
    name = f"{result.scorer} - {baseline.scorer}"
    return Comparison(name, float(values.mean()), float(low), float(high), p)
