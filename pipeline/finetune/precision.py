"""Which precision the towers compute in while they are trained, and how; their weights are in fp32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .recipe import Recipe

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_MATH_ATTENTION_TOKENS = 192
"""Below so many tokens, the backward pass of torch's fused attention on a CPU in bf16 takes longer than all of that
which is written out: a whole block 1.1 to 2 times as long with 26 to 170 tokens, as long with 197, in fp32 with any."""


@contextlib.contextmanager
def arithmetic(recipe: Recipe, device: torch.device, n_tokens: int) -> Iterator[None]:
    """Compute a tower on sequences of n_tokens in the precision of the recipe, with the faster kind of attention."""
    slow = device.type == "cpu" and recipe.precision == "bf16" and n_tokens < _MATH_ATTENTION_TOKENS
    # A checkpointed block is computed again in the backward pass, where this choice no longer holds.
    written_out = slow and torch.is_grad_enabled() and not recipe.checkpointing
    with (
        torch.autocast(device.type, _DTYPES[recipe.precision], enabled=recipe.precision != "fp32"),
        sdpa_kernel(SDPBackend.MATH) if written_out else contextlib.nullcontext(),
    ):
        yield


def longest_sequence(visual: Any) -> int:
    """Return how many tokens a visual tower attends to at once, by its positional embeddings and its prompts; many where
    it has no positions."""
    names = ("positional_embedding", "pos_embed")
    shapes = dict(visual.named_parameters())
    lengths = (p.shape[-2] for name, p in shapes.items() if name.endswith(names))
    frames = next((len(p) for name, p in shapes.items() if name.endswith("time_embedding")), 1)
    prompts = getattr(getattr(visual, "temporal_prompts", None), "per_frame", 0)
    return frames * max(lengths, default=_MATH_ATTENTION_TOKENS) + prompts


def training_precision(precision: str, device: torch.device) -> str:
    """Return what `auto` means on a device: fp32 on a CPU, bf16 on a GPU that has it, else fp16."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
