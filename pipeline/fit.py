"""Trains light heads on what the cache holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .heads import AttributesHead
from .losses import contrastive_loss


class FitError(ValueError):
    """Training data from which nothing can be learnt."""


@dataclass(frozen=True)
class FitSettings:
    """How a head is trained. Defaults: BIKE's batch, epochs, warm-up and schedule; the rest for heads alone."""

    epochs: int = 30
    warm_up_epochs: int = 5
    batch_size: int = 256
    learning_rate: float = 1e-3
    """The papers' 5e-5 goes with weeks of steps; a head on cached embeddings sees few."""
    weight_decay: float = 0.2
    held_out: float = 0.1
    """Share of each class's videos that choose the epoch; 0 keeps the last."""
    loss: str = "released"
    """Form of the contrastive loss: paper or released."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training part."""

    number: int
    loss: float
    held_out_top1: float | None
    """Percent; None where nothing is held out."""


@dataclass(frozen=True)
class Fitted:
    """A trained head and its history."""

    head: AttributesHead
    epochs: list[Epoch]
    best_epoch: int


def fit_attributes(
    sentences: np.ndarray,
    labels: np.ndarray,
    classes: np.ndarray,
    settings: FitSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fitted:
    """Trains the attributes branch: two MLPs, contrastive loss, the text tower frozen.

    sentences    [N, D] embeddings of the attributes sentences
    labels       [N] class indices
    classes      [C, D] embeddings of the class sentences

    The head is that of the epoch which does best on the held-out part, never on a test split. The same
    seed gives the same head. Raises FitError for NaN, fewer than two classes with videos, or shapes that
    do not fit.
    """
    settings = settings or FitSettings()
    _check(sentences, labels, classes)
    rng = np.random.default_rng(settings.seed)
    training, held = _hold_out(labels, settings.held_out, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = AttributesHead(sentences.shape[1])
    head.to(device)
    x = torch.from_numpy(np.ascontiguousarray(sentences, np.float32)).to(device)
    y = torch.from_numpy(np.ascontiguousarray(labels, np.int64)).to(device)
    c = torch.from_numpy(np.ascontiguousarray(classes, np.float32)).to(device)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay
    )
    steps = math.ceil(len(training) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, settings.warm_up_epochs * steps, settings.epochs * steps)
    )
    epochs: list[Epoch] = []
    best, best_state = -1.0, {name: tensor.clone() for name, tensor in head.state_dict().items()}
    best_epoch = 0
    for number in range(1, settings.epochs + 1):
        total = 0.0
        order = torch.from_numpy(rng.permutation(training))
        for batch in order.split(settings.batch_size):
            loss = contrastive_loss(
                head.embed_sentences(x[batch]), head.embed_classes(c)[y[batch]], y[batch], form=settings.loss
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        accuracy = _top1(head, x[held], y[held], c) if len(held) else None
        epochs.append(Epoch(number, total / len(training), accuracy))
        if on_epoch:
            on_epoch(epochs[-1])
        if accuracy is None or accuracy >= best:  # of equals the later, which has learnt more
            best, best_epoch = (-1.0 if accuracy is None else accuracy), number
            best_state = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    head.load_state_dict(best_state)
    return Fitted(head.cpu().eval(), epochs, best_epoch)


def _rate(step: int, warm_up: int, total: int) -> float:
    """Share of the learning rate: a linear rise, then half a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def _hold_out(labels: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(training rows, held-out rows): the share of each class, and at least one video of each stays to learn from."""
    held = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        held.append(rows[: min(round(share * len(rows)), len(rows) - 1)])
    out = np.sort(np.concatenate(held)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), out), out


@torch.inference_mode()
def _top1(head: AttributesHead, x: torch.Tensor, y: torch.Tensor, c: torch.Tensor) -> float:
    scores = head.embed_sentences(x) @ head.embed_classes(c).T
    return 100 * float((scores.argmax(dim=1) == y).float().mean())


def _check(sentences: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> None:
    if sentences.ndim != 2 or classes.ndim != 2 or sentences.shape[1] != classes.shape[1]:
        raise FitError(f"sentences {sentences.shape} and classes {classes.shape} do not fit")
    if labels.shape != sentences.shape[:1]:
        raise FitError(f"{len(sentences)} sentences, but labels {labels.shape}")
    if not (np.isfinite(sentences).all() and np.isfinite(classes).all()):
        raise FitError("the embeddings hold numbers that are not finite; `vidclip verify` says where")
    if len(np.unique(labels)) < 2:
        raise FitError("the training videos are all of one class; there is nothing to tell apart")
