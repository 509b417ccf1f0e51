"""Joint attention over space and time inside a visual tower: one sequence of all patches of a clip.

    x [B T, 1 + P, d]        class token and patches of each frame, with their positions in the frame
    patches + time[t]        a trained embedding of each of the T frames
    [B, 1 + T P, d]          one class token and all patches of the clip, through the blocks of the tower
    [B T, 1 + P, d]          the patches back in their frames, the class token in each of them

Every frame of a clip then has the same embedding: that of the clip.
Source: Ni et al. 2022 (X-CLIP), supplement, "CLIP-Joint"; the attention is that of Arnab et al. 2021 (ViViT).
"""

from __future__ import annotations

import torch
from open_clip.transformer import LayerNorm, Transformer, VisionTransformer
from torch import nn


class JointNorm(LayerNorm):
    """The norm before the first block of a trained tower, which gets frames and gives clips."""

    def __init__(self, norm: LayerNorm, frames: int) -> None:
        width = norm.normalized_shape[0]
        super().__init__(width, eps=norm.eps)
        self.weight, self.bias, self.frames = norm.weight, norm.bias, frames
        self.time_embedding = nn.Parameter(torch.randn(frames, width) * width**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clips = x.unflatten(0, (-1, self.frames))  # [B, T, 1 + P, d]
        patches = clips[:, :, 1:] + self.time_embedding[:, None].to(x.dtype)
        return super().forward(torch.cat([clips[:, 0, :1], patches.flatten(1, 2)], dim=1))


class JointTransformer(Transformer):
    """The blocks of a trained tower, which get clips and give frames."""

    def __init__(self, transformer: Transformer, frames: int) -> None:
        nn.Module.__init__(self)
        self.width, self.layers, self.frames = transformer.width, transformer.layers, frames
        self.batch_first = transformer.batch_first
        self.grad_checkpointing = transformer.grad_checkpointing
        self.resblocks = transformer.resblocks

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        tokens = super().forward(x, attn_mask)
        patches = tokens[:, 1:].unflatten(1, (self.frames, -1))
        return torch.cat([tokens[:, None, :1].expand(-1, self.frames, -1, -1), patches], dim=2).flatten(0, 1)


def join_frames(visual: VisionTransformer, frames: int) -> None:
    """Let all patches of a clip attend to each other, in place. Raises ValueError for a tower that cannot."""
    if not isinstance(visual.ln_pre, LayerNorm):
        raise ValueError("joint needs a norm before the first block, as CLIP's towers have it")
    visual.ln_pre = JointNorm(visual.ln_pre, frames)
    visual.transformer = JointTransformer(visual.transformer, frames)
