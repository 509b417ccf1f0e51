"""How images are prepared for a model, by what its folder or its published weights say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from ..video import Preprocess
from .protocol import EncoderError

CONFIG_FILE = "open_clip_config.json"


def preprocessing_of_folder(folder: Path) -> dict[str, Any]:
    """Return `preprocess_cfg` of a folder's configuration. Raises EncoderError where there is none."""
    try:
        return dict(json.loads((folder / CONFIG_FILE).read_bytes())["preprocess_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{folder / CONFIG_FILE} has no preprocess_cfg.") from error


def preprocessing_of_tags(model: str) -> dict[str, Any]:
    """Return how the published weights of a model want their images, where all agree.

    open_clip prepares images for a checkpoint file as for OpenAI's models, whatever the model; SigLIP and
    others want something else.
    """
    keys = ("mean", "std", "interpolation", "resize_mode")
    known = [get_pretrained_cfg(model, tag) for tag in list_pretrained_tags_by_model(model)]
    settings = [{key: cfg[key] for key in keys if cfg.get(key) is not None} for cfg in known]
    return settings[0] if settings and all(other == settings[0] for other in settings) else {}


def preprocess_of(settings: dict[str, Any]) -> Preprocess:
    """Return the preprocessing of a `preprocess_cfg`. Raises EncoderError for one that cannot be."""
    size = settings["size"]
    try:
        return Preprocess(
            size=(size, size) if isinstance(size, int) else (size[0], size[-1]),
            interpolation=settings["interpolation"],
            resize_mode=settings["resize_mode"],
            fill_color=settings.get("fill_color", 0),
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise EncoderError(f"the model's preprocess_cfg cannot be used: {error}.") from error
