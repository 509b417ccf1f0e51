"""The reparameterization encoder beta: prompts of a layer pass a bottleneck before a frozen tower reads them.

    h = down(LN(P))         [B, T, P, d], d = W / 2
    h = core(h)             mixes, or not, over the P prompts of a frame and the T frames
    P' = up(h) + P          or up(h) alone, without the residual

    mlp            GELU
    lstm           bidirectional, d / 2 a direction, over the prompts of a frame
    transformer    two pre-norm layers, d / 64 heads, over all T P prompts of a clip
    r2plus1d       convolution (1, 3) over prompts, GELU, convolution (3, 1) over frames, GELU
    c3d            convolution (3, 3) over frames and prompts, GELU
    tada           convolution (1, 3) over prompts, whose input channels each frame scales by its own factors, GELU

The grid of frames x prompts x 1 is the choice by which the parameters are as many as the paper's Table 6 says.
Source: Adapting CLIP for Action Recognition via Dual Semantic Supervision and Temporal Prompt Reparameterization
(Electronics 2024, 13, 3348), equation 12 and 4.2.4; Huang et al. 2022 (TAdaConv), equations 4 to 6.
"""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn


class Reparameterization(nn.Module):
    """beta on prompts [B, T, P, W].

    core        one of REPARAMETERIZATIONS but none
    residual    with it `up` begins at zero: the prompts begin as they are
    """

    def __init__(self, core: str, width: int, residual: bool) -> None:
        super().__init__()
        bottleneck = width // 2
        self.residual = residual
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, bottleneck)
        self.core = _CORES[core](bottleneck)
        self.up = nn.Linear(bottleneck, width)
        if residual:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, prompts: torch.Tensor) -> torch.Tensor:
        changed = self.up(self.core(self.down(self.norm(prompts))))
        return changed + prompts if self.residual else changed


class _MLP(nn.Module):
    def __init__(self, width: int) -> None:  # noqa: ARG002 - as all cores
        super().__init__()
        self.gelu = nn.GELU()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.gelu(h)


class _LSTM(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, bidirectional=True, batch_first=True)

    def train(self, mode: bool = True) -> _LSTM:  # noqa: ARG002
        """Stay in training mode, which changes nothing here: cuDNN has no gradients in the other one."""
        return super().train(True)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.lstm(h.flatten(0, 1))[0].unflatten(0, h.shape[:2])


class _Transformer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        heads = next(n for n in range(max(1, width // 64), 0, -1) if width % n == 0)
        self.blocks = nn.Sequential(*(ResidualAttentionBlock(width, heads, mlp_ratio=2.0) for _ in range(2)))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.blocks(h.flatten(1, 2)).unflatten(1, h.shape[1:3])


class _Grid(nn.Module):
    """Layers over the grid [B, d, T, P]."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.layers(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _over_prompts(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, (1, 3), padding=(0, 1))


def _r2plus1d(width: int) -> nn.Module:
    over_frames = nn.Conv2d(width, width, (3, 1), padding=(1, 0))
    return _Grid(_over_prompts(width), nn.GELU(), over_frames, nn.GELU())


def _c3d(width: int) -> nn.Module:
    return _Grid(nn.Conv2d(width, width, 3, padding=1), nn.GELU())


class _TAda(nn.Module):
    """Frame t scales the input channels of the convolution by a_t = 1 + b(relu(a(v + g(mean v)))), v the mean of its
    prompts; TAdaConv's batch norm is left out. b begins at zero: a plain convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.gelu = _over_prompts(width), nn.GELU()
        self.g = nn.Linear(width, width)
        self.a = nn.Conv1d(width, width // 4, 3, padding=1)
        self.b = nn.Conv1d(width // 4, width, 3, padding=1)
        nn.init.zeros_(self.b.weight)
        if self.b.bias is not None:
            nn.init.zeros_(self.b.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        frames = h.mean(dim=2)  # [B, T, d]
        frames = (frames + self.g(frames.mean(dim=1, keepdim=True))).transpose(1, 2)
        factors = 1 + self.b(torch.relu(self.a(frames)))  # [B, d, T]
        return self.gelu(self.conv(h.permute(0, 3, 1, 2) * factors[..., None])).permute(0, 2, 3, 1)


_CORES = {
    "mlp": _MLP,
    "lstm": _LSTM,
    "transformer": _Transformer,
    "r2plus1d": _r2plus1d,
    "c3d": _c3d,
    "tada": _TAda,
}
