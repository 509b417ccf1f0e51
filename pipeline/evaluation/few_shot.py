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
from ..scoring import ArrayFeatures, FeatureSource, read_frames, view_scores
from .labels import LabeledVideos
from .metrics import label_ranks
from .protocols import Trial
from .results import Result
from .run import result_of_ranks

FEW_SHOT_SHOTS = (0, 1, 2, 4, 8, 16, None)
"""K; None: all videos."""
FEW_SHOT_SETTINGS = TrainSettings(epochs=10, held_out=0)
"""Ten epochs of as many iterations as the full set has, and nothing held out of so few (Text4Vis, B.1)."""


@dataclass(frozen=True)
class Run:
    """One training of the many, for progress displays."""

    number: int
    of: int
    head: str
    shots: int | None
    seed: int


def draw_shots(labels: np.ndarray, names: Sequence[str], shots: int | None, seed: int) -> np.ndarray:
    """Return positions [C * shots] in `labels`, ascending: so many videos of every class, drawn by seed. None: all.

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
    source: FeatureSource,
    train: LabeledVideos,
    test: LabeledVideos,
    classes: ClassTexts,
    head_configs: Sequence[HeadConfig],
    *,
    protocol: str = "few-shot",
    shots: Sequence[int | None] = FEW_SHOT_SHOTS,
    seeds: int = 3,
    fit: TrainSettings = FEW_SHOT_SETTINGS,
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    on_run: Callable[[Run], None] | None = None,
) -> list[Result]:
    """Train every head on every number of shots with every seed, and test it on all test videos.

    shots    of every class; 0 tests the untrained head, None trains on all. Heads that cannot be had from so
             few videos are left out there, with a note: lda needs more videos than classes
    seeds    so many draws, the first with the seed of `fit`; of the videos and of the head's own initialization
    Every run has as many iterations an epoch as the whole training set would take.

    Returns for each config and number of shots a Result over the seeds: mean and standard deviation, and the
    bootstrap interval over test videos. `settings["shots"]` says which it is.
    Raises FitError before the first run where a class has too few videos, a head cannot be had at all, or all videos
    are of one class.
    """
    names = classes.names
    plan, notes = plan_runs(train.targets, names, head_configs, shots, source.shape[-1])
    tested_on = replace(test, notes=[*test.notes, *notes])
    test_frames = read_frames(source, test.indices)
    in_memory = ArrayFeatures(read_frames(source, train.indices), [source.ids[int(i)] for i in train.indices])
    train_there = replace(train, indices=np.arange(len(train)))
    inputs: dict[tuple[str, str], torch.Tensor] = {}
    results = []
    last: list[Epoch] = []
    n_runs = sum(1 if k == 0 else seeds for _, k in plan)
    number = 0
    for config, k in plan:
        ranks, tested = [], []
        for seed in range(fit.seed, fit.seed + (1 if k == 0 else seeds)):
            number += 1
            if on_run:
                on_run(Run(number, n_runs, config.name, k, seed))
            fitted = train_head(
                in_memory, train_there, classes, config, replace(fit, seed=seed), shots=k, device=device
            )
            head, last = fitted.head, fitted.epochs[-1:]
            key = (config.temporal if config.temporal == "mean" else "", config.pool)
            if key not in inputs:
                inputs[key] = head_inputs(test_frames, config)
            scores = head_scores(head.to(device), inputs[key], source.shape[1])
            scores = view_scores(scores, fit.temperature, config.view_average)
            ranks.append(label_ranks(scores, test.targets))
            tested.append(Trial(f"seed {seed}", np.arange(len(names)), np.arange(len(test)), test.targets))
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
                    "train_split": train.split,
                    "n_train": len(train) if k is None else k * len(names),
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
    """Return ([every head, with every number of shots that it can be trained on], notes on what is left out), before
    the work begins.

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
    plan: list[tuple[HeadConfig, int | None]] = []
    notes = []
    for config in head_configs:
        enough = [k for k in shots if (len(labels) if k is None else k * len(names)) > len(names)]
        possible = enough if config.classifier == "lda" else shots
        plan += [(config, k) for k in possible]
        # That there is no classifier without any video is expected.
        missing = ["all" if k is None else str(k) for k in shots if k != 0 and k not in possible]
        if missing or not possible:
            at = f" at {' and '.join(missing)} shot{'s' * (missing != ['1'])}" if missing else ""
            notes.append(
                f"{config.name} is left out{at}: lda is fitted on more videos than classes, so on 2 of each at least."
            )
    if not plan:
        raise FitError(f"nothing can be trained: {' '.join(notes)}")
    return plan, notes


def train_head(
    source: FeatureSource,
    train: LabeledVideos,
    classes: ClassTexts,
    config: HeadConfig,
    settings: TrainSettings,
    *,
    shots: int | None = None,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fitted[VideoHead]:
    """Train one head on labeled videos, or on so many `shots` of every class, drawn with the seed of `settings`; 0 gives
    the untrained head.

    An epoch has as many examples as all of `train` give it. Raises FitError, NotFinite.
    """
    drawn = draw_shots(train.targets, classes.names, shots, settings.seed)
    frames, labels = read_frames(source, train.indices[drawn]), train.targets[drawn]
    if shots == 0:
        return Fitted(untrained_head(frames, labels, classes, config, seed=settings.seed), [], 0)
    epoch = epoch_size(train.targets, source.shape[1], settings.held_out)
    return fit_head(
        frames, labels, classes, config, settings, epoch_size=epoch, device=device, on_epoch=on_epoch
    )


def default_shots(labels: np.ndarray, names: Sequence[str]) -> tuple[tuple[int | None, ...], list[str]]:
    """Return those of FEW_SHOT_SHOTS that every class has training videos for, and a note on the others.

    labels    [N] of the training videos
    """
    count = np.bincount(labels, minlength=len(names))
    fewest = int(count.argmin())
    too_many = [shots for shots in FEW_SHOT_SHOTS if shots and shots > count[fewest]]
    notes = [
        f"{', '.join(map(str, too_many))} shots are left out: the class {names[fewest]!r} has "
        f"{count[fewest]} training video{'s' * int(count[fewest] != 1)}."
    ]
    return tuple(k for k in FEW_SHOT_SHOTS if k not in too_many), notes if too_many else []
