"""Losses of a batch, in which labels may repeat.

    cross-entropy    mean_i -log softmax(s_i / tau)[y_i], over the C classes (Text4Vis, 2.2)
    paper, released  (L(l, P) + L(l^T, P^T)) / 2 over the videos i and class texts j of a batch (BIKE), with
                     l_ij = u(v_i) . u(w_j) / tau, u(x) = x / |x|, and P_ij = 1 where y_i = z_j, else 0
        paper        L = mean_i -sum_j T_ij log softmax(l_i)_j          T_i = P_i / sum_j P_ij
        released     L = mean_i  sum_j T_ij (log T_ij - log softmax(l_i)_j)    T_i = softmax(10 P_i)

B videos v_i with labels y_i, K class texts w_j with labels z_j, scores s [B, C], tau the temperature, D dimensions.
Source: Wu et al. 2023 (BIKE), equations 7 to 9 and released code; Wu et al. 2023 (Text4Vis), C.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..choices import LOSSES, check_choice


def cross_entropy_loss(
    scores: torch.Tensor, labels: torch.Tensor, *, temperature: float | torch.Tensor = 0.01
) -> torch.Tensor:
    """Return the cross entropy, a scalar, of scores [B, C] and labels [B] in 0..C-1, or targets [B, C] that sum to 1."""
    return F.cross_entropy(scores / temperature, labels)


def contrastive_loss(
    videos: torch.Tensor,
    classes: torch.Tensor,
    labels: torch.Tensor,
    class_labels: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 0.01,
    form: str = "paper",
) -> torch.Tensor:
    """Return the symmetric contrastive loss, a scalar, of embeddings, which may be gathered from several devices.

    videos          [B, D], of any length
    classes         [K, D], of any length: the text of each video's class, or of each class of the batch once
    labels          [B] integers
    class_labels    [K] integers; a video and a class text of one label are positives
    form            paper or released

    Raises ValueError for an unknown form or shapes that do not fit.
    """
    check_choice("the contrastive loss", form, LOSSES[1:])
    if labels.shape != videos.shape[:1] or class_labels.shape != classes.shape[:1]:
        raise ValueError(
            f"videos {tuple(videos.shape)} and labels {tuple(labels.shape)}, or classes {tuple(classes.shape)} and "
            f"class_labels {tuple(class_labels.shape)} do not fit"
        )
    similarities = F.normalize(videos, dim=-1) @ F.normalize(classes, dim=-1).T
    return _symmetric_loss(similarities / temperature, labels, class_labels, form)


def scores_loss(
    scores: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 0.01,
    form: str = "cross-entropy",
) -> torch.Tensor:
    """Return one of LOSSES, a scalar, of cosines [B, C] and labels [B] in 0..C-1; cross entropy takes targets [B, C] too.

    The contrastive losses take the class text of each video, K = B; concept spotting has a video embedding for each
    class, and so scores alone. Raises ValueError for an unknown form or shapes that do not fit.
    """
    check_choice("the loss", form, LOSSES)
    soft = form == "cross-entropy" and labels.is_floating_point()
    if scores.ndim != 2 or labels.shape != scores.shape[: 2 if soft else 1]:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} do not fit")
    if form == "cross-entropy":
        return cross_entropy_loss(scores, labels, temperature=temperature)
    return _symmetric_loss(scores[:, labels] / temperature, labels, labels, form)


def languages_loss(
    scores: Sequence[torch.Tensor], labels: torch.Tensor, *, second_weight: float = 1.0, **options: Any
) -> torch.Tensor:
    """Return the loss of the first language, and that of the second times its weight added (dual semantic supervision).

    scores     of each language, one or two, [B, C]
    options    of `scores_loss`
    """
    first, *second = (scores_loss(each, labels, **options) for each in scores)
    return first + second_weight * second[0] if second else first


def _symmetric_loss(
    logits: torch.Tensor, labels: torch.Tensor, class_labels: torch.Tensor, form: str
) -> torch.Tensor:
    positives = (labels[:, None] == class_labels[None, :]).to(logits.dtype)
    total = logits.new_zeros(())
    for l_ij, P in ((logits, positives), (logits.T, positives.T.contiguous())):
        log_probabilities = F.log_softmax(l_ij, dim=1)
        if form == "released":
            total = total + F.kl_div(log_probabilities, torch.softmax(10 * P, dim=1), reduction="batchmean")
        else:
            target = P / P.sum(dim=1, keepdim=True).clamp(min=1)
            total = total - (target * log_probabilities).sum(dim=1).mean()
    return total / 2
