"""The folder of an encoder, which `local-dir:FOLDER` names: as open_clip saves it, and what open_clip does not know.

open_clip_config.json           its architecture and preprocessing
open_clip_model.safetensors     the weights of both towers, fp32
vidclip_model.json              what is inside the visual tower, where something is

Where nothing but temporal prompts was trained, in towers that are known by a name, the weights are those of that name, and
the folder has `temporal_prompts.safetensors` in their place: see `frozen`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ...cache import write_whole
from ..video import Preprocess
from .frozen import PROMPTS_FILE
from .preprocessing import CONFIG_FILE
from .towers.build import is_new
from .towers.config import TOWER_FILE, FrozenWeights, TowerConfig, tower_document

WEIGHTS_FILE = "open_clip_model.safetensors"


def write_model(
    folder: Path,
    architecture: Mapping[str, Any],
    preprocess: Preprocess,
    weights: Mapping[str, torch.Tensor],
    tower: TowerConfig | None = None,
    frozen: FrozenWeights | None = None,
) -> None:
    """Write the files of an encoder, each whole or not at all. Raises OSError.

    architecture    `model_cfg` of open_clip
    weights         the state of the network with what `tower` puts into it
    frozen          by which name the towers are had; None: their weights are written too
    """
    height, width = preprocess.size
    size = height if height == width else [height, width]
    vision = {**architecture["vision_cfg"], "image_size": size}
    if tower is not None:
        write_whole(folder / TOWER_FILE, tower_document(tower, frozen))
    settings = {
        name: value
        for name, value in preprocess.to_dict().items()
        if name in ("mean", "std", "interpolation", "resize_mode", "fill_color")
    }
    document = {
        "model_cfg": {**architecture, "vision_cfg": vision},
        "preprocess_cfg": {"size": size, **settings},
    }
    write_whole(folder / CONFIG_FILE, (json.dumps(document, indent=2) + "\n").encode())
    own = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in weights.items()
        if frozen is None or is_new(name)
    }
    write_whole(folder / (WEIGHTS_FILE if frozen is None else PROMPTS_FILE), save(own))
