"""Losses over the scores of a batch, in which labels may repeat.

B videos of a batch, C classes. Scores are cosines; tau is the temperature.

    cross-entropy    of softmax(scores / tau) and the label: a frozen or trained classifier (Text4Vis, 2.2)
    paper, released  symmetric contrastive losses between the videos of a batch and the classes of their labels:
                     l[i, j] = scores[i, y_j] / tau, positives of i are all j with y_j = y_i
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LOSSES = ("cross-entropy", "paper", "released")


def scores_loss(
    scores: torch.Tensor, labels: torch.Tensor, *, temperature: float = 0.01, form: str = "cross-entropy"
) -> torch.Tensor:
    """The loss of a batch; a scalar.

    scores     [B, C] cosines of videos and classes
    labels     [B] integers in 0..C-1
    form       `cross-entropy`. `paper`: symmetric cross entropy whose target spreads evenly over the positives.
               `released`: KL divergence to softmax(10 * indicator), where negatives keep a little mass

    Raises ValueError for an unknown form or shapes that do not fit.
    Source: Wu et al. 2023 (BIKE), equations 7 to 9; Text4Vis, C.3.
    """
    if form not in LOSSES:
        raise ValueError(f"the loss must be one of {', '.join(LOSSES)}, got {form!r}")
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} do not fit")
    if form == "cross-entropy":
        return F.cross_entropy(scores / temperature, labels)
    logits = scores[:, labels] / temperature
    same = (labels[:, None] == labels[None, :]).to(logits.dtype)
    target = torch.softmax(10 * same, dim=1) if form == "released" else same / same.sum(dim=1, keepdim=True)
    losses = []
    for direction in (logits, logits.T):  # the targets are symmetric
        log_probabilities = F.log_softmax(direction, dim=1)
        if form == "released":
            losses.append(F.kl_div(log_probabilities, target, reduction="batchmean"))
        else:
            losses.append(-(target * log_probabilities).sum(dim=1).mean())
    return (losses[0] + losses[1]) / 2
