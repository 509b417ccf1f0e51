"""Several caches under one protocol: whether they can stand in one table, and their results paired by video.

A video is the same in two caches where its id is. Each cache is tested on all of its own videos; differences are those
on the videos that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon
from ..choices import MULTI_LABEL
from .build import TrainingPlan, ZeroShotPlan
from .labels import LabeledVideos
from .protocols import Trial
from .results import Comparison, EvaluationError, Result, compare
from .run import plan_trials


@dataclass(frozen=True, eq=False)
class CacheTest:
    """What a protocol tests of one cache."""

    name: str
    """What tables call the cache."""
    cache: FeatureCache
    lexicon: Lexicon
    plan: ZeroShotPlan | TrainingPlan

    @property
    def test(self) -> LabeledVideos:
        return self.plan.sides.test if isinstance(self.plan, TrainingPlan) else self.plan.test

    def ids(self, videos: LabeledVideos) -> list[str]:
        return list(self.cache.ids.take(videos.indices))


@dataclass(frozen=True)
class CacheComparison:
    """One scorer over two caches, on the videos that both tested."""

    first: str
    second: str
    scorer: str
    shots: int | str | None
    """Training videos of every class; None where nothing was trained."""
    n: int
    """Videos that both tested."""
    comparison: Comparison
    """Of the second with the first."""


def check_side_by_side(tests: Sequence[CacheTest]) -> list[str]:
    """Return notes on what differs between caches that are to stand in one table, the first beside each other.

    Raises EvaluationError where their figures would not answer one question: other classes, another split, or a video
    of both with other labels.
    """
    first, notes = tests[0], []
    for other in tests[1:]:
        both = f"{first.name} and {other.name}"
        if other.lexicon.labels != first.lexicon.labels:
            mine, theirs = set(first.lexicon.labels), set(other.lexicon.labels)
            has, lacks = (first, other) if mine - theirs else (other, first)
            only = sorted((mine - theirs) or (theirs - mine))
            raise EvaluationError(
                f"{both} have other classes: {only[0]!r}"
                f"{f' and {len(only) - 1} others are' if len(only) > 1 else ' is'} a label of {has.name}, and not of "
                f"{lacks.name}. Name the classes of both with --lexicon."
            )
        splits = [each.test.split for each in (first, other)]
        if splits[0] != splits[1]:
            shown = " and ".join(repr(split) if split else "all videos" for split in splits)
            raise EvaluationError(
                f"{both} would be tested on other splits, {shown}: say which with --split, or give both the same ones "
                "with `vidclip label`."
            )
        ids = {id: i for i, id in enumerate(first.ids(first.test))}
        pairs = [(ids[id], i) for i, id in enumerate(other.ids(other.test)) if id in ids]
        apart = [(i, j) for i, j in pairs if not np.array_equal(first.test.targets[i], other.test.targets[j])]
        if apart:
            place = first.test.indices[apart[0][0]]
            raise EvaluationError(
                f"{len(apart)} videos have other labels in {other.name} than in {first.name}; the first is "
                f"{first.cache.ids[int(place)]!r}. Give both the same with `vidclip label --from LIST`."
            )
        counts = (len(first.test), len(other.test))
        if not pairs:
            notes.append(f"{both} test no video in common, so their figures are of other videos.")
        elif counts != (len(pairs), len(pairs)):
            notes.append(
                f"{first.name} tests {counts[0]:,} videos and {other.name} {counts[1]:,}, {len(pairs):,} of them in "
                "common: differences between the two are on those, and figures of the table on each one's own."
            )
        notes += _training_notes(first, other)
    return notes


def _training_notes(first: CacheTest, other: CacheTest) -> list[str]:
    if not (isinstance(first.plan, TrainingPlan) and isinstance(other.plan, TrainingPlan)):
        return []
    mine, theirs = set(first.ids(first.plan.sides.train)), set(other.ids(other.plan.sides.train))
    if mine == theirs:
        return []
    return [
        f"heads train on {len(mine):,} videos of {first.name} and {len(theirs):,} of {other.name}, {len(mine & theirs):,} "
        "of them in common."
    ]


def compare_caches(
    tests: Sequence[CacheTest], results: Sequence[Sequence[Result]]
) -> tuple[list[CacheComparison], list[str]]:
    """Return how much better every scorer is over each further cache than over the first, paired by video, and notes on
    what could not be paired.

    results    of each cache, under the protocol of its plan
    Differences are of top-1 (mean over the trials that both have), of multi-label of mAP, which is paired only where both
    tested the same videos: that of a part of them is another figure.
    """
    found, notes = [], []
    for test, own in zip(tests[1:], results[1:], strict=True):
        reason = _unpaired(tests[0], test)
        if reason:
            notes.append(reason)
            continue
        by_name = {(each.scorer, each.settings.get("shots")): each for each in own}
        for baseline in results[0]:
            key = (baseline.scorer, baseline.settings.get("shots"))
            if key in by_name:
                found += _compare(tests[0], baseline, test, by_name[key])
    return found, notes


def _unpaired(first: CacheTest, other: CacheTest) -> str:
    """Return why two caches cannot be compared in pairs; empty where they can."""
    both = f"{first.name} and {other.name}"
    if first.plan.protocol == MULTI_LABEL and (first.ids(first.test) != other.ids(other.test)):
        return f"mAP of {both} is not paired: it is paired where both test the same videos alone."
    if first.plan.protocol == "half-classes":
        for mine, theirs in zip(_trials(first), _trials(other), strict=True):
            if not np.array_equal(mine.classes, theirs.classes):
                return (
                    f"half-classes of {both} are not paired: classes without videos drop out, and those of the two are "
                    "not the same."
                )
    return ""


def _trials(test: CacheTest) -> list[Trial]:
    plan = test.plan
    if isinstance(plan, TrainingPlan):
        return []
    options = {key: value for key, value in plan.options.items() if key != "keep"}
    return plan_trials(plan.protocol, plan.test, plan.n_classes, **options)


def _compare(first: CacheTest, baseline: Result, other: CacheTest, result: Result) -> list[CacheComparison]:
    if "map" in result.figures:
        n, pair = len(first.test), (baseline, result)
    else:
        mine, theirs = _hits(first, baseline), _hits(other, result)
        shared = {name: sorted(mine[name].keys() & theirs[name].keys()) for name in mine if name in theirs}
        place = {id: i for i, id in enumerate(sorted({id for ids in shared.values() for id in ids}))}
        if not place:
            return []
        n, pair = len(place), tuple(
            replace(each, hits=[
                (np.array([place[id] for id in ids]), np.array([own[name][id] for id in ids]))
                for name, ids in shared.items() if ids
            ])
            for each, own in ((baseline, mine), (result, theirs))
        )  # fmt: skip
    made = compare(pair[1], pair[0])
    named = replace(made, name=f"{result.scorer}: {other.name} - {first.name}")
    return [CacheComparison(first.name, other.name, result.scorer, result.settings.get("shots"), n, named)]


def _hits(test: CacheTest, result: Result) -> dict[str, dict[str, bool]]:
    """Return, of each trial, which of its videos were right, by id."""
    ids = test.ids(test.test)
    return {
        name: {ids[int(video)]: bool(right) for video, right in zip(*hits, strict=True)}
        for (name, _), hits in zip(result.repetitions, result.hits, strict=True)
    }
