"""Mixed clips: mixup blends each clip with another of its micro-batch, cutmix puts a box of the other into it.

All frames of a clip are mixed alike, and all clips of a micro-batch by one draw of torch's generator. The share of a class
in the target is that of its pixels: of cutmix, after the box has been cut off at the border.

B clips, T frames, C classes.
Source: Ni et al. 2022 (X-CLIP), its configs; mixup with Beta(0.8, 0.8) or cutmix with Beta(1, 1), each in half of the steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from .recipe import Recipe


def soft_targets(labels: torch.Tensor, n_classes: int, smoothing: float) -> torch.Tensor:
    """Return targets [B, C] of labels [B]: smoothing / C everywhere, and the rest at the label."""
    return F.one_hot(labels, n_classes) * (1 - smoothing) + smoothing / n_classes


class Mixing:
    """Mixes clips and their targets, as a recipe says."""

    def __init__(self, recipe: Recipe) -> None:
        steps: list[torch.nn.Module] = []
        if recipe.cutmix:
            steps.append(v2.CutMix(alpha=recipe.cutmix))
        if recipe.mixup:
            steps.append(v2.MixUp(alpha=recipe.mixup))
        self._transform = v2.RandomChoice(steps) if steps else None

    def __call__(self, clips: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (clips [B, T, 3, H, W], targets [B, C]), each mixed with its neighbor; a single one stays as it is."""
        if self._transform is None or len(clips) < 2:
            return clips, targets
        mixed, targets = self._transform(tv_tensors.Video(clips), targets)
        return mixed.as_subclass(torch.Tensor), targets
