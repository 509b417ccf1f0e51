"""X-CLIP's checkpoints: official files, and folders of Hugging Face.

    {"model": CLIP with cross-frame attention, mit.*, prompts_*; "optimizer", ..., "config"}     official, .pth
    config.json, model.safetensors or pytorch_model.bin, preprocessor_config.json                Hugging Face

Sources: github.com/microsoft/VideoX, folder X-CLIP; transformers, models/x_clip.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache import TextEmbeddings
from ..encoders import IMAGENET_MEAN, IMAGENET_STD, TowerConfig
from ..evaluation import RELEASED_FORMS
from ..heads import XClipHead
from ..video import Preprocess, Sampling
from .clip import architecture_of, network_weights
from .keys import official_block, take
from .model import ReleasedModel
from .read import ReleasedError, read_checkpoint, read_config, weights_of

"""ImageNet's, with which X-CLIP trained CLIP's tower."""
_HEAD_PARTS = ("mit.", "prompts_")
_HUGGING_FACE = {
    r"vision_model\.embeddings\.class_embedding$": "visual.class_embedding",
    r"vision_model\.embeddings\.patch_embedding\.weight$": "visual.conv1.weight",
    r"vision_model\.embeddings\.position_embedding\.weight$": "visual.positional_embedding",
    r"vision_model\.pre_layernorm\.": "visual.ln_pre.",
    r"vision_model\.post_layernorm\.": "visual.ln_post.",
    r"vision_model\.encoder\.layers\.": "visual.transformer.resblocks.",
    r"visual_projection\.weight$": "visual.proj",
    r"text_model\.embeddings\.token_embedding\.weight$": "token_embedding.weight",
    r"text_model\.embeddings\.position_embedding\.weight$": "positional_embedding",
    r"text_model\.final_layer_norm\.": "ln_final.",
    r"text_model\.encoder\.layers\.": "transformer.resblocks.",
    r"text_projection\.weight$": "text_projection",
    r"mit\.position_embedding$": "mit.positional_embedding",
    r"mit\.encoder\.layers\.": "mit.resblocks.",
    r"prompts_visual_layernorm\.": "prompts_visual_ln.",
    r"prompts_visual_projection$": "prompts_visual_proj",
    r"prompts_generator\.layernorm\.": "prompts_generator.norm.",
}
_IN_BLOCKS = {
    ".self_attn.": ".attn.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}


@dataclass(frozen=True)
class Heads:
    """How many attention heads each part has; weights do not say it."""

    visual: int
    text: int
    mit: int
    prompts: int


def read_official(weights: Mapping[str, torch.Tensor], where: str) -> ReleasedModel:
    """Return the model of official weights: a head has 64 dimensions. Raises ReleasedError."""
    size, form = architecture_of(weights)["vision_cfg"]["image_size"], RELEASED_FORMS["x-clip"]
    preprocess = Preprocess(
        (size, size), form.short_side(size, 1), interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    return _model(weights, None, preprocess, where)


def read_hugging_face(folder: Path) -> ReleasedModel:
    """Return the model of a folder of transformers' XCLIPModel. Raises ReleasedError."""
    config = read_config(folder / "config.json")
    if config.get("model_type") != "xclip":
        raise ReleasedError(
            f"{folder} holds a model {config.get('model_type')!r} of transformers; X-CLIP's is 'xclip'."
        )
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        raise ReleasedError(
            f"{folder} has neither {files[0].name} nor {files[1].name}: its weights are missing."
        )
    weights = official_weights(weights_of(read_checkpoint(path), str(path)), str(path))
    vision, text = (config.get(f"{part}_config") or {} for part in ("vision", "text"))
    heads = Heads(
        _count(vision, "num_attention_heads", 12),
        _count(text, "num_attention_heads", 8),
        _count(vision, "mit_num_attention_heads", 8),
        _count(config, "prompt_num_attention_heads", 8),
    )
    wanted = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    for part in (vision, text):
        for key, value in wanted.items():
            if part.get(key, value) != value:
                raise ReleasedError(f"{folder}: {key} is {part[key]!r}, and X-CLIP's is {value!r}.")
    size = architecture_of(weights, (heads.visual, heads.text))["vision_cfg"]["image_size"]
    return _model(weights, heads, _hugging_face_preprocess(folder, size), str(folder))


def _count(settings: Mapping[str, Any], key: str, default: int) -> int:
    value = settings.get(key, default)
    if type(value) is not int or not 1 <= value <= 1024:
        raise ReleasedError(f"config.json: {key} is {value!r}, not a number of attention heads.")
    return value


def _hugging_face_preprocess(folder: Path, size: int) -> Preprocess:
    """Return what preprocessor_config.json says: short side, center, mean, std; VideoMAE's ways without it."""
    path = folder / "preprocessor_config.json"
    settings = read_config(path) if path.exists() else {}
    try:
        resize, resample = settings.get("size", size), settings.get("resample", 2)
        if isinstance(resize, Mapping):
            resize = resize["shortest_edge"]
        return Preprocess(
            (size, size),
            resize,
            interpolation={2: "bilinear", 3: "bicubic"}[resample],
            mean=settings.get("image_mean", IMAGENET_MEAN),
            std=settings.get("image_std", IMAGENET_STD),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ReleasedError(f"{path} cannot be used: {error}.") from error


def official_weights(found: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """Return weights of transformers under the official names; names that are not transformers' stay as they are."""
    weights, attentions = {}, {}
    for name, tensor in found.items():
        if name.endswith(".position_ids"):  # of older files
            continue
        for theirs, official in _HUGGING_FACE.items():
            name = re.sub(f"^{theirs}", official, name)
        if ".resblocks." in name:
            for theirs, official in _IN_BLOCKS.items():
                name = name.replace(theirs, official)
            if match := re.fullmatch(r"(.+attn)\.([qkv])_proj\.(weight|bias)", name):
                attentions.setdefault((match[1], match[3]), {})[match[2]] = tensor
                continue
        weights[name] = tensor.T if name in ("visual.proj", "text_projection") else tensor
    for (stem, kind), parts in attentions.items():
        missing = [part for part in "qkv" if part not in parts]
        if missing:
            raise ReleasedError(f"{where}: '{stem}.{missing[0]}_proj.{kind}' is missing.")
        weights[f"{stem}.in_proj_{kind}"] = torch.cat([parts[part] for part in "qkv"])
    return weights


def _model(
    weights: Mapping[str, torch.Tensor], heads: Heads | None, preprocess: Preprocess, where: str
) -> ReleasedModel:
    positions = weights.get("mit.positional_embedding")
    if positions is None or positions.ndim != 3 or len(positions) != 1:
        raise ReleasedError(
            f"{where}: 'mit.positional_embedding' is missing, or is not [1, frames, dimensions]."
        )
    frames = positions.shape[1]
    architecture = architecture_of(weights, (heads.visual, heads.text) if heads else None)
    try:
        tower = TowerConfig("cross-frame", frames)
    except ValueError as error:
        raise ReleasedError(f"{where}: {error}.") from error
    clip = {name: tensor for name, tensor in weights.items() if not name.startswith(_HEAD_PARTS)}
    of_head = {name: tensor for name, tensor in weights.items() if name not in clip}
    network = network_weights(clip, architecture, tower, where)
    return ReleasedModel(
        "x-clip",
        architecture,
        network,
        tower,
        preprocess,
        Sampling(frames, position=RELEASED_FORMS["x-clip"].options["position"]),
        _head_maker(of_head, heads, architecture, frames, where),
        "none",
        math.exp(-float(network["logit_scale"])),
    )


def _head_maker(
    found: Mapping[str, torch.Tensor],
    heads: Heads | None,
    architecture: Mapping[str, Any],
    frames: int,
    where: str,
) -> Callable[[TextEmbeddings], XClipHead]:
    """Return what makes the head over the classes of texts. Raises ReleasedError where its weights do not fit."""
    layers = {name.split(".")[2] for name in found if name.startswith("prompts_generator.decoder.")}
    rows = torch.zeros(1, architecture["embed_dim"])
    try:
        with torch.device("meta"):
            head = XClipHead(
                np.zeros((1, architecture["embed_dim"])),
                frames,
                architecture["vision_cfg"]["width"],
                heads=heads.mit if heads else None,
                prompt_heads=heads.prompts if heads else None,
                prompt_layers=len(layers),
            )
    except ValueError as error:
        raise ReleasedError(f"{where}: {error}.") from error
    own = {
        **found,
        "mit.positional_embedding": found["mit.positional_embedding"][0],
        "class_embeddings": rows,
    }
    state, structure = take(own, head, _official, where=where), head.structure

    def make(texts: TextEmbeddings) -> XClipHead:
        return XClipHead.from_structure(
            structure, {**state, "class_embeddings": torch.from_numpy(texts.sentence)}
        )

    return make


def _official(name: str) -> str:
    if name == "mit.positions":
        return "mit.positional_embedding"
    return official_block(name) if name.startswith("mit.") else name
