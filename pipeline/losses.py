"""Contrastive losses for batches in which labels repeat.

    logits[i, j] = u(e_i) . u(c_{y_j}) / tau;  positives of i: all j with y_j = y_i

B videos of a batch, D dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LOSS_FORMS = ("paper", "released")


def contrastive_loss(
    videos: torch.Tensor,
    classes: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float = 0.01,
    form: str = "paper",
) -> torch.Tensor:
    """Symmetric contrastive loss between videos and the classes of their labels; a scalar.

    videos     [B, D] embeddings, made unit here
    classes    [B, D] embedding of each video's class
    labels     [B] integers
    form       `paper`: cross entropy whose target spreads evenly over the positives. `released`: KL divergence
               to softmax(10 * indicator), where negatives keep a little mass

    Raises ValueError for an unknown form or shapes that do not fit.
    Source: Wu et al. 2023 (BIKE), equations 7 to 9; Text4Vis, C.3.
    """
    if form not in LOSS_FORMS:
        raise ValueError(f"form must be one of {', '.join(LOSS_FORMS)}, got {form!r}")
    if videos.shape != classes.shape or labels.shape != videos.shape[:1]:
        raise ValueError(
            f"videos {tuple(videos.shape)}, classes {tuple(classes.shape)} and labels {tuple(labels.shape)} do not fit"
        )
    logits = F.normalize(videos, dim=-1) @ F.normalize(classes, dim=-1).T / temperature
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
