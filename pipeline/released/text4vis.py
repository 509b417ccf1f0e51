"""Text4Vis' checkpoints: the visual tower of CLIP, its temperature, and T-Trans; no text tower, and no classifier.

    {"epoch", "model_state_dict": {"logit_scale", "visual.*", "fusion_model.*"}, "optimizer_state_dict"}

Source: github.com/whwu95/Text4Vis.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..encoders import EncoderError, load_open_clip
from ..evaluation import RELEASED_FORMS
from ..heads import HeadConfig
from ..scoring import TEMPERATURE
from ..video import Preprocess, Sampling
from .clip import NAMES, architecture_of, name_of, network_weights, temporal_tower
from .model import ReleasedModel
from .read import ReleasedError, read_checkpoint, weights_of
from .temporal import head_maker, temporal_state

_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")


def read_text4vis(
    weights: Mapping[str, torch.Tensor], text: str | None, frames: int, where: str
) -> ReleasedModel:
    """Return the model of a file without a text tower.

    text    the CLIP it came from: a tag that open_clip knows for the architecture, a checkpoint file, or
            local-dir:FOLDER

    Raises ReleasedError.
    """
    if text is None:
        raise ReleasedError(
            f"{where} is of Text4Vis, whose files have no text tower. Add --text openai, the CLIP it was trained from, "
            "or --text FILE with the weights of that CLIP."
        )
    head = {
        name.removeprefix("fusion_model."): tensor
        for name, tensor in weights.items()
        if name.startswith("fusion_model.")
    }
    own = {name: tensor for name, tensor in weights.items() if not name.startswith("fusion_model.")}
    own, tower = temporal_tower(own, frames)
    other = _clip_of(text, own, where)
    texts = {name: tensor for name, tensor in other.items() if name.startswith(_TEXT)}
    dimension = _dimension(own)
    if "text_projection" not in texts or texts["text_projection"].shape[-1] != dimension:
        raise ReleasedError(
            f"--text {text} is another CLIP than {where} came from: its texts have "
            f"{texts['text_projection'].shape[-1] if 'text_projection' in texts else 'no'} dimensions, the frames of "
            f"the file {dimension}."
        )
    notes = ()
    if all(torch.equal(tensor, other[name]) for name, tensor in own.items() if name in other):
        notes = (f"the visual tower of {where} is that of --text {text}: it was never trained on videos.",)
    clip = {**own, **texts}
    architecture, form = architecture_of(clip), RELEASED_FORMS["text4vis"]
    size = architecture["vision_cfg"]["image_size"]
    config = HeadConfig(
        "text",
        "transformer",
        projection=False,
        heads=form.temporal_heads(architecture) or 1,
        view_average=form.options["view_average"],
    )
    config, state = temporal_state(head, config, dimension, frames, f"fusion_model of {where}")
    return ReleasedModel(
        "text4vis",
        architecture,
        network_weights(clip, architecture, tower, where),
        tower,
        Preprocess((size, size), form.short_side(size, 1)),
        Sampling(frames, position=form.options["position"]),
        head_maker(config, state, dimension, frames),
        "none",
        TEMPERATURE,
        notes,
    )


def _dimension(weights: Mapping[str, torch.Tensor]) -> int:
    for name in ("visual.proj", "visual.attnpool.c_proj.weight"):
        if name in weights and weights[name].ndim == 2:
            return weights[name].shape[1 if name == "visual.proj" else 0]
    raise ReleasedError("the weights are not those of a CLIP: 'visual.proj' is missing.")


def _clip_of(text: str, own: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """Return the weights of the CLIP that brings the text tower."""
    if Path(text).is_file():
        found = read_checkpoint(Path(text))
        return weights_of(found.get("state_dict", found), f"--text {text}")
    if text.startswith("local-dir:"):
        model, tag = text, ""
    else:
        name = name_of(own)
        if name is None:
            raise ReleasedError(
                f"{where} has none of the architectures of CLIP's authors ({', '.join(NAMES.values())}), so {text!r} "
                "names no weights for it. Give --text FILE with those of the CLIP it came from."
            )
        model, tag = name, text
    try:
        encoder = load_open_clip(model, tag, device="cpu", precision="fp32")
    except EncoderError as error:
        raise ReleasedError(f"--text {text}: {error}") from error
    return dict(encoder.network.state_dict())
