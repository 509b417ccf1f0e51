"""Protocols that train before they test: `general` (the whole training split) and `few-shot` (K videos of every
class, all classes: K-shot C-way).

Training and test features are read once; every head is trained and tested from memory.
Source: Wu et al. 2023 (Text4Vis), 4.2 and B.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ...cache import FeatureCache
from ..heads import (
    ClassTexts,
    Epoch,
    FitError,
    Fitted,
    HeadConfig,
    TrainSettings,
    VideoHead,
    check_classes_have_videos,
    epoch_size,
    fit_head,
    head_inputs,
    head_scores,
    untrained_head,
)
from ..scoring import view_scores
from .metrics import label_ranks
from .protocols import Trial
from .run import LabeledVideos, Result, result_of_ranks

LEARNING_PROTOCOLS = ("general", "few-shot")
FEW_SHOT_SHOTS = (0, 1, 2, 4, 8, 16, None)
"""K; None: all videos."""
FEW_SHOT_SETTINGS = TrainSettings(epochs=10, held_out=0)
"""Ten epochs of as many iterations as the full set has, and nothing held out of so few (Text4Vis, B.1)."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Videos to learn from or to test, with their features in memory."""

    frames: np.ndarray
    """[n, V, T, D] float16."""
    of: LabeledVideos
    """Their rows in the cache and classes."""

    @classmethod
    def read(cls, cache: FeatureCache, chosen: LabeledVideos) -> Examples:
        return cls(cache.frames(chosen.indices), chosen)


@dataclass(frozen=True)
class Run:
    """One training of the many, for whoever watches."""

    number: int
    of: int
    head: str
    shots: int | None
    seed: int


def draw_shots(labels: np.ndarray, names: Sequence[str], shots: int | None, seed: int) -> np.ndarray:
    """Rows [C * shots], ascending: so many videos of every class, drawn by seed. None: all rows.

    A draw of more shots holds that of fewer under the same seed. Raises FitError for a class that has no video, or
    fewer than asked for.
    """
    if shots is None:
        return np.arange(len(labels))
    count = np.bincount(labels, minlength=len(names))
    short = np.flatnonzero(count < shots)
    if len(short):
        fewest = int(short[np.argmin(count[short])])
        n, others = int(count[fewest]), len(short) - 1
        have = f"{n} training video{'s' * (n > 1)}, {shots} are asked for" if n else "no training video"
        rest = (
            f"; {others} other class{'es have' if others > 1 else ' has'} too few as well" if others else ""
        )
        raise FitError(
            f"the class {names[fewest]!r} has {have}{rest}. "
            + (f"Use --shots {n} at most, or name" if n else "Name another --train-split, or")
            + " the classes that have enough with --lexicon."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    return np.sort((by_class[start[:, None] + np.arange(shots)]).reshape(-1))


def train_and_evaluate(
    train: Examples,
    test: Examples,
    classes: ClassTexts,
    head_configs: Sequence[HeadConfig],
    *,
    protocol: str = "few-shot",
    shots: Sequence[int | None] = FEW_SHOT_SHOTS,
    seeds: int = 3,
    first_seed: int = 0,
    fit: TrainSettings = FEW_SHOT_SETTINGS,
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    on_run: Callable[[Run], None] | None = None,
) -> list[Result]:
    """Trains every head on every number of shots with every seed, and tests it on all test videos.

    shots    of every class; 0 tests the untrained head, None trains on all. Heads that cannot be had from so
             few videos are left out there, with a note: lda needs more videos than classes
    seeds    so many draws, the first with the seed `first_seed`; of the videos and of the head's own initialization
    Every run has as many iterations an epoch as the whole training set would take.

    Returns for each config and number of shots a Result over the seeds: mean and standard deviation, and the
    bootstrap interval over test videos. `settings["shots"]` says which it is.
    Raises FitError before the first run where a class has too few videos, a head cannot be had at all, or all videos
    are of one class.
    """
    names = classes.names
    plan, notes = plan_runs(train.of.labels, names, head_configs, shots, train.frames.shape[-1])
    tested_on = replace(test.of, notes=[*test.of.notes, *notes])
    inputs: dict[tuple[str, str], torch.Tensor] = {}
    results = []
    last: list[Epoch] = []
    n_runs = sum(1 if k == 0 else seeds for _, k in plan)
    number = 0
    for config, k in plan:
        ranks, tested = [], []
        for seed in range(first_seed, first_seed + (1 if k == 0 else seeds)):
            number += 1
            if on_run:
                on_run(Run(number, n_runs, config.name, k, seed))
            fitted = _learn(train, classes, config, k, replace(fit, seed=seed), device)
            head, last = fitted.head, fitted.epochs[-1:]
            key = (config.temporal if config.temporal == "mean" else "", config.pool)
            if key not in inputs:
                inputs[key] = head_inputs(test.frames, config)
            scores = head_scores(head.to(device), inputs[key], test.frames.shape[1])
            scores = view_scores(scores, fit.temperature, config.view_average)
            ranks.append(label_ranks(scores, test.of.labels))
            tested.append(
                Trial(f"seed {seed}", np.arange(len(names)), np.arange(len(test.of.labels)), test.of.labels)
            )
        results.append(
            result_of_ranks(
                config.name,
                protocol,
                tested,
                ranks,
                tested_on,
                len(names),
                {
                    **(settings or {}),
                    **{f"fit_{key}": value for key, value in vars(fit).items() if key != "seed"},
                    **vars(config),
                    "shots": "all" if k is None else k,
                    "train_split": train.of.split,
                    "n_train": len(train.of.indices) if k is None else k * len(names),
                    "epoch_examples": last[0].n_examples if last else 0,
                    "n_held_out": last[0].n_held_out if last else 0,
                },
            )
        )
    return results


def plan_runs(
    labels: np.ndarray,
    names: Sequence[str],
    head_configs: Sequence[HeadConfig],
    shots: Sequence[int | None],
    dimension: int,
) -> tuple[list[tuple[HeadConfig, int | None]], list[str]]:
    """([every head, with every number of shots that it can be had from], notes on what is left out): what cannot be
    done is said before the work begins.

    labels       [N] of the training videos
    dimension    D of the frame embeddings

    Raises FitError where `train_and_evaluate` does.
    """
    for k in shots:
        if k:
            draw_shots(labels, names, k, 0)
    if len(np.unique(labels)) < 2 and any(k != 0 for k in shots):
        raise FitError("the training videos are all of one class; there is nothing to tell apart")
    for config in head_configs:
        if config.classifier == "orthogonal" and len(names) > dimension:
            raise FitError(
                f"{len(names)} orthogonal rows do not fit into {dimension} dimensions. Use --classifier random."
            )
        if config.classifier == "lda" and any(k != 0 for k in shots):
            check_classes_have_videos(labels, names)
    plan = [(config, k) for config in head_configs for k in shots if _possible(config, k, labels, names)]
    notes = _left_out(head_configs, shots, plan)
    if not plan:
        raise FitError(f"nothing can be trained: {' '.join(notes)}")
    return plan, notes


def _possible(config: HeadConfig, shots: int | None, labels: np.ndarray, names: Sequence[str]) -> bool:
    """LDA is fitted on more videos than classes."""
    n_videos = len(labels) if shots is None else shots * len(names)
    return config.classifier != "lda" or n_videos > len(names)


def _left_out(
    head_configs: Sequence[HeadConfig],
    shots: Sequence[int | None],
    plan: Sequence[tuple[HeadConfig, int | None]],
) -> list[str]:
    """Notes on the heads that `_possible` leaves out; nobody expects a trained classifier without any video."""
    notes = []
    for config in head_configs:
        missing = ["all" if k is None else str(k) for k in shots if k != 0 and (config, k) not in plan]
        if missing or not any(own is config for own, _ in plan):
            at = f" at {' and '.join(missing)} shot{'s' * (missing != ['1'])}" if missing else ""
            notes.append(
                f"{config.name} is left out{at}: lda is fitted on more videos than classes, so on 2 of each at least."
            )
    return notes


def _learn(
    train: Examples,
    classes: ClassTexts,
    config: HeadConfig,
    shots: int | None,
    settings: TrainSettings,
    device: str | torch.device,
) -> Fitted[VideoHead]:
    if shots == 0:
        head = untrained_head(train.frames[:0], train.of.labels[:0], classes, config, seed=settings.seed)
        return Fitted(head, [], 0)
    rows = draw_shots(train.of.labels, classes.names, shots, settings.seed)
    return fit_head(
        train.frames[rows],
        train.of.labels[rows],
        classes,
        config,
        settings,
        epoch_size=epoch_size(train.of.labels, train.frames.shape[1], settings.held_out),
        device=device,
    )
