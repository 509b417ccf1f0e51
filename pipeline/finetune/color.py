"""Random colors of training clips, on the device: gray, jitter, RandAugment, and boxes that are erased. All frames of a clip
change alike.

The released code of Text4Vis draws RandAugment, and that of X-CLIP its jitter, anew for every frame; gray is drawn a
clip in all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from .recipe import Recipe

_COLOR = 3
"""Appended to the draw of a clip: its colors have a random stream of their own."""


class ColorAugmentation:
    """Changes the colors of clips [B, T, H, W, 3] uint8, each by its own draw.

    Erased boxes are those of Zhong et al. 2020 (Random Erasing Data Augmentation): 2 to 33 % of the area, sides 0.3 to 3.3 to
    each other, filled with the mean color.

    mean    color that normalization subtracts, red, green, blue from 0 to 1
    """

    def __init__(self, recipe: Recipe, mean: Sequence[float] = (0.5, 0.5, 0.5)) -> None:
        steps: list[torch.nn.Module] = []
        if recipe.rand_augment[0]:
            steps.append(v2.RandAugment(*recipe.rand_augment))
        if any(recipe.jitter):
            brightness, contrast, saturation, hue = recipe.jitter
            jitter = v2.ColorJitter(brightness, contrast, saturation, hue)
            certain = recipe.jitter_probability == 1
            steps.append(jitter if certain else v2.RandomApply([jitter], recipe.jitter_probability))
        if recipe.gray:
            steps.append(v2.RandomGrayscale(recipe.gray))
        if recipe.random_erasing:
            fill: Any = [float(round(255 * channel)) for channel in mean]  # torchvision's hint is one number
            steps.append(v2.RandomErasing(recipe.random_erasing, (0.02, 1 / 3), (0.3, 3.3), fill))
        self._transform = v2.Compose(steps) if steps else None

    def __call__(self, clips: torch.Tensor, draws: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Return the clips in changed colors; the same draw changes a clip in the same way in whichever process.

        draws    (seed, epoch, video) of each clip
        """
        if self._transform is None or not len(clips):
            return clips
        changed = []
        with torch.random.fork_rng(devices=[]):
            for clip, draw in zip(clips, draws, strict=True):
                seed = np.random.SeedSequence((*draw, _COLOR)).generate_state(1, np.uint64)[0]
                torch.default_generator.manual_seed(int(seed >> np.uint64(1)))
                # Not a Video: torchvision leaves the colors of these as they are where gray was drawn.
                frames = tv_tensors.Image(clip.permute(0, 3, 1, 2))
                changed.append(self._transform(frames).as_subclass(torch.Tensor).permute(0, 2, 3, 1))
        return torch.stack(changed)
