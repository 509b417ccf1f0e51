"""OpenAI's CLIP by the shapes of its weights: which architecture they are of, and whether all are there."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import open_clip
import torch

from ..encoders import TowerConfig, change_tower
from .keys import take
from .read import ReleasedError

_HEAD_WIDTH = 64
_VOCABULARY = 49408
_MOST_TOKENS = 1024
"""Of a text: its mask is as many times as many numbers, which no file holds."""
NAMES = {
    (768, 32, 224): "ViT-B-32-quickgelu",
    (768, 16, 224): "ViT-B-16-quickgelu",
    (1024, 14, 224): "ViT-L-14-quickgelu",
    (1024, 14, 336): "ViT-L-14-336-quickgelu",
    (64, 0, 224): "RN50-quickgelu",
}
"""(width, patch, pixels) of the visual tower -> open_clip's name; a ResNet has no patches."""


def architecture_of(
    weights: Mapping[str, torch.Tensor], heads: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return open_clip's `model_cfg` of the weights of both towers.

    heads    of the visual and the text tower, where they are known; else a head has 64 dimensions

    Raises ReleasedError where a shape that says it is missing, or is none of a CLIP.
    """
    try:
        vision = _visual(weights)
        positions, (vocabulary, width) = (
            weights["positional_embedding"],
            weights["token_embedding.weight"].shape,
        )
        dimension = weights["text_projection"].shape[1]
        length = positions.shape[0]
        layers = _count(weights, r"transformer\.resblocks\.(\d+)\.")
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        why = (
            f"{error.args[0]!r} is missing"
            if isinstance(error, KeyError)
            else f"a shape is not CLIP's ({error})"
        )
        raise ReleasedError(f"the weights are not those of a CLIP: {why}.") from error
    if vocabulary != _VOCABULARY:
        raise ReleasedError(
            f"the text tower knows {vocabulary} tokens, and CLIP's tokenizer has {_VOCABULARY}: another tokenizer made "
            "its texts."
        )
    if length > _MOST_TOKENS:
        raise ReleasedError(f"texts of {length} tokens are none of a CLIP.")
    if heads is not None:
        vision["head_width"] = max(1, vision["width"] // heads[0])
    return {
        "embed_dim": dimension,
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": length,
            "vocab_size": vocabulary,
            "width": width,
            "heads": heads[1] if heads else max(1, width // _HEAD_WIDTH),
            "layers": layers,
        },
    }


def _visual(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return _resnet(weights) if "visual.layer1.0.conv1.weight" in weights else _transformer(weights)


def _transformer(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    grid = math.isqrt(weights["visual.positional_embedding"].shape[0] - 1)
    return {
        "image_size": grid * patch,
        "layers": _count(weights, r"visual\.transformer\.resblocks\.(\d+)\."),
        "width": width,
        "patch_size": patch,
        "head_width": min(width, _HEAD_WIDTH),
    }


def _resnet(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    grid = math.isqrt(weights["visual.attnpool.positional_embedding"].shape[0] - 1)
    stages = [_count(weights, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)]
    width = weights["visual.layer1.0.conv1.weight"].shape[0]
    return {"image_size": 32 * grid, "layers": stages, "width": width, "patch_size": None}


def _count(weights: Mapping[str, torch.Tensor], pattern: str) -> int:
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def network_weights(
    weights: Mapping[str, torch.Tensor],
    architecture: Mapping[str, Any],
    tower: TowerConfig | None,
    where: str,
) -> dict[str, torch.Tensor]:
    """Return the state of an open_clip network of this architecture, complete. Raises ReleasedError by the name of
    what is missing, unknown or of another shape."""
    try:
        with torch.device("meta"):  # sizes come from a file: the tensors it holds are all the memory it gets
            network: Any = open_clip.CLIP(**architecture)
            if tower is not None:
                change_tower(network.visual, tower)
    except (ValueError, RuntimeError, AssertionError, TypeError, ZeroDivisionError) as error:
        raise ReleasedError(f"{where} has shapes that no CLIP has: {error}.") from error
    return take(weights, network, where=where)


def name_of(weights: Mapping[str, torch.Tensor]) -> str | None:
    """Return open_clip's name of the architecture of a visual tower, where it is one of OpenAI's."""
    try:
        vision = _visual(weights)
    except (KeyError, ValueError):
        return None
    return NAMES.get((vision["width"], vision["patch_size"] or 0, vision["image_size"]))


def temporal_tower(
    weights: Mapping[str, torch.Tensor], frames: int
) -> tuple[dict[str, torch.Tensor], TowerConfig | None]:
    """Return the weights under the names of the modules here, and what the names say is inside the visual tower:
    TokenT1D (`control_point`), or TSM, which wraps what it shifts as `net`."""
    if any(".control_point.conv." in name for name in weights):
        named = {name.replace(".control_point.conv.", ".temporal."): each for name, each in weights.items()}
        return named, TowerConfig("token-t1d", frames)
    if any(name.startswith("visual.") and ".net." in name for name in weights):
        return {name.replace(".net.", "."): each for name, each in weights.items()}, TowerConfig(
            "tsm", frames
        )
    return dict(weights), None
