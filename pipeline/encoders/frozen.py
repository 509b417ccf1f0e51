"""A model folder without weights of its own but for prompts: those of the frozen towers are had by a name.

    vidclip_model.json             {..., "frozen": {"model": "ViT-B-16", "pretrained": "openai", "weights_sha256": "..."}}
    temporal_prompts.safetensors   what was trained, under its names in the network

A folder may come from a stranger: the name is one that comes with the package, or that open_clip knows with that tag. The
weights that are had by it must be those that the prompts were trained in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from open_clip.pretrained import list_pretrained_tags_by_model
from safetensors.torch import load_file

from .files import PACKAGED
from .identity import weights_digest
from .protocol import EncoderError, full_name
from .towers.build import change_tower, is_new
from .towers.config import FrozenWeights, TowerConfig

PROMPTS_FILE = "temporal_prompts.safetensors"


def check_frozen(frozen: FrozenWeights, folder: Path) -> None:
    """Raise EncoderError for a name that is not one of the package, or of open_clip with a tag."""
    packaged = frozen.model in PACKAGED and not frozen.pretrained
    if not packaged and frozen.pretrained not in list_pretrained_tags_by_model(frozen.model):
        raise EncoderError(
            f"{folder} has prompts for {full_name(frozen.model, frozen.pretrained)}, which neither comes with vidclip nor "
            "is known to open_clip. Ask for a folder that was written with --self-contained."
        )


def add_trained_prompts(
    network: Any, folder: Path, tower: TowerConfig, frozen: FrozenWeights, original: Any
) -> None:
    """Put the prompts of a folder into the frozen network, in place.

    original    the network as the name alone gives it, of its own image size

    Raises EncoderError for weights that are not those of the training; ValueError for prompts that do not fit; OSError.
    """
    found = weights_digest(original)
    if found != frozen.weights_sha256:
        raise EncoderError(
            f"the prompts of {folder} were trained in {full_name(frozen.model, frozen.pretrained)} with the weights "
            f"{frozen.weights_sha256[:12]}..., and those here are {found[:12]}...: the prompts mean nothing in them. Get "
            "those weights, or a folder that was written with --self-contained."
        )
    change_tower(network.visual, tower, measure=False)
    state = load_file(folder / PROMPTS_FILE)
    expected = {name for name in network.state_dict() if is_new(name)}
    if different := sorted(expected ^ state.keys()):
        more = "lacks" if different[0] in expected else "has besides"
        raise ValueError(f"{PROMPTS_FILE} {more} {different[0]}")
    network.load_state_dict(state, strict=False)
