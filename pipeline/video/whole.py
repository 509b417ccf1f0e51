"""Frames in their own proportions, only smaller: what is kept of a video from which clips are cropped many times."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from .clip_spec import ClipSpec
from .preprocess import RESAMPLING, Preprocess
from .readers import decode_video
from .request import Decoded, VideoRequest
from .sampling import Sampling

MAX_RATIO = 4
"""What is more than so many times as long as it is wide is cut off at both ends."""


class WholeFrames(Preprocess):
    """Shrinks the shorter side of a frame to that of `size`; a smaller frame stays as it is. Nothing is cropped, but what
    makes a frame longer than MAX_RATIO times its shorter side."""

    def pixels(self, frame: np.ndarray, crops: int = 1, positions: str = "longer-side") -> np.ndarray:  # noqa: ARG002
        """Return the frame [1, h, w, 3] of a frame [H, W, 3] uint8."""
        image = Image.fromarray(np.ascontiguousarray(frame))
        width, height = image.size
        most = MAX_RATIO * min(width, height)
        if max(width, height) > most:
            left, top = max(0, width - most) // 2, max(0, height - most) // 2
            image = image.crop((left, top, left + min(width, most), top + min(height, most)))
            width, height = image.size
        shorter, side = min(width, height), min(self.size)
        if side < shorter:
            # The longer side is rounded down, as torchvision's Resize does.
            image = image.resize(
                (side * width // shorter, side * height // shorter), RESAMPLING[self.interpolation]
            )
        return np.asarray(image)[None]


def whole_frames(sampling: Sampling, preprocess: Preprocess, side: int) -> ClipSpec:
    """Return the specification of whole frames whose shorter side is at most `side`, for `decode_whole`.

    Its shape is the largest that they can have.
    """
    settings = {"interpolation": preprocess.interpolation, "mean": preprocess.mean, "std": preprocess.std}
    return ClipSpec(sampling, WholeFrames(size=(side, MAX_RATIO * side), **settings))


def decode_whole(
    path: str | os.PathLike[str] | VideoRequest, clip_spec: ClipSpec, decoder: str = "auto"
) -> Decoded:
    """Decode whole frames as `decode_video` decodes crops: a `decode` of a `DecodePool`.

    clip_spec    of `whole_frames`, whose kind of preprocessing is lost on its way to a worker
    """
    side = min(clip_spec.preprocess.size)
    return decode_video(path, whole_frames(clip_spec.sampling, clip_spec.preprocess, side), decoder)
