"""Several processes on one training: who they are, and what they tell each other.

`torchrun` starts them; without it there is one, and everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from ..devices import choose_device


@dataclass(frozen=True)
class World:
    """The processes of a training, and which of them this is."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum(self, *values: float) -> list[float]:
        """Return the sums of the values over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def collect(self, value: Any) -> list[Any]:
        """Return the value of every process, in the order of their ranks. Values are pickled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, tensors: list[torch.Tensor]) -> None:
        """Give all processes the tensors of rank 0, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            self.sum(0)


@contextlib.contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started, if it did; leave them at the end.

    device    auto: of each process the GPU of its local rank; cpu takes gloo. Raises DeviceError
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        yield World(rank, size, choose_device(device))
        return
    if device == "auto" and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, chosen)
    finally:
        dist.destroy_process_group()


def gather(x: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes [B_0 + B_1 + ..., ...] of rows x [B, ...], with their whole gradient.

    Each process may have another number of rows. The gradient of a row is the sum of what all processes have for it:
    where each of G computes the same loss of all rows and gradients of parameters are then averaged over processes,
    as DistributedDataParallel does, that is the gradient of the loss. The released code of BIKE and X-CLIP keeps what
    the own process has alone: 1/G of it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    sizes = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=x.device)
    sizes[dist.get_rank()] = len(x)
    dist.all_reduce(sizes)
    return _Gather.apply(x, sizes.tolist())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sizes: list[int]) -> torch.Tensor:  # type: ignore[override]
        ctx.sizes = sizes
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total.split(ctx.sizes)[dist.get_rank()], None
