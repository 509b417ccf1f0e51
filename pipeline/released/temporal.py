"""The heads of BIKE and Text4Vis: T-Trans, or nothing, over frame embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from ...cache import TextEmbeddings
from ..heads import HeadConfig, VideoHead, temporal_module, word_queries
from .keys import official_block, take
from .read import ReleasedError

_POSITIONS = "frame_position_embeddings.weight"


def temporal_state(
    found: Mapping[str, torch.Tensor], config: HeadConfig, dimension: int, frames: int, where: str
) -> tuple[HeadConfig, dict[str, torch.Tensor]]:
    """Return (config, weights) of the temporal module: `found` under the names of the release, empty without one.

    More positions are stored than frames were trained; those of the first T are taken.
    """
    if not found:
        return replace(config, temporal="mean", heads=None), {}
    if _POSITIONS not in found:
        raise ReleasedError(f"{where}: {_POSITIONS!r} is missing.")
    positions = found[_POSITIONS]
    if positions.ndim != 2 or len(positions) < frames:
        raise ReleasedError(f"{where} has positions for {len(positions)} frames, and clips have {frames}.")
    try:
        with torch.device("meta"):
            module = temporal_module("transformer", dimension, frames, heads=config.heads)
    except ValueError as error:
        raise ReleasedError(f"{where}: {error}.") from error
    state = take(
        {**found, _POSITIONS: positions[:frames]},
        module,
        lambda name: _POSITIONS if name == "positions" else f"transformer.{official_block(name)}",
        where=where,
    )
    return config, state


def head_maker(
    config: HeadConfig, state: Mapping[str, torch.Tensor], dimension: int, frames: int
) -> Callable[[TextEmbeddings], VideoHead]:
    """Return what makes the head over the classes of texts."""

    def make(texts: TextEmbeddings) -> VideoHead:
        own: dict[str, Any] = {f"temporal.{name}": tensor for name, tensor in state.items()}
        own["class_embeddings"] = torch.from_numpy(texts.sentence)
        if config.pool == "vcs":
            own["queries"], own["owners"] = (torch.from_numpy(each) for each in word_queries(texts))
        structure = {**vars(config), "dimension": dimension, "num_frames": frames}
        return VideoHead.from_structure(structure, own)

    return make
