"""The training loop of whatever has a loss: schedule, parameter groups, validation, the best epoch.

The same seed gives the same weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..choices import LOSSES, MULTI_LABEL_LOSS, TEMPORAL_STARTS, check_choice
from ..scoring import check_temperature, view_scores
from .multi_label import strata, validation_of

CLASSIFIER_LR_MULTIPLIER = 10
"""Learning rate of a trained classifier, as a multiple of the others': it begins as noise, the rest at what the
encoder knows (the papers' new layers learn ten times faster too)."""


class FitError(ValueError):
    """Training data from which nothing can be learned."""


@dataclass(frozen=True)
class TrainSettings:
    """How a head is trained. Defaults: BIKE's and Text4Vis' batch, epochs, warm-up and schedule; the rest for heads
    alone."""

    loss: str = "cross-entropy"
    """cross-entropy, or a contrastive loss over the batch in the paper's or the released code's form; or for any number
    of labels binary-cross-entropy."""
    epochs: int = 30
    warm_up_epochs: float | None = None
    """None: a sixth of the epochs, the papers' 5 of 30."""
    batch_size: int | None = None
    """None: a fortieth of an epoch as a power of two, between 16 and the papers' 256, which would be few steps on a
    small set."""
    learning_rate: float = 1e-3
    """The papers' 5e-5 goes with many more steps than a head on cached embeddings takes."""
    weight_decay: float = 0.2
    temperature: float = 0.01
    """Temperature of the softmax over classes."""
    second_loss_weight: float = 1.0
    """Weight of the loss in a second language, beside that in the first."""
    held_out: float = 0.1
    """Share of each class's videos that validate, and so choose the epoch; 0 keeps the last."""
    patience: int = 10
    """Epochs after the warm-up without improvement on the validation part, in top-1 or in loss, that end the
    training."""
    seed: int = 0
    temporal_start: str = "quiet"
    """How the temporal modules transformer and mit begin, one of TEMPORAL_STARTS."""

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, (*LOSSES, MULTI_LABEL_LOSS))
        check_choice("temporal_start", self.temporal_start, TEMPORAL_STARTS)
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out}")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate must be above 0 and at most 1, got {self.learning_rate}")
        check_temperature(self.temperature)
        for name in ("weight_decay", "warm_up_epochs", "second_loss_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value}")

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
    """Top-1 in percent on the validation part, of a multi-label head the mean average precision; None where there is none."""
    held_out_loss: float | None = None
    """Cross entropy there, of a multi-label head binary."""
    n_examples: int = 0
    """Views of videos that were trained on in it; some several times in few-shot training."""
    n_held_out: int = 0
    """Videos of the validation part."""


@dataclass(frozen=True)
class Validation:
    """Top-1 in percent and cross entropy of the validation part, from its scores [n, V, C] as they are now.

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


@dataclass(frozen=True)
class MultiLabelValidation:
    """Mean average precision in percent and binary cross entropy of the validation part, from its logits [n, V, C]."""

    logits: Callable[[], np.ndarray]
    labels: np.ndarray
    """[n, C] booleans."""

    def __call__(self) -> tuple[float, float]:
        return validation_of(self.logits(), self.labels)


class Batches:
    """Indices in random order; an epoch is a fixed number of them, each as often as every other, give or take one."""

    def __init__(
        self, indices: np.ndarray, epoch_size: int, settings: TrainSettings, rng: np.random.Generator
    ) -> None:
        self._indices, self._epoch_size, self._rng = indices, epoch_size, rng
        power = 2 ** round(math.log2(max(1, epoch_size / 40)))
        self._batch_size = settings.batch_size or min(256, max(16, power))

    def __len__(self) -> int:
        return math.ceil(self._epoch_size / self._batch_size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        rounds = math.ceil(self._epoch_size / len(self._indices))
        order = self._indices[random_order(len(self._indices), rounds, self._rng)]
        yield from torch.from_numpy(order[: self._epoch_size]).split(self._batch_size)


def random_order(n: int, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """Return [rounds n] numbers below n: all of them in random order, again and again."""
    return np.concatenate([rng.permutation(n) for _ in range(rounds)])


def train(
    module: nn.Module,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    batches: Batches,
    settings: TrainSettings,
    validation: Validation | MultiLabelValidation,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[list[Epoch], int]:
    """Train a module in place; return all epochs and the number of the best one, whose weights it is left with.

    loss_of       indices of a batch -> its loss, a scalar with gradient
    validation    chooses the epoch, by top-1 and then by loss; without videos, the last one is kept

    Raises FitError where no parameter would be trained, and for a loss that is not finite.
    """
    groups = parameter_groups(module, settings.learning_rate, settings.weight_decay)
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
    lowest, last_improvement = math.inf, 0  # the validation loss, and the last epoch that improved anything
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
        n_val = len(validation.labels)
        with torch.no_grad():
            top1, val_loss = validation() if n_val else (None, None)
        epochs.append(Epoch(number, total / count, top1, val_loss, int(count), n_val))
        if on_epoch:
            on_epoch(epochs[-1])
        if top1 is None or val_loss is None:
            best_epoch = number
            continue
        if top1 > best[0] or val_loss < lowest:
            last_improvement = number
        lowest = min(lowest, val_loss)
        if (top1, -val_loss) > best:
            best, best_epoch = (top1, -val_loss), number
            best_state = copy.deepcopy(module.state_dict())
        if number - max(last_improvement, settings.warm_up) >= settings.patience:
            break
    if best_state is not None:
        module.load_state_dict(best_state)
    return epochs, best_epoch


def parameter_groups(module: nn.Module, learning_rate: float, weight_decay: float) -> list[dict]:
    """Return groups for an optimizer: matrices decay; biases, norms, positions and contexts do not. A trained
    classifier has CLASSIFIER_LR_MULTIPLIER times the learning rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        is_classifier = name.rpartition(".")[2] == "class_embeddings" or "multi_label." in name
        rate = learning_rate * (CLASSIFIER_LR_MULTIPLIER if is_classifier else 1)
        decay = weight_decay if is_matrix(name, parameter) else 0.0
        if parameter.requires_grad:
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": own, "lr": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]


def is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Return whether a named parameter is neither bias, norm, position, prompt nor context: what decays where not all do."""
    vectors = ("positional_embedding", "time_embedding", "temporal_embedding", "positions", "context")
    vectors += ("global_prompts", "local_prompts")
    return parameter.ndim >= 2 and name.rpartition(".")[2] not in vectors


def lr_factor(
    step: int, warm_up: float, total: int, *, minimum: float = 0.0, cosine: str = "shifted"
) -> float:
    """Return the factor of the learning rate: a linear rise over `warm_up` steps, then half a cosine.

    minimum    what the cosine ends at
    cosine     shifted: it begins after the warm-up; whole: it spans all steps, of which the warm-up takes the place of
               the first (X-CLIP as released)
    """
    if step < warm_up:
        return min(1.0, (step + 1) / warm_up)
    begin = 0 if cosine == "whole" else warm_up
    fall = 0.5 * (1 + math.cos(math.pi * (step - begin) / max(1, total - begin)))
    return minimum + (1 - minimum) * fall


def val_count(n_videos: int, share: float) -> int:
    """Return how many of a class's videos validate: one at least stays to be trained on."""
    return max(0, min(round(share * n_videos), n_videos - 1))


def split_validation(
    labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (indices to train on, indices that validate), ascending: a random share of each class validates.

    labels    [n] class indices, or [n, C] booleans; see `strata`
    """
    labels = strata(labels) if labels.ndim == 2 else labels
    chosen = []
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(own[: val_count(len(own), share)])
    validation = np.sort(np.concatenate(chosen)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), validation), validation
