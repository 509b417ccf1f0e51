"""Trains light heads on what the cache holds.

Videos are held in memory as they were cached, and stay where they are computed with; an epoch is a pass over
batches of rows. The same seed gives the same head.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import nn

from ..scoring import check_temperature, mean_embeddings, view_scores
from .checkpoint import AttributesHead
from .classes import ClassTexts
from .head_scorer import head_scores
from .losses import LOSSES, scores_loss
from .video_head import HeadConfig, VideoHead, head_inputs, word_queries
from .weights import classifier_weights

CLASSIFIER_LR_MULTIPLIER = 10
"""How much faster the rows of a trained classifier learn than the rest: they begin as noise, the rest at what the
encoder knows (the papers' new layers learn ten times faster too)."""


class FitError(ValueError):
    """Training data from which nothing can be learned."""


@dataclass(frozen=True)
class TrainSettings:
    """How a head is trained. Defaults: BIKE's and Text4Vis' batch, epochs, warm-up and schedule; the rest for heads
    alone."""

    loss: str = "cross-entropy"
    """cross-entropy, or a contrastive loss over the batch in the paper's or the released code's form."""
    epochs: int = 30
    warm_up_epochs: float | None = None
    """None: a sixth of the epochs, the papers' 5 of 30."""
    batch_size: int | None = None
    """None: a fortieth of an epoch as a power of two, between 16 and the papers' 256, which would be few steps on a
    small set."""
    learning_rate: float = 1e-3
    """The papers' 5e-5 goes with weeks of steps; a head on cached embeddings sees few."""
    weight_decay: float = 0.2
    temperature: float = 0.01
    """Of the softmax over classes."""
    held_out: float = 0.1
    """Share of each class's videos that choose the epoch; 0 keeps the last."""
    patience: int = 10
    """Epochs after the warm-up without a gain on the held-out part, in top-1 or in loss, that end the training."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out}")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate must be above 0 and at most 1, got {self.learning_rate}")
        check_temperature(self.temperature)
        for name in ("weight_decay", "warm_up_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value}")

    def batch_of(self, examples: int) -> int:
        """Examples in a batch, where an epoch has so many."""
        return self.batch_size or min(256, max(16, 2 ** round(math.log2(max(1, examples / 40)))))

    @property
    def warm_up(self) -> float:
        """Epochs of warm-up."""
        return self.epochs / 6 if self.warm_up_epochs is None else self.warm_up_epochs


@dataclass(frozen=True)
class Epoch:
    """One pass over the training part."""

    number: int
    loss: float
    held_out_top1: float | None
    """Percent; None where nothing is held out."""
    held_out_loss: float | None = None
    """Cross entropy there."""
    n_examples: int = 0
    """Views of videos that were trained on in it; some several times in few-shot training."""
    n_held_out: int = 0
    """Videos held out."""


Head = TypeVar("Head", VideoHead, AttributesHead)


@dataclass(frozen=True)
class Fitted(Generic[Head]):
    """A trained head and its history."""

    head: Head
    epochs: list[Epoch]
    best_epoch: int
    context: torch.Tensor | None = None
    """[M, D_token] of a learnable prompt."""


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
    """Trains a temporal module, and where the config has them a projection, a classifier or a prompt.

    frames             [N, V, T, D] as the cache has them; every view is an example
    labels             [N] class indices
    videos_an_epoch    examples in an epoch, repeated where there are fewer: few-shot training has as many
                       iterations as that on the full set (Text4Vis, B.1; `epoch_size`). Default: all, once

    The head is that of the epoch which does best on the held-out part, never on a test split; without such a
    part, the last. Raises FitError for NaN, fewer than two classes with videos, classes that the classifier
    cannot do without, or shapes that do not fit.
    Source: Wu et al. 2023 (Text4Vis), 2.2, 4.3, A.4, B.1.
    """
    config, settings = config or HeadConfig(), settings or TrainSettings()
    if frames.ndim != 4:
        raise FitError(f"frames must be [N, V, T, D], got shape {frames.shape}")
    _check(frames, labels, len(classes.names))
    rng = np.random.default_rng(settings.seed)
    training, held = _hold_out(labels, settings.held_out, rng)
    # All training videos where rows are made of them; else some, to see how large their elements are.
    looked_at = training if config.classifier == "lda" else training[:: max(1, len(training) // 256)]
    head = untrained_head(frames[looked_at], labels[looked_at], classes, config, seed=settings.seed)
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
    y = torch.from_numpy(np.repeat(labels.astype(np.int64), views)).to(device)
    rows = _views(training, views)

    def scores(batch: torch.Tensor) -> torch.Tensor:
        embeddings = None if context is None else classes.class_embeddings(context)
        return head(x[batch].to(device, torch.float32), embeddings)

    def val_scores() -> np.ndarray:
        return head_scores(head, x[_views(held, views)], views)

    def sync_prompt() -> None:
        if context is not None:
            head.class_embeddings = classes.class_embeddings(context).detach().to(head.class_embeddings)

    epochs, best_epoch = _train(
        trained,
        lambda batch: scores_loss(
            scores(batch), y[batch], temperature=settings.temperature, form=settings.loss
        ),
        _Batches(rows, len(rows) if epoch_size is None else epoch_size, settings, rng),
        settings,
        Validation(val_scores, labels[held], settings.temperature, config.view_average)
        if len(held)
        else None,
        sync_prompt,
        on_epoch,
    )
    learned = None if context is None else context.detach().cpu().clone()
    return Fitted(head.cpu().eval(), epochs, best_epoch, learned)


def epoch_size(labels: np.ndarray, views: int, held_out: float) -> int:
    """Examples in an epoch of training on all videos of `labels` [N]: the views of those that are not held out.

    Training on some of them sees as many, so that it has as many iterations.
    """
    return (len(labels) - sum(_held_of_class(int(n), held_out) for n in np.bincount(labels))) * views


def untrained_head(
    frames: np.ndarray, labels: np.ndarray, classes: ClassTexts, config: HeadConfig, *, seed: int = 0
) -> VideoHead:
    """The head as it is before the first step.

    frames, labels    [N, V, T, D] and [N] of training videos: all for lda; else any, as positions are as large as a
                      share of their elements

    Raises FitError where the config needs texts or videos that are not there.
    """
    if (config.classifier == "text" or config.pool == "vcs") and classes.texts is None:
        raise FitError(f"the head {config.name!r} needs the text embeddings of its classes")
    lda = config.classifier == "lda"
    if lda:
        check_classes_have_videos(labels, classes.names)
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
        words = word_queries(classes.texts) if config.pool == "vcs" and classes.texts is not None else None
        return VideoHead(
            config, weights, frames.shape[-1], frames.shape[2], words, seed=seed, scale=_element_size(frames)
        ).eval()
    except ValueError as error:
        raise FitError(str(error)) from error


def check_classes_have_videos(labels: np.ndarray, names: Sequence[str]) -> None:
    """Raises FitError for classes without a training video: lda has no row for them."""
    absent = sorted(set(range(len(names))) - set(labels.tolist()))
    if absent:
        raise FitError(
            f"{len(absent)} of {len(names)} classes have no training video, {names[absent[0]]!r} among them: lda has "
            "no row for them. Name the classes that have videos with --lexicon."
        )


def _element_size(frames: np.ndarray) -> float:
    """Root mean square of the elements of frame embeddings; of some videos, as all are much alike."""
    some = frames[:512].astype(np.float32)
    return float(np.sqrt(np.mean(some**2))) if some.size else 1.0


def fit_attributes(
    sentences: np.ndarray,
    labels: np.ndarray,
    classes: np.ndarray,
    settings: TrainSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fitted[AttributesHead]:
    """Trains the attributes branch: two MLPs, contrastive loss, the text tower frozen.

    sentences    [N, D] embeddings of the attributes sentences
    labels       [N] class indices
    classes      [C, D] embeddings of the class sentences
    settings     default: BIKE's released loss

    As in `fit_head`, the held-out part chooses the epoch, and the same seed gives the same head. Raises FitError
    for NaN, fewer than two classes with videos, or shapes that do not fit.
    """
    settings = settings or TrainSettings(loss="released")
    if sentences.ndim != 2 or classes.ndim != 2 or sentences.shape[1] != classes.shape[1]:
        raise FitError(f"sentences {sentences.shape} and classes {classes.shape} do not fit")
    _check(sentences, labels, len(classes))
    if not np.isfinite(classes).all():
        raise FitError("the embeddings of the class sentences hold numbers that are not finite")
    rng = np.random.default_rng(settings.seed)
    training, held = _hold_out(labels, settings.held_out, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = AttributesHead(sentences.shape[1])
    head.to(device)
    x = torch.from_numpy(np.ascontiguousarray(sentences, np.float32)).to(device)
    y = torch.from_numpy(np.ascontiguousarray(labels, np.int64)).to(device)
    c = torch.from_numpy(np.ascontiguousarray(classes, np.float32)).to(device)

    def scores(batch: torch.Tensor | np.ndarray) -> torch.Tensor:
        return head.embed_sentences(x[batch]) @ head.embed_classes(c).T

    def val_scores() -> np.ndarray:
        return scores(held).cpu().numpy()[:, None]

    epochs, best_epoch = _train(
        head,
        lambda batch: scores_loss(
            scores(batch), y[batch], temperature=settings.temperature, form=settings.loss
        ),
        _Batches(training, len(training), settings, rng),
        settings,
        Validation(val_scores, labels[held], settings.temperature) if len(held) else None,
        None,
        on_epoch,
    )
    return Fitted(head.cpu().eval(), epochs, best_epoch)


@dataclass(frozen=True)
class Validation:
    """The held-out part: (top-1 in percent, cross entropy) of its scores [n, V, C] as they are now.

    Views are averaged as `view_scores` does it, wherever the head is used.
    """

    scores: Callable[[], np.ndarray]
    labels: np.ndarray
    temperature: float
    view_average: str = "probabilities"

    def __call__(self) -> tuple[float, float]:
        scores = self.scores()
        unscaled = self.view_average == "unscaled" and scores.shape[1] > 1
        logits = scores.astype(np.float64) / (1 if unscaled else self.temperature)
        by_view = torch.log_softmax(torch.from_numpy(logits), dim=-1)
        # In logarithms: a probability of the mean may be too small for a number, its logarithm never is.
        log_probabilities = torch.logsumexp(by_view, dim=1) - math.log(scores.shape[1])
        loss = torch.nn.functional.nll_loss(log_probabilities, torch.from_numpy(self.labels.astype(np.int64)))
        best = view_scores(scores, self.temperature, self.view_average).argmax(axis=1)
        return 100 * float((best == self.labels).mean()), float(loss)


class _Batches:
    """Rows in random order; an epoch is a fixed number of them, each row as often as every other, give or take one."""

    def __init__(
        self, rows: np.ndarray, epoch_size: int, settings: TrainSettings, rng: np.random.Generator
    ) -> None:
        self._rows, self._an_epoch, self._rng = rows, epoch_size, rng
        self._size = settings.batch_of(epoch_size)

    def __len__(self) -> int:
        return math.ceil(self._an_epoch / self._size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        rounds = math.ceil(self._an_epoch / len(self._rows))
        order = np.concatenate([self._rng.permutation(self._rows) for _ in range(rounds)])[: self._an_epoch]
        yield from torch.from_numpy(order).split(self._size)


def _train(
    module: nn.Module,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    batches: _Batches,
    settings: TrainSettings,
    held: Validation | None,
    sync_prompt: Callable[[], None] | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[list[Epoch], int]:
    """Leaves in `module` the best epoch's weights; returns all epochs and the best one's number."""
    groups = _groups(module, settings.learning_rate, settings.weight_decay)
    if not groups:
        raise FitError(
            "nothing of this head would be trained: its classifier is frozen, and it has neither a projection nor a "
            "temporal module. Leave --no-projection out, or use --temporal, --prompt-context or --classifier linear."
        )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999))
    steps = len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(step, settings.warm_up * steps, settings.epochs * steps)
    )
    epochs: list[Epoch] = []
    best, best_epoch, best_state = (-math.inf, -math.inf), 0, None
    lowest, last_improvement = math.inf, 0  # the held-out loss, and the last epoch that gained anything
    for number in range(1, settings.epochs + 1):
        module.train()
        total = count = 0.0
        for batch in batches:
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
            count += len(batch)
        if not math.isfinite(total):
            raise FitError(
                f"the loss of epoch {number} is {total}: the training has diverged. Use a smaller --learning-rate "
                f"than {settings.learning_rate:g}."
            )
        module.eval()
        with torch.no_grad():
            if sync_prompt:
                sync_prompt()
            top1, held_loss = held() if held else (None, None)
        n_held = len(held.labels) if held else 0
        epochs.append(Epoch(number, total / count, top1, held_loss, int(count), n_held))
        if on_epoch:
            on_epoch(epochs[-1])
        if top1 is None or held_loss is None:
            best_epoch = number
            continue
        if top1 > best[0] or held_loss < lowest:
            last_improvement = number
        lowest = min(lowest, held_loss)
        if (top1, -held_loss) > best:
            best, best_epoch = (top1, -held_loss), number
            best_state = copy.deepcopy(module.state_dict())
        if number - max(last_improvement, settings.warm_up) >= settings.patience:
            break
    if best_state is not None:
        module.load_state_dict(best_state)
    return epochs, best_epoch


def _groups(module: nn.Module, learning_rate: float, weight_decay: float) -> list[dict]:
    """Matrices decay; biases, norms and positions do not. A classifier that starts from noise learns faster."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        last = name.rpartition(".")[2]
        rate = learning_rate * (CLASSIFIER_LR_MULTIPLIER if last == "class_embeddings" else 1)
        decay = 0.0 if parameter.ndim < 2 or last in ("positions", "context") else weight_decay
        if parameter.requires_grad:
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": own, "lr": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]


def lr_factor(step: int, warm_up: float, total: int) -> float:
    """Share of the learning rate: a linear rise, then half a cosine."""
    if step < warm_up:
        return min(1.0, (step + 1) / warm_up)
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def _views(rows: np.ndarray, views: int) -> np.ndarray:
    """Rows of videos -> rows of all their views."""
    return (rows[:, None] * views + np.arange(views)).reshape(-1)


def _held_of_class(videos: int, share: float) -> int:
    """How many of a class's videos are held out: one at least stays to be trained on."""
    return max(0, min(round(share * videos), videos - 1))


def _hold_out(labels: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(training rows, held-out rows): the share of each class, and at least one video of each stays to learn from."""
    held = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        held.append(rows[: _held_of_class(len(rows), share)])
    out = np.sort(np.concatenate(held)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), out), out


def _check(embeddings: np.ndarray, labels: np.ndarray, n_classes: int) -> None:
    what = "sentences" if embeddings.ndim == 2 else "videos"
    if labels.shape != embeddings.shape[:1]:
        raise FitError(f"{len(embeddings)} {what}, but labels {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise FitError(
            f"labels lie between {labels.min()} and {labels.max()}, but there are {n_classes} classes"
        )
    for start in range(0, len(embeddings), 1024):
        piece = embeddings[start : start + 1024]
        if not np.isfinite(piece).all():
            bad = start + int(np.argmin(np.isfinite(piece.reshape(len(piece), -1)).all(axis=1)))
            raise FitError(
                f"the embeddings of the training {what[:-1]} {bad} hold numbers that are not finite; "
                "`vidclip verify` says where"
            )
    if len(np.unique(labels)) < 2:
        raise FitError("the training videos are all of one class; there is nothing to tell apart")
