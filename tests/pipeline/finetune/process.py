"""One of several processes of `test_distributed`: computes gradients of its share of a batch, which rank 0 keeps.

    python process.py MODEL OUTPUT

with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment, as torchrun sets them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from vidclip.pipeline import load_encoder
from vidclip.pipeline.encoders import is_new
from vidclip.pipeline.finetune import FinetuneModel, World, distributed, find_recipe, join_world
from vidclip.pipeline.finetune.prepare import prepare_encoder
from vidclip.pipeline.heads import ClassTexts, untrained_head

PHRASES = ("juggling", "rowing", "doing yoga")
LABELS = torch.tensor([0, 1, 2, 1, 0])
CASES = {
    "contrastive": ("bike", {"loss": "paper", "temperature": None}),
    "alone": ("bike", {"loss": "paper", "temperature": None, "gather": False}),
    "own slice": ("bike", {"loss": "paper", "temperature": None}),
    "cross-entropy": ("text4vis", {}),
    "prompts": ("temporal-prompts", {"global_prompts": 2}),
}


def gradients(model_name: str, case: str, world: World) -> dict[str, torch.Tensor]:
    """The gradients of the loss of a batch of five clips, in float64, averaged over processes."""
    name, changes = CASES[case]
    recipe = find_recipe(name, frames=3, batch_size=5, precision="fp32", **changes)
    encoder = load_encoder(model_name, device="cpu", precision="fp32")
    prepare_encoder(encoder, recipe)
    texts = ClassTexts(PHRASES, encoder.encode_text(PHRASES, recipe.prompts))
    some = np.random.default_rng(0).standard_normal((4, 1, 3, encoder.dimension)).astype(np.float32)
    head = untrained_head(some, np.zeros(4, np.int64), texts, recipe.head_config)
    model: Any = FinetuneModel(encoder, head, recipe).double().train()
    with torch.no_grad():  # branches that begin at zero would have gradients of zero behind them
        noise = torch.Generator().manual_seed(1)
        begun = [p for n, p in model.named_parameters() if n.startswith("head.") or is_new(n)]
        for parameter in begun:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    module = DistributedDataParallel(model, broadcast_buffers=False) if world.size > 1 else model
    pixels = torch.randint(0, 256, (5, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    own = slice(world.rank, None, world.size)
    loss = module(pixels[own], LABELS[own])
    n_own = len(LABELS[own])
    (loss * (1 if model.gathers else n_own * world.size / 5)).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def keep_own_slice() -> None:
    """The gather of released BIKE and X-CLIP: no sum over processes in its backward."""

    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.split(ctx.sizes)[dist.get_rank()], None

    distributed._Gather.backward = staticmethod(backward)


if __name__ == "__main__":
    with join_world("cpu") as this:
        found = {}
        for each in CASES:
            if each == "own slice":
                kept = distributed._Gather.backward
                keep_own_slice()
            found[each] = gradients(sys.argv[1], each, this)
            if each == "own slice":
                distributed._Gather.backward = kept
        if int(os.environ["RANK"]) == 0:
            torch.save(found, sys.argv[2])
