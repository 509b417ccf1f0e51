"""What a model costs: parameters, and multiply-adds for one clip in one view. No weights are needed.

Papers write FLOPs and mean multiply-adds. Table 12 of Text4Vis counts convolutions, linear layers and norms alone: its
counter does not see what `nn.MultiheadAttention` computes, neither the projections nor the products, nor its parameters.

    ViT-B/32, 8 frames, T-Trans    all 35.4 G, 106.8 M    as its Table 12 counts 23.7 G, 71.6 M

T frames of a clip, D dimensions, P patches of a frame, d width of the visual tower.
Source: Wu et al. 2023 (Text4Vis), Table 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..encoders import PromptConfig, TowerConfig, load_outline
from ..heads import VideoHead, XClipHead, temporal_module

_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.LayerNorm, nn.BatchNorm2d)
_OWN_ATTENTION = ("attention_in", "attention_out")
"""Linear layers of the heads' own blocks that an `nn.MultiheadAttention` would hold."""


@dataclass(frozen=True)
class ModelCost:
    """Visual tower and head; the text tower is not run for a video."""

    model: str
    frames: int
    tower: str
    """What is inside the visual tower, or none."""
    head: str
    """The head's temporal module, or its kind."""
    encoder_parameters: int
    head_parameters: int
    encoder_multiply_adds: int
    """Of a clip: T frames of one view."""
    head_multiply_adds: int
    table12_parameters: int
    """Of tower and head, as Table 12 of Text4Vis counts."""
    table12_multiply_adds: int

    @property
    def parameters(self) -> int:
        """Of tower and head."""
        return self.encoder_parameters + self.head_parameters

    @property
    def multiply_adds(self) -> int:
        """Of tower and head, for a clip."""
        return self.encoder_multiply_adds + self.head_multiply_adds


def model_cost(
    model: str,
    *,
    frames: int = 8,
    image_size: int | None = None,
    tower: str = "none",
    prompts: PromptConfig | None = None,
    head: VideoHead | XClipHead | None = None,
    temporal: str = "mean",
) -> ModelCost:
    """Return what a clip of T frames costs.

    model       as in `load_open_clip`
    image_size  side of the square that the model sees; None: its own
    tower       what is put inside the visual tower, one of TOWERS; none: what a model folder has inside
    prompts     of temporal-prompts; None: as the paper has them
    head        a trained one, with the products with its classes; None: `temporal` and nothing else
    temporal    one of TEMPORAL, untrained

    Raises EncoderError for a model that cannot be built; ValueError where the tower cannot take what is put inside, for
    another number of frames than that of a trained tower or head, and for a head over other dimensions.
    """
    inside = TowerConfig(tower, frames, prompts=prompts) if tower != "none" else None
    visual = load_outline(model, image_size=image_size, tower=inside)
    size = visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    of_tower, embedded = _count(visual, torch.zeros(frames, 3, height, width, device="meta"))
    embedded = embedded[0] if isinstance(embedded, tuple) else embedded
    module, inputs = _head(visual, int(embedded.shape[-1]), frames, head, temporal)
    of_head, _ = _count(module, *inputs)
    return ModelCost(
        model,
        frames,
        tower,
        temporal if head is None else head.config.name if isinstance(head, VideoHead) else "x-clip",
        of_tower.parameters,
        of_head.parameters,
        of_tower.multiply_adds,
        of_head.multiply_adds,
        of_tower.table12_parameters + of_head.table12_parameters,
        of_tower.table12_multiply_adds + of_head.table12_multiply_adds,
    )


def _head(
    visual: Any, dimension: int, frames: int, head: VideoHead | XClipHead | None, temporal: str
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return what stands behind the tower, and its inputs for one clip: on the meta device without weights, on the CPU
    with them."""
    if head is None:
        with torch.device("meta"):
            module = temporal_module(temporal, dimension, frames)
            return module.eval(), (torch.zeros(1, frames, dimension),)
    if head.dimension != dimension:
        raise ValueError(
            f"the head reads embeddings of {head.dimension} dimensions, and the encoder gives {dimension}: it belongs "
            "to another encoder"
        )
    inputs = (torch.ones(1, frames, dimension),)
    if isinstance(head, XClipHead):
        n_tokens, patch_width = visual.positional_embedding.shape
        inputs = (*inputs, torch.ones(1, n_tokens - 1, patch_width))
    return head.cpu().eval(), inputs


@dataclass
class _Count:
    parameters: int
    multiply_adds: int = 0
    table12_parameters: int = 0
    table12_multiply_adds: int = 0


def _count(module: nn.Module, *inputs: torch.Tensor) -> tuple[_Count, Any]:
    """Return what a module costs on its inputs, and its output."""
    counted, counter = _Count(_numbers(module)), FlopCounterMode(display=False)

    def add(layer: Any, _inputs: object, output: torch.Tensor) -> None:
        counted.table12_multiply_adds += output.numel() * layer.weight[0].numel()

    hooks = []
    for layer in _outside_attention(module):
        if isinstance(layer, (*_COUNTED, *_NORMS)):
            counted.table12_parameters += _numbers(layer)
        if isinstance(layer, _COUNTED):
            hooks.append(layer.register_forward_hook(add))
    # Attention is written out: not every fused kernel is known to the counter.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        output = module(*inputs)
    for hook in hooks:
        hook.remove()
    counted.multiply_adds = counter.get_total_flops() // 2
    return counted, output


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _outside_attention(module: nn.Module) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        if not isinstance(child, nn.MultiheadAttention) and name not in _OWN_ATTENTION:
            yield child
            yield from _outside_attention(child)
