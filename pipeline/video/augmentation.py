"""Random crops and flips of training clips, drawn and applied where a clip is decoded.

All frames of a clip share one box and one flip. Both follow from the draw of the request (seed, epoch, video) and
the size of the frames alone, whichever process decodes.

Source: `GroupRandomSizedCrop` and `GroupRandomHorizontalFlip` of the released BIKE and Text4Vis; `MultiScaleCrop` in the
configs of the released X-CLIP. These shrink frames first: boxes here are shares of the frame as it is, so that they differ
by rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..choices import CROP_FORMS, check_choice

_BOX, _FLIP = 1, 2
"""Appended to a draw: boxes, flips and frames have random streams of their own. Not 0, which a seed sequence ignores
at its end."""
_TRIES = 10
_SCALES = (1, 0.875, 0.75, 0.66)
_SCALE_PAIRS = [(i, j) for i in range(len(_SCALES)) for j in range(len(_SCALES)) if abs(i - j) <= 1]
_PLACES = ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5))
"""Left and top of a multi-scale box, as shares of what it leaves free."""


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for a clip beside its frames. Raises ValueError for values that cannot be."""

    crop: bool = True
    """Whether a random box is resized to what the model sees; else its own preprocessing is applied."""
    min_area: float = 0.08
    """Smallest share of the frame's area that a box may have; the share is uniform up to 1."""
    max_ratio: float = 4 / 3
    """The ratio of a box's sides is uniform between 1 / max_ratio and max_ratio, and the sides are swapped in half of
    the draws; `RandomResizedCrop` of torchvision draws its logarithm."""
    flip: float = 0.5
    """Probability that a clip is mirrored."""
    form: str = "area"
    """area: of a random area, ratio and place. multi-scale: each side is 1, 0.875, 0.75 or 0.66 of the frame's shorter
    one, neighbors in this list at most, in a corner or the center."""

    def __post_init__(self) -> None:
        check_choice("form", self.form, CROP_FORMS)
        if not 0 < self.min_area <= 1:
            raise ValueError(f"min_area must be above 0 and at most 1, got {self.min_area}")
        if not 1 <= self.max_ratio < 100:
            raise ValueError(f"max_ratio must be at least 1 and below 100, got {self.max_ratio}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be a probability, got {self.flip}")

    def box(self, width: int, height: int, draw: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the box (left, top, right, bottom) in a frame of these sides.

        After ten areas that do not fit, it is a square of the short side, at a random place.
        """
        rng = np.random.default_rng((*draw, _BOX))
        if self.form == "multi-scale":
            pair = _SCALE_PAIRS[rng.integers(len(_SCALE_PAIRS))]
            across, down = (max(1, round(_SCALES[i] * min(width, height))) for i in pair)
            x, y = _PLACES[rng.integers(len(_PLACES))]
            left, top = int(x * (width - across)), int(y * (height - down))
            return left, top, left + across, top + down
        for _ in range(_TRIES):
            area = rng.uniform(self.min_area, 1) * width * height
            ratio = rng.uniform(1 / self.max_ratio, self.max_ratio)
            across, down = max(1, round((area * ratio) ** 0.5)), max(1, round((area / ratio) ** 0.5))
            if rng.random() < 0.5:
                across, down = down, across
            if across <= width and down <= height:
                break
        else:
            across = down = min(width, height)
        left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
        return left, top, left + across, top + down

    def flips(self, draw: tuple[int, ...]) -> bool:
        """Return whether the clip of a draw is mirrored."""
        return bool(np.random.default_rng((*draw, _FLIP)).random() < self.flip)

    def cut(self, frame: np.ndarray, size: tuple[int, int], draw: tuple[int, ...]) -> np.ndarray:
        """Return the box of a frame [H, W, 3] uint8, resized to (height, width), bilinear.

        The box is cut out first: resizing it in place would mix pixels from outside of it into its border.
        """
        image = Image.fromarray(np.ascontiguousarray(frame))
        box = self.box(image.width, image.height, draw)
        return np.asarray(image.crop(box).resize((size[1], size[0]), Image.Resampling.BILINEAR))
