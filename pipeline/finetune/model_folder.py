"""The folder of a fine-tuned encoder, which `local-dir:FOLDER` names like any other.

    open_clip_config.json           its architecture and preprocessing
    open_clip_model.safetensors     the weights of both towers, fp32
    vidclip_model.json              what is inside the visual tower, where something is
    head.safetensors                the head over its embeddings (see `heads.checkpoint`)
    training.json                   how it was trained: recipe, history, videos

Each file is whole or absent; `training.json` is written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ...cache import write_whole
from ..encoders import TOWER_FILE, OpenClipEncoder, tower_document
from .errors import FinetuneError

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
HEAD_FILE = "head.safetensors"
TRAINING_FILE = "training.json"
_OF_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def write_encoder(folder: Path, encoder: OpenClipEncoder, network: torch.nn.Module) -> None:
    """Write the configuration and weights of an encoder whose network was trained.

    Where its text tower or tokenizer is read from files of its own folder, these are copied. Raises OSError.
    """
    architecture = json.loads(json.dumps(encoder.identity["architecture"]))
    height, width = encoder.preprocess.size
    size = height if height == width else [height, width]
    architecture["vision_cfg"]["image_size"] = size
    own_folder = encoder.model.partition(":")[2] if encoder.model.startswith("local-dir:") else ""
    text = architecture.get("text_cfg", {})
    for key, name in text.items():
        if key in ("hf_model_name", "hf_tokenizer_name") and own_folder and Path(name).is_dir():
            text[key] = str(folder.resolve())
            _copy_files(Path(own_folder), folder)
    architecture.pop("tower", None)
    if encoder.tower is not None:
        write_whole(folder / TOWER_FILE, tower_document(encoder.tower))
    preprocess = {
        name: value
        for name, value in encoder.preprocess.to_dict().items()
        if name in ("mean", "std", "interpolation", "resize_mode", "fill_color")
    }
    document = {"model_cfg": architecture, "preprocess_cfg": {"size": size, **preprocess}}
    write_whole(folder / CONFIG_FILE, (json.dumps(document, indent=2) + "\n").encode())
    weights = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()
    }
    write_whole(folder / WEIGHTS_FILE, save(weights))


def write_training(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `training.json`: the folder is whole when it is there. Raises OSError."""
    data = json.dumps({"format": "vidclip-training", "version": 1, **document}, indent=2, allow_nan=False)
    write_whole(folder / TRAINING_FILE, (data + "\n").encode())


def check_output(folder: Path) -> None:
    """Raise FinetuneError where a folder holds a model already."""
    found = [name for name in (CONFIG_FILE, WEIGHTS_FILE, TRAINING_FILE) if (folder / name).exists()]
    if found:
        raise FinetuneError(
            f"{folder} holds a model already ({found[0]}): it is not overwritten. Use another --output."
        )


def _copy_files(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        if (
            path.is_file()
            and path.suffix not in _OF_WEIGHTS
            and path.name not in (CONFIG_FILE, TRAINING_FILE)
        ):
            shutil.copyfile(path, folder / path.name)
