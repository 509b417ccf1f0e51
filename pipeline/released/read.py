"""Checkpoint files of others, read as data: tensors, numbers, words, and nothing that runs.

torch.load with weights_only builds tensors, dictionaries and numbers. X-CLIP's files hold their settings as a yacs
CfgNode as well; a plain dictionary is built in its place. Whatever else a file names is refused before it is called.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_MOST_CONFIG_BYTES = 2**20


class ReleasedError(Exception):
    """A checkpoint that cannot be imported. The message says what is wrong with it, and what to give instead."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a .safetensors, .pt, .pth or .bin file holds. Raises ReleasedError."""
    if not path.is_file():
        raise ReleasedError(f"{path} is no file. Give a checkpoint, or a folder of a Hugging Face X-CLIP.")
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            with (
                warnings.catch_warnings(),
                torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]),
            ):
                warnings.simplefilter("ignore")
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch, pickle, zipfile and safetensors each throw their own
        raise ReleasedError(f"{path} is refused: {_reason(error)}. Nothing of it was run.") from error
    if not isinstance(found, dict):
        raise ReleasedError(
            f"{path} is no checkpoint: it holds a {type(found).__name__}, not a table of weights."
        )
    return found


def _reason(error: Exception) -> str:
    text = str(error)
    if "TorchScript" in text:
        return "it is a TorchScript archive, which is code. Save its state_dict() as safetensors"
    if named := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it names {named[1]}, and a checkpoint of weights names no code"
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return f"it is no checkpoint, or is damaged ({first[:200].rstrip('.')})"


def read_config(path: Path) -> dict[str, Any]:
    """Return a JSON file of settings. Raises ReleasedError."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ReleasedError(f"{path} cannot be read: {str(error)[:200]}.") from error
    if not isinstance(found, dict):
        raise ReleasedError(f"{path} holds no table of settings.")
    return found


def weights_of(found: Any, where: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict in fp32, without the `module.` of DistributedDataParallel.

    Raises ReleasedError for what is no tensor or not finite, and for a tensor larger than what the file holds of it.
    """
    if not isinstance(found, Mapping):
        raise ReleasedError(f"{where} is a {type(found).__name__}, not a table of weights.")
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ReleasedError(f"{where} holds {str(name)[:80]!r}, which is no tensor.")
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ReleasedError(f"{where}: the tensor {name!r} is not one of plain numbers.")
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not bool(torch.isfinite(tensor).all()):
                raise ReleasedError(f"{where}: the tensor {name!r} holds numbers that are not finite.")
        short = name.removeprefix("module.")
        if short in weights:
            raise ReleasedError(f"{where} holds {short!r} twice, with and without `module.`.")
        weights[short] = tensor.detach()
    return weights
