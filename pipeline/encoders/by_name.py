"""Encoders by name, whoever makes them: open_clip, transformers, other packages."""

from __future__ import annotations

import open_clip

from ..choices import PRECISIONS, check_choice
from ..devices import DeviceError, choose_device
from .files import HUGGING_FACE, PACKAGED, brings_its_weights
from .load import automatic_precision, has_own_files, load_open_clip
from .plugins import PluginRequest, is_plugin, load_plugin
from .protocol import Encoder, EncoderError


def load_encoder(
    model: str,
    pretrained: str = "",
    *,
    device: str = "auto",
    precision: str = "auto",
    image_size: int | None = None,
    frames: int | None = None,
) -> Encoder:
    """Load an encoder with its weights; weights that are code are never run.

    model         a name open_clip knows (`ViT-B-16`), `local-dir:FOLDER`, `hf-hub:OWNER/NAME`, `demo` or
                  `demo-vit`, which come with the package; `hf:FOLDER` or `hf:OWNER/NAME`, models of transformers;
                  `NAME` or `NAME:ARGUMENT` of another package
    pretrained    for open_clip's models, see `load_open_clip`
    precision     fp32, fp16, bf16: what both towers compute in; auto: see `automatic_precision`
    image_size    side of the square the model sees; default: its own
    frames        of a clip, for clip encoders that read any number; default: their own. Without effect on others

    Raises EncoderError for unknown names, weights that cannot be fetched, read, or do not fit.
    """
    if _is_of_open_clip(model):
        return load_open_clip(model, pretrained, device=device, precision=precision, image_size=image_size)
    if pretrained and brings_its_weights(model):
        raise EncoderError(f"--model {model} brings its weights; leave --pretrained {pretrained} out.")
    if model.partition(":")[0] == HUGGING_FACE:
        from .transformers_encoder import load_transformers

        return load_transformers(
            model, device=device, precision=precision, image_size=image_size, frames=frames
        )
    if not is_plugin(model):  # which says what there is
        return load_open_clip(model, pretrained, device=device, precision=precision, image_size=image_size)
    check_choice("precision", precision, PRECISIONS)
    try:
        chosen = choose_device(device)
    except DeviceError as error:
        raise EncoderError(str(error)) from error
    precision = automatic_precision(chosen) if precision == "auto" else precision
    argument = model.partition(":")[2]
    return load_plugin(PluginRequest(model, argument, chosen, precision, image_size, frames))


def brings_own_files(model: str, pretrained: str) -> bool:
    """Return whether a model is read from a folder, a file or a hub page, or made by another package, and not by a name
    that open_clip knows."""
    if model.partition(":")[0] == HUGGING_FACE or has_own_files(model, pretrained):
        return True
    return not _is_of_open_clip(model) and is_plugin(model)


def _is_of_open_clip(model: str) -> bool:
    known = model in PACKAGED or model.replace("/", "-") in open_clip.list_models()
    return known or model.partition(":")[0] in ("local-dir", "hf-hub")
