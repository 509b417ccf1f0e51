"""From a decoded frame to the pixels a model sees, as open_clip's own preprocessing makes them.

Decoding workers import this module, which needs Pillow and numpy, never torch. The geometry
is that of `open_clip.transform.image_transform(is_train=False)` (open_clip 3), byte for byte, or that of
the image processors of transformers on Pillow (`crop_rounding` down); the normalization that follows it
(`mean`, `std`) is left to the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from ..choices import CROP_POSITIONS, check_choice
from .sampling import CROPS, check_names

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
RESIZE_MODES = ("shortest", "longest", "squash")
CROP_ROUNDINGS = ("nearest", "down")
EXTREME_RATIO = 16
"""A frame whose longer side is more than so many times the shorter is cropped before it is resized: one of 2 x
65000 pixels would be resized to 224 x 7,280,000."""
_LONGEST_SIDE = 10_000

_LATER = {"short_side": None, "crop_rounding": "nearest"}
"""Settings that caches did not always have, and what they stood at."""


@dataclass(frozen=True)
class Preprocess:
    """How a frame is resized and cropped, and with which numbers it is normalized afterwards."""

    size: tuple[int, int]
    """(height, width) that the model sees."""
    resize: int | None = None
    """Length of the short side before cropping. None: what the model's own preprocessing does."""
    interpolation: str = "bicubic"
    """`bicubic` or `bilinear`, antialiased both."""
    resize_mode: str = "shortest"
    """The model's own way: short side to size and crop, `longest` side to size and pad, or `squash`.
    With `resize`, and for three crops, it is always the short side: the geometry of the papers."""
    fill_color: int = 0
    """What `longest` pads with."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Mean of red, green and blue, in [0, 1]; default, as that of `std`: OpenAI's."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    short_side: int | None = None
    """The model's own length of the short side before the crop; None: as long as what it sees. `shortest` alone."""
    crop_rounding: str = "nearest"
    """Where a center crop begins that half a pixel is left over for: at the `nearest` even pixel, as torchvision
    rounds, or `down`, as transformers does."""

    def __post_init__(self) -> None:
        # Lists (from JSON, from open_clip) become tuples, so that equal settings compare equal.
        for name, length in (("size", 2), ("mean", 3), ("std", 3)):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or len(value) != length:
                raise ValueError(f"{name} must have {length} numbers, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        if any(not isinstance(side, int) or side < 1 for side in self.size):
            raise ValueError(f"size must be (height, width) in whole pixels, got {self.size!r}")
        if self.resize is not None and self.resize < max(self.size):
            raise ValueError(f"resize must be at least the size {max(self.size)}, got {self.resize}")
        check_choice("interpolation", self.interpolation, tuple(RESAMPLING))
        check_choice("resize_mode", self.resize_mode, RESIZE_MODES)
        check_choice("crop_rounding", self.crop_rounding, CROP_ROUNDINGS)
        if self.short_side is not None and (
            self.resize_mode != "shortest"
            or not isinstance(self.short_side, int)
            or not max(self.size) <= self.short_side <= _LONGEST_SIDE
        ):
            raise ValueError(
                f"short_side must be from {max(self.size)}, the size, to {_LONGEST_SIDE}, with the resize mode shortest; got "
                f"{self.short_side} with {self.resize_mode}"
            )
        if not 0 <= self.fill_color <= 255:
            raise ValueError(f"fill_color must be in 0..255, got {self.fill_color}")
        if any(value <= 0 for value in self.std):
            raise ValueError(f"std must be positive, got {self.std!r}")

    def pixels(self, frame: np.ndarray, crops: int = 1, positions: str = "longer-side") -> np.ndarray:
        """Return the crops of one frame.

        frame      [H, W, 3] uint8, red-green-blue, upright
        crops      1: the center; 3: as `positions` says
        positions  `longer-side`: start, middle and end of the frame's longer side; `width`: left, middle and
                   right of every frame, in steps of a quarter of the spare width, rounded down. So the
                   released BIKE and Text4Vis have them (`GroupFullResSample`); of a frame that is higher
                   than wide, the three are almost the same crop.
        Returns [crops, height, width, 3] uint8.
        Raises ValueError for another shape, type, number or position of crops.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or frame.size == 0:
            raise ValueError(f"A frame is [H, W, 3] uint8, got {list(frame.shape)} {frame.dtype}")
        check_choice("crops", crops, CROPS)
        check_choice("positions", positions, CROP_POSITIONS)
        image = Image.fromarray(np.ascontiguousarray(frame))
        if crops == 1 and self.resize is None:
            return np.asarray(self._as_the_model_does(image))[None]
        resized = self._shortest_to(image, self.resize or self.short_side or max(self.size))
        spare_width, spare_height = resized.width - self.size[1], resized.height - self.size[0]
        middle = (self._half(spare_width), self._half(spare_height))
        corners = [middle]
        if crops == 3 and positions == "width":
            top = 2 * (spare_height // 4)
            corners = [(step * (spare_width // 4), top) for step in (0, 2, 4)]
        elif crops == 3 and resized.width >= resized.height:
            corners = [(0, middle[1]), middle, (spare_width, middle[1])]
        elif crops == 3:
            corners = [(middle[0], 0), middle, (middle[0], spare_height)]
        return np.stack([np.asarray(resized.window(self.size, left, top)) for left, top in corners])

    def _as_the_model_does(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        resampling = RESAMPLING[self.interpolation]
        if self.resize_mode == "squash":
            return image.resize((width, height), resampling)
        if self.resize_mode == "longest":
            ratio = max(image.height / height, image.width / width)
            return _padded(image.resize(_scaled(image, ratio), resampling), self.size, self.fill_color)
        if height == width or self.short_side is not None:
            resized = self._shortest_to(image, self.short_side or height)
        else:
            # open_clip drops the interpolation here: always bicubic.
            ratio = min(image.height / height, image.width / width)
            resized = _Resized(image, _scaled(image, ratio), Image.Resampling.BICUBIC)
        left, top = self._half(resized.width - width), self._half(resized.height - height)
        return resized.window(self.size, left, top)

    def _half(self, spare: int) -> int:
        return spare // 2 if self.crop_rounding == "down" else round(spare / 2)

    def _shortest_to(self, image: Image.Image, length: int) -> _Resized:
        # torchvision's Resize: the longer side is rounded down.
        width, height = image.size
        if width <= height:
            target = (length, int(length * height / width))
        else:
            target = (int(length * width / height), length)
        return _Resized(image, target, RESAMPLING[self.interpolation])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, words and lists, for JSON; `from_dict` reads them back.

        `short_side` and `crop_rounding` are there when they are not the default: older caches have none.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in _LATER or value != _LATER[name]
        }

    def to_identity(self) -> dict[str, Any]:
        """Return what is part of an encoder's identity: all but `resize`, which the sampling of a cache has."""
        return {name: value for name, value in self.to_dict().items() if name != "resize"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocess:
        """Return the preprocessing that `to_dict` wrote. Raises ValueError on an unknown or missing name."""
        check_names({**_LATER, **data}, {field.name for field in fields(cls)}, "preprocessing")
        return cls(**data)


class _Resized:
    """An image that is resized when a window of it is asked for: as a whole, or, where it is of extreme
    proportions, in that window alone.

    Pillow computes a pixel from the neighbors of its place in the source, also from those outside of the box
    that it is told to resize: the window has the pixels that the whole would have there.
    """

    def __init__(self, image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> None:
        self.width, self.height = size
        self._source, self._resampling = image, resampling
        self._extreme = max(image.size) > EXTREME_RATIO * min(image.size)
        self._whole: Image.Image | None = None

    def window(self, size: tuple[int, int], left: int, top: int) -> Image.Image:
        """Return the part of `size` (height, width) whose corner is at (left, top) of the resized image."""
        height, width = size
        if self._extreme:
            x, y = self._source.width / self.width, self._source.height / self.height
            right = min((left + width) * x, self._source.width)
            bottom = min((top + height) * y, self._source.height)
            box = (left * x, top * y, right, bottom)
            return self._source.resize((width, height), self._resampling, box=box)
        if self._whole is None:
            self._whole = self._source.resize((self.width, self.height), self._resampling)
        return self._whole.crop((left, top, left + width, top + height))


def _scaled(image: Image.Image, ratio: float) -> tuple[int, int]:
    # max(1): a frame of 1000:1 keeps at least a line, where open_clip would fail
    return max(1, round(image.width / ratio)), max(1, round(image.height / ratio))


def _padded(image: Image.Image, size: tuple[int, int], fill: int) -> Image.Image:
    """Return the image in the middle of at least `size` (height, width); the odd line goes to the end."""
    height, width = max(size[0], image.height), max(size[1], image.width)
    if (height, width) == (image.height, image.width):
        return image
    canvas = Image.new("RGB", (width, height), (fill,) * 3)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas
