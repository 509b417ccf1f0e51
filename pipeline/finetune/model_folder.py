"""The folder of a fine-tuned encoder, which `local-dir:FOLDER` names like any other.

    ...                             the encoder (see `encoders.model_folder`)
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

from ...cache import write_whole
from ..encoders import (
    CONFIG_FILE,
    PROMPTS_FILE,
    WEIGHTS_FILE,
    FrozenWeights,
    OpenClipEncoder,
    brings_own_files,
    write_model,
)
from ..heads import HEAD_FILE as HEAD_FILE
from .errors import FinetuneError
from .recipe import Recipe

TRAINING_FILE = "training.json"
_OF_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def frozen_weights(encoder: OpenClipEncoder, recipe: Recipe) -> FrozenWeights | None:
    """Return by which name the towers of a trained encoder are had; None where they were trained, come from a folder, a
    file or a hub page, or see images of another size."""
    native = encoder.identity["architecture"]["vision_cfg"].get("image_size", 224)
    sizes = tuple(native) if isinstance(native, list) else (native, native)
    kept = recipe.tower == "temporal-prompts" and recipe.train == "head"
    if not kept or brings_own_files(encoder.model, encoder.pretrained) or sizes != encoder.preprocess.size:
        return None
    name = encoder.model.replace("/", "-")
    return FrozenWeights(name, encoder.pretrained, encoder.identity["weights_sha256"])


def write_encoder(
    folder: Path, encoder: OpenClipEncoder, network: torch.nn.Module, frozen: FrozenWeights | None = None
) -> None:
    """Write the configuration and weights of an encoder whose network was trained.

    frozen    by which name its towers are had: they are not written then

    Where its text tower or tokenizer is read from files of its own folder, these are copied. Raises OSError.
    """
    architecture = json.loads(json.dumps(encoder.identity["architecture"]))
    own_folder = encoder.model.partition(":")[2] if encoder.model.startswith("local-dir:") else ""
    text = architecture.get("text_cfg", {})
    for key, name in text.items():
        if key in ("hf_model_name", "hf_tokenizer_name") and own_folder and Path(name).is_dir():
            text[key] = str(folder.resolve())
            _copy_files(Path(own_folder), folder)
    architecture.pop("tower", None)
    write_model(folder, architecture, encoder.preprocess, network.state_dict(), encoder.tower, frozen)


def write_training(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `training.json`: the folder is whole when it is there. Raises OSError."""
    data = json.dumps({"format": "vidclip-training", "version": 1, **document}, indent=2, allow_nan=False)
    write_whole(folder / TRAINING_FILE, (data + "\n").encode())


def check_output(folder: Path) -> None:
    """Raise FinetuneError where a folder holds a model already."""
    found = [
        name for name in (CONFIG_FILE, WEIGHTS_FILE, PROMPTS_FILE, TRAINING_FILE) if (folder / name).exists()
    ]
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
