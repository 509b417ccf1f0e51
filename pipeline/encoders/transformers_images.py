"""Which pixels a model of transformers sees, by the settings of the processor in its folder.

The processors of transformers on Pillow are followed byte for byte; those on torchvision resize with rounding of their own,
which moves a color by one of 255 steps at most pixels, if at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..video import Preprocess
from .safety import without_code
from .transformers_folder import LOCAL, class_of
from .transformers_models import EncoderKind

_RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers."""


def preprocess_of_folder(folder: Path, kind: EncoderKind, config: Any) -> Preprocess:
    """Return the preprocessing of a folder. Raises ValueError for settings that cannot be followed, and where there are
    none."""
    auto = class_of("AutoVideoProcessor" if kind.reads_clips else "AutoImageProcessor")
    try:
        with without_code():
            processor = auto.from_pretrained(folder, **LOCAL)
    except Exception as error:  # transformers throws whatever its parts do
        raise ValueError(f"its preprocessor_config.json cannot be read: {error}") from error
    name = type(processor).__name__.removesuffix("Fast").removesuffix("Pil")
    if name not in kind.processors:
        raise ValueError(f"its pixels are prepared by a {name}, where {' or '.join(kind.processors)} belongs")
    own = kind.pixels or {}
    size = kind.size(config)
    return preprocess_of_settings(
        {**{key: getattr(processor, key, None) for key in _SETTINGS}, **own}, side=size
    )


_SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std", "do_pad",
)  # fmt: skip


def preprocess_of_settings(settings: Mapping[str, Any], *, side: int | None = None) -> Preprocess:
    """Return the preprocessing that a processor of transformers does with these settings.

    side    of the square that the model sees, where it takes no other

    Raises ValueError for settings that cannot be followed.
    """
    size, crop = _plain(settings["size"]), _plain(settings["crop_size"])
    if not settings["do_resize"] or settings["do_pad"]:
        raise ValueError(
            "its processor does not resize, or pads: frames of different sizes cannot be encoded so"
        )
    scale = settings["rescale_factor"] if settings["do_rescale"] else 1
    if not math.isclose(scale or 1, 1 / 255, rel_tol=1e-6):
        raise ValueError(f"its processor scales colors by {scale}, not by 1/255")
    resample = settings["resample"]
    interpolation = _RESAMPLING.get(int(resample)) if isinstance(resample, int) else None
    if interpolation is None:
        raise ValueError(f"its processor resizes by {resample}; bilinear and bicubic can be followed")
    shown: tuple[Any, Any] = (crop.get("height"), crop.get("width"))
    if set(size) == {"height", "width"}:
        resize_mode, short_side = "squash", None
        target = (size["height"], size["width"])
        if settings["do_center_crop"] and shown != target:
            raise ValueError(f"its processor resizes to {target} and crops {shown}")
    elif set(size) == {"shortest_edge"} and settings["do_center_crop"]:
        resize_mode, target = "shortest", shown
        short_side = None if shown == (size["shortest_edge"],) * 2 else size["shortest_edge"]
    else:
        raise ValueError(
            f"its processor resizes to {dict(size)} without a crop: frames would have many sizes"
        )
    if side is not None and target != (side, side):
        raise ValueError(f"its processor gives {target[0]} x {target[1]} pixels, and it sees {side} x {side}")
    normalizes = settings["do_normalize"]
    mean, std = (settings["image_mean"], settings["image_std"]) if normalizes else ((0.0,) * 3, (1.0,) * 3)
    return Preprocess(
        size=target,
        interpolation=interpolation,
        resize_mode=resize_mode,
        mean=tuple(map(float, mean)),  # type: ignore[arg-type]
        std=tuple(map(float, std)),  # type: ignore[arg-type]
        short_side=short_side,
        crop_rounding="down" if resize_mode == "shortest" else "nearest",
    )


def _plain(size: Any) -> dict[str, int]:
    """Return the sides that a size of transformers says: a dictionary, or in version 5 an object that is like one."""
    items = size.items() if hasattr(size, "items") else vars(size).items() if size is not None else ()
    return {key: int(value) for key, value in items if value is not None}
