"""BIKE's checkpoints: both towers of CLIP, and apart from them the head.

    {"epoch", "model_state_dict": CLIP, "fusion_model_state_dict": head, "optimizer_state_dict"}

The head of the video branch is T-Trans or nothing, under concept spotting; that of the attributes branch is two MLPs
over sentence embeddings, `sentence_fc` and `query_fc`.

Source: github.com/whwu95/BIKE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...cache import TextEmbeddings
from ..evaluation import RELEASED_FORMS
from ..heads import AttributesHead, HeadConfig, VideoHead
from ..scoring import TEMPERATURE, AttributeSettings
from ..video import Preprocess, Sampling
from .clip import architecture_of, network_weights, temporal_tower
from .keys import take
from .model import ReleasedModel
from .read import weights_of
from .temporal import head_maker, temporal_state

_MLPS = {"sentence.": "sentence_fc.", "classes.": "query_fc."}
"""Of the attributes branch: own name -> name in the release."""


def read_bike(file: Mapping[str, Any], frames: int, where: str) -> ReleasedModel:
    """Return the model of a file that has `fusion_model_state_dict`. Raises ReleasedError."""
    of_head = f"fusion_model_state_dict of {where}"
    head = weights_of(file["fusion_model_state_dict"], of_head)
    clip = weights_of(file.get("model_state_dict"), f"model_state_dict of {where}")
    clip, tower = temporal_tower(clip, frames)
    architecture, form = architecture_of(clip), RELEASED_FORMS["bike"]
    size = architecture["vision_cfg"]["image_size"]
    attributes, words = None, "none"
    if any(name.startswith(tuple(_MLPS.values())) for name in head):
        make, attributes = _attributes_head(head, architecture["embed_dim"], of_head), AttributeSettings()
    else:
        make, words = _video_head(head, architecture, frames, of_head), form.options["words"]
    return ReleasedModel(
        "bike",
        architecture,
        network_weights(clip, architecture, tower, f"model_state_dict of {where}"),
        tower,
        Preprocess((size, size), form.short_side(size, 1)),
        Sampling(frames, position=form.options["position"]),
        make,
        words,
        TEMPERATURE,
        attributes=attributes,
    )


def _video_head(
    found: Mapping[str, torch.Tensor], architecture: Mapping[str, Any], frames: int, where: str
) -> Callable[[TextEmbeddings], VideoHead]:
    form, dimension = RELEASED_FORMS["bike"], architecture["embed_dim"]
    config = HeadConfig(
        "text",
        "transformer",
        "vcs",
        projection=False,
        spotting_temperature=TEMPERATURE,
        words=form.options["words"],
        renormalize=form.options["renormalize"],
        heads=form.temporal_heads(architecture) or 1,
        view_average=form.options["view_average"],
    )
    config, state = temporal_state(found, config, dimension, frames, where)
    return head_maker(config, state, dimension, frames)


def _attributes_head(
    found: Mapping[str, torch.Tensor], dimension: int, where: str
) -> Callable[[TextEmbeddings], AttributesHead]:
    """Return what makes the head, whose weights know no classes."""

    def official(name: str) -> str:
        for own, released in _MLPS.items():
            name = name.replace(own, released)
        return name

    with torch.device("meta"):
        head = AttributesHead(dimension)
    head.load_state_dict(take(found, head, official, where=where), assign=True)
    return lambda _texts: head.eval()
