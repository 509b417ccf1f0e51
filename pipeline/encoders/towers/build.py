"""A visual tower of open_clip, and what a `TowerConfig` says is inside."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

from .config import TowerConfig
from .cross_frame import CrossFrameBlock
from .joint import join_frames
from .temporal_prompts import add_prompts
from .token_shift import T1D, TokenBlock, TokenShift, convolve_bottlenecks, shift_bottlenecks, shift_patches

_OF_ANY_WIDTH = ("cross-frame", "joint")


def change_tower(visual: Any, config: TowerConfig, seed: int = 0, *, measure: bool = True) -> None:
    """Put into a visual tower what `config` says, in place.

    seed       of what begins at random
    measure    False: weights are loaded afterwards, and how large they begin does not matter

    Raises ValueError for a tower that cannot take it: all need open_clip's own vision transformer with a class token,
    shifts and prompts one of a width that 4 divides; tsm and token-t1d take a ModifiedResNet too.
    """
    if config.kind == "tsm" and isinstance(visual, ModifiedResNet):
        shift_bottlenecks(visual, config.frames)
        return
    if config.kind == "token-t1d" and isinstance(visual, ModifiedResNet):
        convolve_bottlenecks(visual, config.frames, config.start or "")
        return
    blocks: Any = getattr(getattr(visual, "transformer", None), "resblocks", ())
    native = (
        type(visual) is VisionTransformer
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and all(type(block) is ResidualAttentionBlock for block in blocks)
    )
    if not native:
        raise ValueError(
            f"{config.kind} cannot be put inside a {type(visual).__name__}: it needs open_clip's own vision transformer, "
            "with a class token that is its embedding"
            + (", or its ResNet" if config.kind in ("tsm", "token-t1d") else "")
        )
    width = visual.class_embedding.shape[0]
    if width % 4 and config.kind not in _OF_ANY_WIDTH:
        raise ValueError(f"{config.kind} needs a width that 4 divides, and the tower's is {width}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.kind == "joint":
            join_frames(visual, config.frames)
            return
        if config.prompts is not None:
            add_prompts(visual, config.prompts, config.frames, measure=measure)
            return
        for place, block in enumerate(blocks):
            if config.kind == "tsm":
                shift_patches(block, config.frames)
            elif config.kind == "token-shift":
                blocks[place] = TokenBlock(block, TokenShift(config.frames))
            elif config.kind == "token-t1d":
                blocks[place] = TokenBlock(block, T1D(config.frames, width, config.start or "", 4))
            else:
                blocks[place] = CrossFrameBlock(block, config.frames, config.start or "")


def is_new(name: str) -> bool:
    """Return whether a parameter of a network is one that `change_tower` put there, and no trained tower has."""
    return any(part in name for part in (".temporal.", ".message_", ".time_embedding", ".temporal_prompts."))
