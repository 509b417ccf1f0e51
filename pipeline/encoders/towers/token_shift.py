"""Shifts over time inside a visual tower: TokenT1D, T1D, TokenShift and TSM.

    TokenShift    class token of every block, twice a block: the first quarter of its channels comes from the next
                  frame, the second from the frame before, the rest stays; zeros beyond the ends
    TokenT1D      the same as a depth-wise convolution over three frames, which is trained from that start
    T1D           ResNet: that convolution where TSM has its shift, in the last two stages, trained from TSM's shift
    TSM           ViT: patch tokens before every block; ResNet: the input of every bottleneck's first convolution (every
                  second one of a stage of 23); an eighth of the channels from the next frame, an eighth from the one before

Tokens are [B T, 1 + P, d], feature maps [B T, C, H, W], clip by clip; clips never mix.
Source: Wu et al. 2023 (Text4Vis), Table 8, and its released code; Lin et al. 2019 (TSM).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock
from torch import nn


def shift(x: torch.Tensor, frames: int, share: int) -> torch.Tensor:
    """Return x [B T, C, ...] with C // share channels from the next frame, as many from the one before, and the rest."""
    clips = x.unflatten(0, (-1, frames))
    fold = clips.shape[2] // share
    following, before, own = clips.split([fold, fold, clips.shape[2] - 2 * fold], dim=2)
    nothing_first, nothing_last = torch.zeros_like(before[:, :1]), torch.zeros_like(following[:, :1])
    following = torch.cat([following[:, 1:], nothing_last], dim=1)
    before = torch.cat([nothing_first, before[:, :-1]], dim=1)
    return torch.cat([following, before, own], dim=2).flatten(0, 1)


class TokenShift(nn.Module):
    """Shifts the class token [B T, d] over time; nothing is trained."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, token: torch.Tensor) -> torch.Tensor:
        return shift(token, self.frames, 4)


class T1D(nn.Module):
    """Convolves x [B T, C, ...] over three frames, each channel by itself, without bias.

    weight    [C, 1, 3]; index 0 multiplies the frame before, 2 the next
    start     shift: as `shift` with this share; fixed: the identity
    """

    def __init__(self, frames: int, width: int, start: str, share: int) -> None:
        super().__init__()
        self.frames = frames
        weight, fold = torch.zeros(width, 1, 3), width // share if start == "shift" else 0
        weight[:fold, 0, 2] = 1
        weight[fold : 2 * fold, 0, 0] = 1
        weight[2 * fold :, 0, 1] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clips = x.unflatten(0, (-1, self.frames)).transpose(1, 2)  # [B, C, T, ...]
        places = clips.reshape(*clips.shape[:3], -1)
        mixed = F.conv2d(places, self.weight[..., None], padding=(1, 0), groups=clips.shape[1])
        return mixed.reshape(clips.shape).transpose(1, 2).flatten(0, 1)


class TokenBlock(ResidualAttentionBlock):
    """A trained block whose residual stream gets another class token, before its attention and before its MLP."""

    def __init__(self, block: ResidualAttentionBlock, temporal: nn.Module) -> None:
        nn.Module.__init__(self)
        for name, child in block.named_children():
            self.add_module(name, child)
        self.temporal = temporal

    def _mix(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.temporal(x[:, 0])[:, None], x[:, 1:]], dim=1)

    def forward(
        self,
        q_x: torch.Tensor,
        k_x: torch.Tensor | None = None,  # noqa: ARG002 - the signature is open_clip's
        v_x: torch.Tensor | None = None,  # noqa: ARG002
        attn_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x = self._mix(q_x)
        x = x + self.ls_1(self.attention(q_x=self.ln_1(x), attn_mask=attn_mask))
        x = self._mix(x)
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def shift_bottlenecks(resnet: ModifiedResNet, frames: int) -> None:
    """Put TSM into a ResNet: no parameter, and no name of one, changes."""

    def shifted(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return shift(inputs[0], frames, 8)

    for bottleneck in _mixing(resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        bottleneck.conv1.register_forward_pre_hook(shifted)


def convolve_bottlenecks(resnet: ModifiedResNet, frames: int, start: str) -> None:
    """Put T1D into the last two stages of a ResNet, where TSM has its shift: as `temporal` of a bottleneck."""
    for bottleneck in _mixing(resnet.layer3, resnet.layer4):
        bottleneck.temporal = T1D(frames, bottleneck.conv1.in_channels, start, 8)
        bottleneck.conv1.register_forward_pre_hook(partial(_convolved, bottleneck.temporal))


def _convolved(temporal: T1D, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return temporal(inputs[0])


def _mixing(*stages: Any) -> list[Any]:
    """Return the bottlenecks before which frames are mixed: every second one of a stage of 23."""
    return [bottleneck for stage in stages for bottleneck in list(stage)[:: 2 if len(stage) >= 23 else 1]]


def shift_patches(block: nn.Module, frames: int) -> None:
    """Shift the patch tokens before a block of a ViT."""

    def shifted(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x = inputs[0]
        patches = shift(x[:, 1:].transpose(1, 2), frames, 8).transpose(1, 2)
        return torch.cat([x[:, :1], patches], dim=1), *inputs[1:]

    block.register_forward_pre_hook(shifted)
