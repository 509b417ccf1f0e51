"""BIKE's checkpoints: both towers of CLIP, and apart from them T-Trans, under concept spotting.

    {"epoch", "model_state_dict": CLIP, "fusion_model_state_dict": T-Trans or nothing, "optimizer_state_dict"}

Source: github.com/whwu95/BIKE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evaluation import RELEASED_FORMS
from ..heads import HeadConfig
from ..scoring import TEMPERATURE
from ..video import Preprocess, Sampling
from .clip import architecture_of, network_weights, temporal_tower
from .model import ReleasedModel
from .read import ReleasedError, weights_of
from .temporal import head_maker, temporal_state


def read_bike(file: Mapping[str, Any], frames: int, where: str) -> ReleasedModel:
    """Return the model of a file that has `fusion_model_state_dict`. Raises ReleasedError."""
    head = weights_of(file["fusion_model_state_dict"], f"fusion_model_state_dict of {where}")
    if any(name.startswith("query_fc.") for name in head):
        raise ReleasedError(
            f"{where} is BIKE's attributes branch: two MLPs over the texts of CLIP, without an encoder of its own. "
            "`vidclip fit --head attributes` trains one; give the file of the video branch here."
        )
    clip = weights_of(file.get("model_state_dict"), f"model_state_dict of {where}")
    clip, tower = temporal_tower(clip, frames)
    architecture, form = architecture_of(clip), RELEASED_FORMS["bike"]
    size, dimension = architecture["vision_cfg"]["image_size"], architecture["embed_dim"]
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
    config, state = temporal_state(head, config, dimension, frames, f"fusion_model_state_dict of {where}")
    return ReleasedModel(
        "bike",
        architecture,
        network_weights(clip, architecture, tower, f"model_state_dict of {where}"),
        tower,
        Preprocess((size, size), form.short_side(size, 1)),
        Sampling(frames, position=form.options["position"]),
        head_maker(config, state, dimension, frames),
        config.words,
        TEMPERATURE,
    )
