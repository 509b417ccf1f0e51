"""Temporal prompts inside a frozen visual tower: in every layer, frames attend to trained tokens beside their own.

    x  = z[:, :, 0]                       [B, T, W]      class tokens before the layer
    y  = x Pcls + b                       [B, T, W]
    C  = MHSA(LN(y)) + y                  [B, T, 1, W]   a summary of the clip, for each frame its own
    G  = g                                [B, T, S, W]   the same for all frames and clips
    I  = i[s] + y[s], s = 1..T            [B, T, T, W]   a message of each frame, for all frames
    P' = beta([C, G, I])                                 see `reparameterization`
    z  = z + attention(queries LN(z), keys and values LN([z, P']))
    z  = z + MLP(LN(z))

LN, attention and MLP of the last two lines are those of the trained tower, under their names. The paper attends with the
prompts too, and drops what comes of them: nobody reads it. In the first layer all class tokens are the same constant.
Prompts have no positions. Without I, the temporal embedding and a beta over frames, permuting the frames of a clip
permutes their embeddings, and does nothing else.

Tokens z are [B T, n, W], clip by clip; clips never mix. S vectors g, T frames.
Source: Adapting CLIP for Action Recognition via Dual Semantic Supervision and Temporal Prompt Reparameterization
(Electronics 2024, 13, 3348), equations 8 to 14; Wasim et al. 2023 (Vita-CLIP), whose released code says what it leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn

from .config import PromptConfig
from .reparameterization import Reparameterization

GATE_START = -4.0
_SEED_OF_IMAGE = 0


class LayerPrompts(nn.Module):
    """The prompts [B, T, P, W] of one layer, before beta.

    heads    of the tower's blocks, which the summary's attention has too
    bound    g and i are uniform between -bound and bound
    """

    def __init__(self, config: PromptConfig, frames: int, width: int, heads: int, bound: float) -> None:
        super().__init__()
        self.parts = config.parts
        if "C" in self.parts or "I" in self.parts:
            self.projection = nn.Linear(width, width)
            nn.init.eye_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)
        if "C" in self.parts:
            self.summary_norm = nn.LayerNorm(width)
            self.summary_attention = nn.MultiheadAttention(width, heads, batch_first=True)
            nn.init.xavier_uniform_(self.summary_attention.out_proj.weight)
        if "G" in self.parts:
            shape = (frames,) * config.global_per_frame + (config.global_prompts, width)
            self.global_prompts = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        if "I" in self.parts:
            self.local_prompts = nn.Parameter(torch.empty(frames, width).uniform_(-bound, bound))
        if config.gate:
            self.gate = nn.Parameter(torch.full((heads,), GATE_START))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x    [B, T, W] class tokens"""
        n_clips, frames, width = x.shape
        y = self.projection(x) if hasattr(self, "projection") else x
        prompts = []
        if "C" in self.parts:
            normed = self.summary_norm(y)
            summary = self.summary_attention(normed, normed, normed, need_weights=False)[0] + y
            prompts.append(summary[:, :, None])
        if "G" in self.parts:
            prompts.append(self.global_prompts.expand(n_clips, frames, -1, width))
        if "I" in self.parts:
            messages = self.local_prompts + y  # of frame s, at s
            prompts.append(messages[:, None].expand(-1, frames, -1, -1))
        return torch.cat(prompts, dim=2)

    def mask(self, n_images: int, n_tokens: int, n_prompts: int) -> torch.Tensor | None:
        """Return what is added to the attention logits, [images x heads, tokens, tokens + prompts]; None without a gate."""
        if not hasattr(self, "gate"):
            return None
        of_prompts = self.gate[:, None].expand(-1, n_prompts)
        row = torch.cat([of_prompts.new_zeros(len(self.gate), n_tokens), of_prompts], dim=1)
        return row[None, :, None].expand(n_images, -1, n_tokens, -1).flatten(0, 1)


class TemporalPrompts(nn.Module):
    """All that is trained: the prompts of the layers that have some, their beta, and the temporal embedding.

    bounds    of each of these layers, see `LayerPrompts`
    """

    def __init__(
        self, config: PromptConfig, frames: int, width: int, heads: int, bounds: Sequence[float]
    ) -> None:
        super().__init__()
        self.frames, self.per_frame = frames, config.per_frame(frames)
        self.layers = nn.ModuleList(LayerPrompts(config, frames, width, heads, bound) for bound in bounds)
        n_betas = 0 if config.reparameterization == "none" else 1 if config.shared else len(bounds)
        self.reparameterizations = nn.ModuleList(
            Reparameterization(config.reparameterization, width, config.residual) for _ in range(n_betas)
        )
        if config.temporal_embedding:
            self.temporal_embedding = nn.Parameter(torch.zeros(frames, width))

    def of_layer(self, number: int, tokens: torch.Tensor) -> torch.Tensor:
        """Return the prompts P' [B T, P, W] of the layer of a number, for its input tokens [B T, n, W]."""
        prompts = self.layers[number](tokens[:, 0].unflatten(0, (-1, self.frames)))
        if self.reparameterizations:
            prompts = self.reparameterizations[min(number, len(self.reparameterizations) - 1)](prompts)
        return prompts.flatten(0, 1).to(tokens.dtype)

    def add_time(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens [B T, n, W], to those of frame t of which its temporal embedding is added."""
        clips = tokens.unflatten(0, (-1, self.frames))
        return (clips + self.temporal_embedding[:, None].to(tokens.dtype)).flatten(0, 1)


class PromptedBlock(ResidualAttentionBlock):
    """A trained block whose tokens attend to prompts too. The prompts are a part of the tower, not of the block."""

    def __init__(self, block: ResidualAttentionBlock, prompts: TemporalPrompts, number: int) -> None:
        nn.Module.__init__(self)
        for name, child in block.named_children():
            self.add_module(name, child)
        self._prompts, self._number = (prompts,), number  # in a tuple, so that its parameters keep one name

    def forward(
        self,
        q_x: torch.Tensor,
        k_x: torch.Tensor | None = None,  # noqa: ARG002 - the signature is open_clip's
        v_x: torch.Tensor | None = None,  # noqa: ARG002
        attn_mask: torch.Tensor | None = None,  # noqa: ARG002 - visual towers have none
    ) -> torch.Tensor:
        prompts = self._prompts[0].of_layer(self._number, q_x)
        layer: Any = self._prompts[0].layers[self._number]
        tokens = self.ln_1(q_x)
        keys = torch.cat([tokens, self.ln_1(prompts)], dim=1)
        mask = layer.mask(*tokens.shape[:2], prompts.shape[1])
        x = q_x + self.ls_1(self.attention(q_x=tokens, k_x=keys, v_x=keys, attn_mask=mask))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def add_prompts(
    visual: VisionTransformer, config: PromptConfig, frames: int, *, measure: bool = True
) -> None:
    """Put prompts into a visual tower, in place, as its `temporal_prompts`; what it has keeps its names and values.

    measure    False: the prompts get other values, so that it does not matter how large they begin

    Raises ValueError for fewer layers than are to have prompts.
    """
    blocks: Any = visual.transformer.resblocks
    places = config.places(len(blocks))
    width, heads = blocks[0].attn.embed_dim, blocks[0].attn.num_heads
    if config.init == "vita" or not measure or visual.class_embedding.is_meta:
        bounds = [(6 / (visual.conv1.weight[0].numel() + width)) ** 0.5] * len(places)
    else:
        # A uniform variable has its bound over the root of 3 as its root mean square.
        bounds = [3**0.5 * float(config.init) * token_rms(visual)[place] for place in places]
    prompts = TemporalPrompts(config, frames, width, heads, bounds)
    for number, place in enumerate(places):
        blocks[place] = PromptedBlock(blocks[place], prompts, number)
    visual.temporal_prompts = prompts
    if config.temporal_embedding:
        visual.transformer.register_forward_pre_hook(partial(_timed, prompts))


def _timed(prompts: TemporalPrompts, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return prompts.add_time(inputs[0]), *inputs[1:]


@torch.no_grad()
def token_rms(visual: VisionTransformer) -> list[float]:
    """Return the root mean square of the tokens before each layer, to three digits: of one image of normal noise, which
    has the mean and the variance that normalized frames have, always the same one."""
    found: list[float] = []

    def note(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(float(f"{inputs[0].float().square().mean().sqrt():.3g}"))

    size: Any = visual.image_size
    shape = size if isinstance(size, tuple) else (size, size)
    image = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(_SEED_OF_IMAGE))
    blocks: Any = visual.transformer.resblocks
    hooks = [block.register_forward_pre_hook(note) for block in blocks]
    visual(image.to(visual.class_embedding))
    for hook in hooks:
        hook.remove()
    return found
