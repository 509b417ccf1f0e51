"""Which heads are trained on cached embeddings, and on what: video heads, and the attributes head.

Videos are held in memory as they were cached. The same seed gives the same head.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import nn

from ..choices import MULTI_LABEL_LOSS
from ..scoring import mean_embeddings
from .attributes_head import AttributesHead
from .classes import ClassTexts
from .head_scorer import head_scores
from .languages import choose_weight
from .losses import languages_loss, scores_loss
from .multi_label import multi_label_loss, strata
from .training import (
    Batches,
    Epoch,
    FitError,
    MultiLabelValidation,
    TrainSettings,
    Validation,
    split_validation,
    train,
    val_count,
)
from .video_head import HeadConfig, VideoHead, head_inputs, word_queries
from .weights import classifier_weights

NO_VALIDATION = (
    "the weight of the languages is chosen on videos that are held out of the training, and none are. Hold some out, or "
    "give a number."
)
Head = TypeVar("Head", VideoHead, AttributesHead)


@dataclass(frozen=True)
class Fitted(Generic[Head]):
    """A trained head and its history."""

    head: Head
    epochs: list[Epoch]
    best_epoch: int
    context: torch.Tensor | None = None
    """[M, D_token] vectors of a learned prompt."""


def fit_head(
    frames: np.ndarray,
    labels: np.ndarray,
    classes: ClassTexts,
    config: HeadConfig | None = None,
    settings: TrainSettings | None = None,
    *,
    epoch_size: int | None = None,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fitted[VideoHead]:
    """Train a temporal module and, where the config has them, a projection, a classifier or a prompt.

    frames        [N, V, T, D] as the cache has them; every view is an example
    labels        [N] class indices; with the loss binary-cross-entropy, which makes a multi-label head, [N, C] booleans
    epoch_size    examples in an epoch, repeated where there are fewer: few-shot training has as many iterations as
                  that on the full set (Text4Vis, B.1; `epoch_size`). Default: all, once

    The head is that of the epoch which does best on the validation part, never on a test split; without such a
    part, the last. Raises FitError for NaN, fewer than two classes with videos, classes that the classifier
    cannot do without, or shapes that do not fit.
    Source: Wu et al. 2023 (Text4Vis), 2.2, 4.3, A.4, B.1.
    """
    config, settings = config or HeadConfig(), settings or TrainSettings()
    try:
        config = replace(config, multi_label=settings.loss == MULTI_LABEL_LOSS)
    except ValueError as error:
        raise FitError(str(error)) from error
    if config.second and config.second_weight is None and not settings.held_out:
        raise FitError(NO_VALIDATION)
    if frames.ndim != 4:
        raise FitError(f"frames must be [N, V, T, D], got shape {frames.shape}")
    _check_examples(frames, labels, len(classes.names), several=config.multi_label)
    rng = np.random.default_rng(settings.seed)
    training, validation = split_validation(labels, settings.held_out, rng)
    # LDA reads all training videos; positions are as large as a share of the elements of some.
    looked_at = training if config.classifier == "lda" else some_examples(training)
    head = untrained_head(
        frames[looked_at],
        labels[looked_at],
        classes,
        config,
        seed=settings.seed,
        start=settings.temporal_start,
    )
    trained, context = nn.ModuleDict({"head": head}), None
    if config.prompt_context:
        if classes.prompt is None or classes.prompt.length != config.prompt_context:
            raise FitError(
                f"the head needs a prompt learner of {config.prompt_context} vectors for its classes"
            )
        context = nn.Parameter(classes.prompt.initial_context(settings.seed))
        trained.register_parameter("context", context)
    head.to(device)
    views = frames.shape[1]
    x = head_inputs(frames, config)
    with contextlib.suppress(torch.OutOfMemoryError):  # then batches are brought over one by one
        x = x.to(device)
    of_views = np.repeat(labels, views, axis=0)
    y = torch.from_numpy(of_views.astype(np.float32 if config.multi_label else np.int64)).to(device)
    if head.multi_label is not None:
        some = _views(some_examples(training), views)
        head.multi_label.start(head.scores(x[some]), labels[training], settings.temperature)
    examples = _views(training, views)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        embeddings = None if context is None else classes.class_embeddings(context)
        scores = head.language_scores(x[batch].to(device, torch.float32), embeddings)
        if head.multi_label is not None:
            return multi_label_loss(head.multi_label(scores[0]), y[batch])
        return languages_loss(
            scores,
            y[batch],
            second_weight=settings.second_loss_weight,
            temperature=settings.temperature,
            form=settings.loss,
        )

    def sync_prompt() -> None:
        if context is not None:
            with torch.no_grad():
                head.class_embeddings = classes.class_embeddings(context).to(head.class_embeddings)

    def val_scores() -> np.ndarray:
        sync_prompt()
        return head_scores(head, x[_views(validation, views)], views)

    held_out = labels[validation]
    validate = Validation(val_scores, held_out, settings.temperature, config.view_average)
    epochs, best_epoch = train(
        trained,
        loss_of,
        Batches(examples, len(examples) if epoch_size is None else epoch_size, settings, rng),
        settings,
        MultiLabelValidation(val_scores, held_out) if config.multi_label else validate,
        on_epoch=on_epoch,
    )
    sync_prompt()
    if config.second and config.second_weight is None:
        if views > 1:
            raise FitError(
                "a weight of languages is chosen for videos of one view; give a number, or use one view."
            )
        if not len(validation):
            raise FitError(NO_VALIDATION)
        with torch.inference_mode():
            found = head.language_scores(x[validation].to(device, torch.float32))
        in_each = [scores.cpu().numpy() for scores in found]
        weight = choose_weight(in_each[0], in_each[1], labels[validation], config.second_form)
        head.config = replace(config, second_weight=weight)
    learned = None if context is None else context.detach().cpu().clone()
    return Fitted(head.cpu().eval(), epochs, best_epoch, learned)


def epoch_size(labels: np.ndarray, views: int, held_out: float) -> int:
    """Return the examples in an epoch of training on all videos of `labels` [N]: the views of those that do not
    validate. Training on some of them sees as many, so that it has as many iterations.

    labels    [N] class indices, or [N, C] booleans
    """
    labels = strata(labels) if labels.ndim == 2 else labels
    return (len(labels) - sum(val_count(int(n), held_out) for n in np.bincount(labels))) * views


def untrained_head(
    frames: np.ndarray,
    labels: np.ndarray,
    classes: ClassTexts,
    config: HeadConfig,
    *,
    seed: int = 0,
    start: str = "quiet",
) -> VideoHead:
    """Return the head as it is before the first step.

    frames, labels    [N, V, T, D] and [N] of training videos: all for lda; else any, as positions are as large as a
                      share of their elements
    start             see `temporal_module`

    Raises FitError where the config needs texts or videos that are not there.
    """
    spots, lda = config.pool == "vcs", config.classifier == "lda"
    second = classes.seconds.get(config.second) if config.second else None
    if config.second and second is None:
        raise FitError(f"the head {config.name!r} needs the texts of its classes in {config.second}")
    if (config.classifier == "text" or spots) and classes.texts is None:
        raise FitError(f"the head {config.name!r} needs the text embeddings of its classes")
    if lda:
        check_classes_have_videos(labels, classes.names)
    some = frames[:512].astype(np.float32)
    try:
        weights = classifier_weights(
            config.classifier,
            n_classes=len(classes.names),
            dimension=frames.shape[-1],
            text=None if classes.texts is None else classes.texts.sentence,
            features=mean_embeddings(frames) if lda else None,
            labels=labels if lda else None,
            seed=seed,
        )
        words = word_queries(classes.texts) if spots and classes.texts is not None else None
        scale = float(np.sqrt(np.mean(some**2))) if some.size else 1.0
        return VideoHead(
            config,
            weights,
            frames.shape[-1],
            frames.shape[2],
            words,
            second=second,
            seed=seed,
            scale=scale,
            start=start,
        ).eval()
    except ValueError as error:
        raise FitError(str(error)) from error


def some_examples(indices: np.ndarray) -> np.ndarray:
    """Return about 256 of the indices: enough to see how large the elements of frames are."""
    return indices[:: max(1, len(indices) // 256)]


def check_classes_have_videos(labels: np.ndarray, names: Sequence[str]) -> None:
    """Raise FitError for classes without a training video: lda cannot embed them."""
    absent = sorted(set(range(len(names))) - set(labels.tolist()))
    if absent:
        raise FitError(
            f"{len(absent)} of {len(names)} classes have no training video, {names[absent[0]]!r} among them, and lda "
            "is computed from videos. Name the classes that have videos with --lexicon."
        )


def fit_attributes(
    sentences: np.ndarray,
    labels: np.ndarray,
    classes: np.ndarray,
    settings: TrainSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fitted[AttributesHead]:
    """Train the attributes branch: two MLPs, contrastive loss, the text tower frozen.

    sentences    [N, D] embeddings of the attributes sentences
    labels       [N] class indices
    classes      [C, D] embeddings of the class sentences
    settings     default: BIKE's released loss

    As in `fit_head`, the validation part chooses the epoch. Raises FitError for NaN, fewer than two classes with
    videos, or shapes that do not fit.
    """
    settings = settings or TrainSettings(loss="released")
    if sentences.ndim != 2 or classes.ndim != 2 or sentences.shape[1] != classes.shape[1]:
        raise FitError(f"sentences {sentences.shape} and classes {classes.shape} do not fit")
    _check_examples(sentences, labels, len(classes))
    if not np.isfinite(classes).all():
        raise FitError("the embeddings of the class sentences hold numbers that are not finite")
    rng = np.random.default_rng(settings.seed)
    training, validation = split_validation(labels, settings.held_out, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = AttributesHead(sentences.shape[1])
    head.to(device)
    x = torch.from_numpy(np.ascontiguousarray(sentences, np.float32)).to(device)
    y = torch.from_numpy(np.ascontiguousarray(labels, np.int64)).to(device)
    c = torch.from_numpy(np.ascontiguousarray(classes, np.float32)).to(device)

    def scores(batch: torch.Tensor | np.ndarray) -> torch.Tensor:
        return head.embed_sentences(x[batch]) @ head.embed_classes(c).T

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return scores_loss(scores(batch), y[batch], temperature=settings.temperature, form=settings.loss)

    def val_scores() -> np.ndarray:
        return scores(validation).cpu().numpy()[:, None]

    epochs, best_epoch = train(
        head,
        loss_of,
        Batches(training, len(training), settings, rng),
        settings,
        Validation(val_scores, labels[validation], settings.temperature),
        on_epoch=on_epoch,
    )
    return Fitted(head.cpu().eval(), epochs, best_epoch)


def _views(videos: np.ndarray, views: int) -> np.ndarray:
    """Return the indices of all views of some videos."""
    return (videos[:, None] * views + np.arange(views)).reshape(-1)


def _check_examples(
    embeddings: np.ndarray, labels: np.ndarray, n_classes: int, *, several: bool = False
) -> None:
    """Raise FitError for examples [N, ...] and labels [N], or of `several` [N, C], that cannot be trained on."""
    what = "sentences" if embeddings.ndim == 2 else "videos"
    if several and (labels.dtype != bool or labels.shape != (len(embeddings), n_classes)):
        raise FitError(
            f"labels of videos with several must be booleans {(len(embeddings), n_classes)}, not {labels.dtype} {labels.shape}"
        )
    if not several and labels.shape != embeddings.shape[:1]:
        raise FitError(f"{len(embeddings)} {what}, but labels {labels.shape}")
    if not several and len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise FitError(
            f"labels lie between {labels.min()} and {labels.max()}, but there are {n_classes} classes"
        )
    for start in range(0, len(embeddings), 1024):
        piece = embeddings[start : start + 1024]
        finite = np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
        if not finite.all():
            raise FitError(
                f"the embeddings of the training {what[:-1]} {start + int(finite.argmin())} hold numbers that are not "
                "finite; `vidclip verify` says where"
            )
    if several and not (labels.any(axis=0) & ~labels.all(axis=0)).any():
        raise FitError("every class has all of the training videos or none; there is nothing to tell apart")
    if not several and len(np.unique(labels)) < 2:
        raise FitError("the training videos are all of one class; there is nothing to tell apart")
