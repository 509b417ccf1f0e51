"""Losses of a batch, in which labels may repeat.

    cross-entropy    mean_i -log softmax(s_i / tau)[y_i], over the C classes (Text4Vis, 2.2)
    paper, released  (L(l, P) + L(l^T, P^T)) / 2 over the videos i and their class texts j (BIKE), with
                     l_ij = s_i[y_j] / tau and P_ij = 1 where y_i = y_j, else 0
        paper        L = mean_i -sum_j T_ij log softmax(l_i)_j          T_i = P_i / sum_j P_ij
        released     L = mean_i  sum_j T_ij (log T_ij - log softmax(l_i)_j)    T_i = softmax(10 P_i)

B videos with labels y_i, cosines s [B, C] with C class texts, tau the temperature.
Source: Wu et al. 2023 (BIKE), equations 7 to 9 and released code; Wu et al. 2023 (Text4Vis), C.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..choices import LOSSES, check_choice


def scores_loss(
    scores: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 0.01,
    form: str = "cross-entropy",
) -> torch.Tensor:
    """Return one of LOSSES, a scalar, of cosines [B, C] and labels [B] in 0..C-1.

    Scores are enough: concept spotting has a video embedding for each class. Raises ValueError for an unknown form or
    shapes that do not fit.
    """
    check_choice("the loss", form, LOSSES)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} do not fit")
    if form == "cross-entropy":
        return F.cross_entropy(scores / temperature, labels)
    logits = scores[:, labels] / temperature
    positives = (labels[:, None] == labels).to(logits.dtype)
    total = logits.new_zeros(())
    for l_ij in (logits, logits.T):
        log_probabilities = F.log_softmax(l_ij, dim=1)
        if form == "released":
            target = torch.softmax(10 * positives, dim=1)
            total = total + F.kl_div(log_probabilities, target, reduction="batchmean")
        else:
            target = positives / positives.sum(dim=1, keepdim=True)
            total = total - (target * log_probabilities).sum(dim=1).mean()
    return total / 2
