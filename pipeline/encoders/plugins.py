"""Encoders of other packages, by the entry point group `vidclip.encoders`.

    [project.entry-points."vidclip.encoders"]
    edges = "my_package.encoders:load"          # --model edges, or --model edges:ARGUMENT

`load` is called with a `PluginRequest` and returns an `Encoder`.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...cache.identity import canonical_json
from ..video import Preprocess
from .protocol import Encoder, EncoderError

if TYPE_CHECKING:
    import torch

GROUP = "vidclip.encoders"
_PARTS = (
    "model", "pretrained", "preprocess", "device", "precision", "dimension", "identity", "frames_per_sample",
    "embeddings_per_sample", "warnings", "name", "patch_shape", "encode_frames", "encode_text",
)  # fmt: skip


@dataclass(frozen=True)
class PluginRequest:
    """What an encoder of another package is asked for."""

    model: str
    """As the user named it, `NAME` or `NAME:ARGUMENT`: what `Encoder.model` is to be."""
    argument: str
    """What stands behind the colon; empty where nothing does."""
    device: torch.device
    precision: str
    """fp32, fp16 or bf16."""
    image_size: int | None
    """Side of the square that it is to see; None: its own."""
    frames: int | None
    """Of a clip, where it reads any number; None: its own."""


def plugin_names() -> set[str]:
    """Return the names of the encoders that installed packages offer."""
    return {point.name for point in importlib.metadata.entry_points(group=GROUP)}


def is_plugin(model: str) -> bool:
    """Return whether a model is that of another package."""
    return model.partition(":")[0] in plugin_names()


def load_plugin(request: PluginRequest) -> Encoder:
    """Return the encoder of another package, which is known to have one of this name.

    Raises EncoderError, with the name of the package, for whatever goes wrong in it, and for what is no encoder.
    """
    name = request.model.partition(":")[0]
    points = list(importlib.metadata.entry_points(group=GROUP, name=name))
    packages = sorted({point.dist.name if point.dist else point.value for point in points})
    if len(packages) > 1:
        raise EncoderError(
            f"the packages {' and '.join(packages)} both have an encoder {name!r}: uninstall one of them."
        )
    where = f"the encoder {name!r} of the package {packages[0]}"
    try:
        encoder = points[0].load()(request)
        _check(encoder, request)
        encoder.identity = {**encoder.identity, "plugin": name}
    except EncoderError as error:
        raise EncoderError(f"{where}: {error}") from error
    except Exception as error:  # of a stranger's program
        raise EncoderError(f"{where} failed: {type(error).__name__}: {error}") from error
    return encoder


def _check(encoder: Any, request: PluginRequest) -> None:
    """Raise EncoderError where something is no encoder, by what it lacks."""
    import torch

    missing = [part for part in _PARTS if not hasattr(encoder, part)]
    if missing:
        raise EncoderError(f"it lacks {', '.join(missing)}; see vidclip.pipeline.encoders.Encoder")
    if encoder.model != request.model:
        raise EncoderError(f"its model is {encoder.model!r}, not {request.model!r}, which it was asked by")
    if not isinstance(encoder.preprocess, Preprocess):
        raise EncoderError("its preprocess is no vidclip.pipeline.video.Preprocess")
    try:
        canonical_json(encoder.identity)
        digest, own = encoder.identity["weights_sha256"], encoder.identity["preprocess"]
        tokenizer = encoder.identity["tokenizer"]
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(
            f"its identity must be JSON-able, with weights_sha256, preprocess, tokenizer and dimension ({error!r})"
        ) from error
    if own != encoder.preprocess.to_identity() or encoder.identity.get("dimension") != encoder.dimension:
        raise EncoderError(
            "the preprocess and dimension of its identity are not its own (Preprocess.to_identity)"
        )
    if not isinstance(digest, str) or not (tokenizer is None or isinstance(tokenizer, dict)):
        raise EncoderError(
            "its identity needs weights_sha256, a text, and tokenizer, a table or None for no texts"
        )
    n, given = encoder.frames_per_sample, encoder.embeddings_per_sample
    if not (isinstance(n, int) and isinstance(given, int) and 1 <= given <= n and n % given == 0):
        raise EncoderError(f"{given} embeddings of {n} frames cannot be: the first must divide the second")
    found = encoder.encode_frames(torch.zeros(n, *encoder.preprocess.size, 3, dtype=torch.uint8))
    expected = (given, encoder.dimension)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected or found.dtype != torch.float32:
        raise EncoderError(
            f"encode_frames must give float32 {expected} of {n} frames, and gave {_shape(found)}"
        )


def _shape(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
