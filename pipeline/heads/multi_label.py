"""Heads for videos with any number of labels: each class has a probability of its own.

    z_bc = t s_bc + b_c        p_bc = 1 / (1 + exp(-z_bc))
    L    = mean over b and c of -y_bc log p_bc - (1 - y_bc) log(1 - p_bc)        (binary cross entropy)

with the scores s [B, C] of a video head (cosines), targets y in {0, 1}, and t and b trained. They begin at the t that gives the z
of a class a standard deviation of 1 over the training videos, 1 / tau at most, and at the b_c that makes their mean the logit of
the class's share of these videos: the loss of the first step is then near that of a head that knows these shares, whatever
cosines the encoder gives.

Source: the scale and the bias are those of Zhai et al. 2023 (SigLIP), 3.2, but with a bias for each class; the start is that of Lin
et al. 2017 (focal loss), 3.3. The papers that vidclip follows train Charades with their losses for single labels, on the
intervals of its actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_LARGEST_LOG_SCALE = 20.0
"""A file may claim more; exp of it is still a number."""


class MultiLabelLogits(nn.Module):
    """The scale t and the biases b [C] between the scores of a head and the logits of its classes."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Return logits [..., C] of scores [..., C]."""
        return scores * self.log_scale.clamp(max=_LARGEST_LOG_SCALE).exp() + self.bias

    @torch.no_grad()
    def start(self, scores: np.ndarray, targets: np.ndarray, temperature: float) -> None:
        """Begin at the classes' shares of the training videos.

        scores     [n, C] of the untrained head, of some of them
        targets    [N, C] booleans, of all; a class is counted half a time more in both directions, so that none is certain
        """
        share = (targets.sum(axis=0) + 0.5) / (len(targets) + 1)
        scores = np.asarray(scores, np.float64)
        self.log_scale.fill_(-np.log(max(float(scores.std(axis=0).mean()), temperature)))
        mean = torch.from_numpy(scores.mean(axis=0))
        logit = torch.from_numpy(np.log(share) - np.log1p(-share))
        self.bias.copy_(logit - mean * float(self.log_scale.exp()))

    def select(self, classes: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the state over some of the classes, in this order."""
        return {"log_scale": self.log_scale.detach(), "bias": self.bias.detach()[list(classes)]}


def multi_label_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the binary cross entropy, a scalar, of logits [B, C] and targets [B, C] in {0, 1}, over all videos and classes.

    Raises ValueError for shapes that do not fit.
    """
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} do not fit")
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


def validation_of(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return the mean average precision in percent, of the classes with videos, and the binary cross entropy.

    logits     [n, V, C]; views count by the mean of their probabilities
    targets    [n, C] booleans
    """
    from sklearn.metrics import average_precision_score

    scores = mean_logits(logits)
    seen = targets.any(axis=0)
    precision = average_precision_score(targets[:, seen], scores[:, seen]) if seen.any() else 0.0
    loss = multi_label_loss(torch.from_numpy(scores), torch.from_numpy(targets))
    return 100 * float(precision), float(loss)


def mean_logits(logits: np.ndarray) -> np.ndarray:
    """Return logits [n, C] float64 of the mean over views of the probabilities; those of one view as they are."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[1] == 1:
        return logits[:, 0]
    # log p - log(1 - p), each the logarithm of a mean: neither is lost where p is next to 0 or 1.
    views = torch.from_numpy(logits)
    yes, no = (torch.logsumexp(F.logsigmoid(each), dim=1) for each in (views, -views))
    return (yes - no).numpy()


def strata(targets: np.ndarray) -> np.ndarray:
    """Return [n] the rarest class of each video, by which videos with several labels are divided: each class, above all the rare
    ones, then is on both sides. Of equals, the first; of a video without labels, C.

    targets    [n, C] booleans
    """
    n_videos, n_classes = targets.sum(axis=0), targets.shape[1]
    order = np.argsort(n_videos, kind="stable")
    first = targets[:, order].argmax(axis=1)
    return np.where(targets.any(axis=1), order[first], n_classes)
