"""Modules that mix the frames of a video over time before they are pooled.

    mean           x                                      Text4Vis TAP: nothing is mixed
    conv           x + conv(x)                            Text4Vis T1D: every channel by itself, three frames wide
    transformer    blocks(x + positions) + x              Text4Vis T-Trans: 6 blocks, heads of 64 dimensions
    mit            blocks(x + positions) + x              X-CLIP's integration transformer: 1 block, 8 or 12 heads

All map [B, T, D] to [B, T, D]. Frame embeddings go in as the encoder gave them, not L2-normalized; what comes out is
pooled by its mean over time or by concept spotting. Untrained, the mean over frames keeps its direction exactly, so
training starts from the scores of the pre-trained encoder. `transformer` and `mit` can also begin as released
(`start`), with every weight at random: scores are then others before the first step.

B videos, T frames, D dimensions.
Source: Wu et al. 2023 (Text4Vis), Table 8; Ni et al. 2022 (X-CLIP), equation 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..choices import TEMPORAL, TEMPORAL_STARTS, check_choice

_RELEASED_STD = 0.02


def temporal_module(
    kind: str,
    dimension: int,
    num_frames: int,
    *,
    heads: int | None = None,
    position_std: float = 0.01,
    start: str = "quiet",
    seed: int = 0,
) -> nn.Module:
    """Return an untrained module [B, T, D] -> [B, T, D] of raw frame embeddings, on the CPU.

    kind          one of TEMPORAL
    dimension     D
    num_frames    T; `mean` and `conv` take any other number too
    heads         attention heads. `transformer`: D // 64, at least 1. `mit`: 8; 12 from 768 dimensions on, where 12
                  divides them
    position_std  standard deviation of the initial positions, in the unit of the frame embeddings; 0.01 as in CLIP's
                  own text tower
    start         of `transformer` and `mit`, one of TEMPORAL_STARTS. quiet: what each block adds to its input is
                  zero. released: see `_as_released`; `position_std` has no part in it
    seed          of the initial weights: the same seed gives the same module

    Raises ValueError for an unknown kind or start, and for dimensions that the heads do not divide.
    """
    check_choice("the temporal module", kind, TEMPORAL)
    check_choice("the start of the temporal module", start, TEMPORAL_STARTS)
    if kind == "mean":
        return nn.Identity()
    if kind == "conv":
        return TemporalConvolution(dimension)
    if kind == "transformer":
        layers, default = 6, max(1, dimension // 64)
    else:
        layers, default = 1, 12 if dimension >= 768 and dimension % 12 == 0 else 8
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TemporalTransformer(dimension, num_frames, layers, heads or default, position_std)
        return module if start == "quiet" else _as_released(module)


@torch.no_grad()
def _as_released(module: TemporalTransformer) -> TemporalTransformer:
    """Draw all weights anew as the released code does: positions and linear maps from N(0, 0.02), the maps to queries,
    keys and values uniformly by Xavier, biases 0. X-CLIP's normal is truncated at 100 standard deviations.

    Sources: github.com/whwu95/BIKE and Text4Vis (modules/video_clip.py), github.com/microsoft/VideoX, X-CLIP (models/mit.py).
    """
    nn.init.normal_(module.positions, std=_RELEASED_STD)
    for name, each in module.named_modules():
        if isinstance(each, nn.Linear) and name.endswith("attention_in"):
            nn.init.xavier_uniform_(each.weight)
        elif isinstance(each, nn.Linear):
            nn.init.normal_(each.weight, std=_RELEASED_STD)
    return module  # biases are 0 already, norms 1 and 0


class TemporalConvolution(nn.Module):
    """Text4Vis T1D on frame embeddings: x + conv(x), each channel by itself over three frames, zeros beyond the
    ends. It starts at zero, so it changes nothing until trained.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dimension))
        """[3, D] weights of the frame before, the frame itself, and the frame after."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Mix [B, T, D] -> [B, T, D]. Raises ValueError for another D."""
        _check_frames(frames, self.weight.shape[1])
        before, own, after = self.weight
        padded = F.pad(frames, (0, 0, 1, 1))
        # Three shifted products: a grouped nn.Conv1d wants time last, and is no faster.
        return torch.addcmul(frames * (1 + own), padded[:, :-2], before).addcmul(padded[:, 2:], after)


class TemporalTransformer(nn.Module):
    """blocks(x + positions) + x, without a final norm: Text4Vis T-Trans and X-CLIP's integration transformer.

    Blocks are pre-norm, with QuickGELU. What each adds to its input starts at zero, and the positions sum to
    zero over time, so the untrained mean over frames is 2 mean(x): the same cosines.
    """

    def __init__(self, dimension: int, num_frames: int, layers: int, heads: int, position_std: float) -> None:
        super().__init__()
        if dimension % heads:
            raise ValueError(
                f"{dimension} dimensions cannot be shared among {heads} heads; give a number of heads that divides them"
            )
        positions = torch.randn(num_frames, dimension) * position_std
        self.positions = nn.Parameter(positions - positions.mean(dim=0))
        self.blocks = nn.ModuleList(_Block(dimension, heads) for _ in range(layers))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Mix [B, T, D] -> [B, T, D]. Raises ValueError for another T or D than it was made for."""
        trained, dimension = self.positions.shape
        _check_frames(frames, dimension)
        if frames.shape[1] != trained:
            raise ValueError(
                f"this temporal module was made for {trained} frames a video, these have {frames.shape[1]}. Use "
                f"features of {trained} frames, or train it on these."
            )
        mixed = frames + self.positions
        for block in self.blocks:
            mixed = block(mixed)
        return mixed + frames


class _Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)). Weights start as CLIP's do, but for what each branch ends in."""

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dimension)
        self.attention_in = nn.Linear(dimension, 3 * dimension)  # queries, keys and values
        self.attention_out = nn.Linear(dimension, dimension)
        self.mlp_norm = nn.LayerNorm(dimension)
        self.mlp_in = nn.Linear(dimension, 4 * dimension)
        self.mlp_out = nn.Linear(4 * dimension, dimension)
        nn.init.normal_(self.attention_in.weight, std=dimension**-0.5)
        nn.init.normal_(self.mlp_in.weight, std=(2 * dimension) ** -0.5)
        nn.init.zeros_(self.attention_out.weight)
        nn.init.zeros_(self.mlp_out.weight)
        for linear in (self.attention_in, self.attention_out, self.mlp_in, self.mlp_out):
            nn.init.zeros_(linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        videos, times, dimension = x.shape
        together = self.attention_in(self.attention_norm(x))
        # [3, B, heads, T, D / heads]
        query, key, value = together.view(videos, times, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.attention_out(attended.transpose(1, 2).reshape(videos, times, dimension))
        return x + self.mlp_out(F.silu(1.702 * self.mlp_in(self.mlp_norm(x))) / 1.702)  # QuickGELU


def _check_frames(frames: torch.Tensor, dimension: int) -> None:
    if frames.ndim != 3 or frames.shape[1] < 1:
        raise ValueError(f"frames must be [B, T, D] with T at least 1, got shape {tuple(frames.shape)}")
    if frames.shape[2] != dimension:
        raise ValueError(
            f"the frames have {frames.shape[2]} dimensions, but {dimension} were expected: another encoder made them"
        )
