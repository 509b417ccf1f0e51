"""The labeled videos of a cache: which are tested or trained on, and the classes of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon, LexiconError, lexicon_of_labels
from .results import EvaluationError

ALL = "all"
"""As a split: every labeled video, whatever its split, where no split is called so."""
TEST_SPLITS = ("test", "testing", "val", "validation")
"""Which split is tested when none is named: the first of these that has labeled videos."""
_FEW_SEVERAL = 0.05
"""So large a share of videos with several labels may be left out of a test of single labels."""


@dataclass(frozen=True, eq=False)
class LabeledVideos:
    """Videos of a cache, and the classes of each."""

    indices: np.ndarray
    """[n] positions in the cache."""
    targets: np.ndarray
    """[n] int64 class indices in the order of the lexicon; of multi-label, [n, C] booleans."""
    split: str = ""
    """Empty where all videos are meant."""
    notes: Sequence[str] = ()
    """What a reader should know: videos left out, and why."""
    split_sets: Mapping[str, np.ndarray] = field(default_factory=dict)
    """For the protocol `splits`: {test1: positions in `indices` of its videos, ...}."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, keep: np.ndarray, notes: Sequence[str] = ()) -> LabeledVideos:
        """Return the videos where `keep` [n] is true, with more notes."""
        place = np.cumsum(keep) - 1
        return replace(
            self,
            indices=self.indices[keep],
            targets=self.targets[keep],
            split_sets={name: place[own[keep[own]]] for name, own in self.split_sets.items()},
            notes=[*self.notes, *notes],
        )


def lexicon_from_labels(cache: FeatureCache) -> Lexicon:
    """Return the labels of the cache's videos as a lexicon, in alphabetical order. Raises EvaluationError without any."""
    labels = [label for labels in cache.labels.used() for label in labels]
    if not labels:
        raise EvaluationError(_no_labels(cache, len(cache)))
    return lexicon_of_labels(labels)


def split_names(cache: FeatureCache, *, labeled: bool = False) -> list[str]:
    """Return the splits of a cache, each alone (``train1 test2`` is two), in alphabetical order."""
    rows = cache.labels.where(bool) if labeled else slice(None)
    return sorted({word for name in cache.splits.used(rows) for word in name.split()})


def default_split(cache: FeatureCache) -> str | None:
    """Return the split that is tested when none is named: the first of `TEST_SPLITS` with labeled videos, or else the
    first that the cache has. Empty for a cache without splits, None where none has such a name."""
    has = split_names(cache)
    known = [name for name in TEST_SPLITS if name in has]
    labeled = split_names(cache, labeled=True)
    return next((name for name in known if name in labeled), known[0] if known else None if has else "")


def select_videos(
    cache: FeatureCache,
    lexicon: Lexicon,
    split: str | None = None,
    *,
    multi_label: bool = False,
    by_split_sets: bool = False,
) -> LabeledVideos:
    """Return the videos of a split with the classes that their labels are in the lexicon.

    split            None: test where the cache has such a split with labels (see TEST_SPLITS), else all videos of
                     a cache without splits; `all`: every labeled video
    multi_label      any number of labels: targets are [n, C]; videos without a label are negatives of every class
    by_split_sets    for the protocol `splits`: a video may be in several of test1, test2, test3, with
                     spaces between them ("test1 test3")

    Without `multi_label`, videos of several labels are left out, with a note, where they are few (1 in 20):
    ActivityNet has some. Raises EvaluationError for a split the cache does not have, a label the lexicon does
    not have, more videos of several labels, and when nothing is left.
    """
    test_splits = [name for name in split_names(cache) if re.fullmatch(r"test\d+", name)]
    if by_split_sets:
        if not test_splits:
            raise EvaluationError(
                f"{cache.folder} has no splits test1, test2, ...: name them in the column `split` of the list, with "
                'spaces between several ("test1 test3").'
            )
        split, notes = "", []
        chosen = np.flatnonzero(cache.splits.where(lambda name: set(name.split()) & set(test_splits)))
    else:
        chosen, split, notes = choose_split(cache, split)
    n_labels = cache.labels.map(len)
    labeled = chosen[n_labels[chosen] > 0]
    if not len(labeled):
        raise EvaluationError(_no_labels(cache, len(chosen), split))
    if not multi_label:
        several = labeled[n_labels[labeled] > 1]
        if len(several) > _FEW_SEVERAL * len(labeled):
            raise EvaluationError(
                f"{len(several)} videos have several labels (the first is {cache.ids[several[0]]!r}): accuracy among "
                "single labels is not defined for them. Use --protocol multi-label; train with --loss binary-cross-entropy."
            )
        if len(several):
            labeled = labeled[n_labels[labeled] == 1]
            notes.append(
                f"{len(several)} videos with several labels are not tested (the first is {cache.ids[several[0]]!r}); "
                "--protocol multi-label takes them."
            )
        if len(chosen) > len(labeled) + len(several):
            notes.append(
                f"{len(chosen) - len(labeled) - len(several)} videos without a label are not tested."
            )
        chosen = labeled
    try:
        used = list(dict.fromkeys(label for labels in cache.labels.used(chosen) for label in labels))
        class_of = dict(zip(used, lexicon.resolve(used), strict=True))
    except LexiconError as error:
        raise EvaluationError(f"{error} The labels of {cache.folder} and --lexicon must fit.") from error
    if multi_label:
        own = [class_of[label] for labels in cache.labels.take(chosen) for label in labels]
        targets = np.zeros((len(chosen), len(lexicon)), bool)
        targets[np.repeat(np.arange(len(chosen)), n_labels[chosen]), own] = True
        notes += _negatives(targets)
    else:
        targets = cache.labels.take(chosen).map(lambda labels: class_of[labels[0]] if labels else -1)
    notes += coverage_notes(cache, test_splits if by_split_sets else split.split())
    notes += ambiguity_notes(lexicon)
    members = {
        name: np.flatnonzero(cache.splits.where(lambda own, name=name: name in own.split())[chosen])
        for name in test_splits
    }
    return LabeledVideos(chosen, targets, split, notes, {} if multi_label else members)


def choose_split(cache: FeatureCache, split: str | None) -> tuple[np.ndarray, str, list[str]]:
    """Return the videos of a split, its name (empty: all), and notes on the choice. Raises EvaluationError
    for a split the cache does not have, and where none can be chosen for the user."""
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
    elif split not in has and split not in cache.splits.used():
        if not has:
            raise EvaluationError(
                f"{cache.folder} has no splits, not {split!r}. Name no split; --test-share draws test videos for heads."
            )
        raise EvaluationError(
            f"{cache.folder} has {', '.join(has)}, not {split!r}. Name one of these as the split, or {ALL} for every "
            "labeled video."
        )
    chosen = np.flatnonzero(cache.splits.where(lambda name: not split or split in (name, *name.split())))
    return chosen, split, notes


def _no_labels(cache: FeatureCache, n_videos: int, split: str = "") -> str:
    return (
        f"none of the {n_videos} videos of {cache.folder}{f' in the split {split}' if split else ''} has a label, so "
        "there is nothing to compare with. Labels come from --dataset, from folders (ROOT/LABEL/VIDEO), or from a CSV "
        "with the columns path,label; extract such a list into another --cache."
    )


def _negatives(targets: np.ndarray) -> list[str]:
    """Return notes on videos without classes, and on classes without videos."""
    unlabeled, absent = int((~targets.any(axis=1)).sum()), int((~targets.any(axis=0)).sum())
    notes = []
    if unlabeled:
        notes.append(
            f"{unlabeled} videos without a label are negatives of every class in mAP, and do not count in top-1."
        )
    if absent:
        notes.append(
            f"{absent} classes have no video here: left out of mAP, or 0 in it with --map-convention released."
        )
    return notes


def coverage_notes(cache: FeatureCache, splits: Sequence[str]) -> list[str]:
    """Return notes on listed videos that have no features: unreadable ones, and missing ones of these splits (none: all)."""
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
    """Return notes on classes with the same text."""
    return [
        f"the classes {lexicon.labels[first]!r} and {lexicon.labels[second]!r} read the same: no text "
        "classifier can tell them apart."
        for first, second in lexicon.ambiguous()
    ]
