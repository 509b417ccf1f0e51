"""A trained linear map from frame embeddings into the space of class embeddings."""

from __future__ import annotations

import torch
from torch import nn


class Projection(nn.Module):
    """x + x A with A zero at the start, so that it changes nothing; from D to another D': x A, A semi-orthogonal."""

    def __init__(self, dimension: int, out: int, seed: int) -> None:
        super().__init__()
        self.residual = out == dimension
        self.matrix = nn.Parameter(torch.zeros(dimension, out))
        if not self.residual:
            nn.init.orthogonal_(self.matrix, generator=torch.Generator().manual_seed(seed))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mapped = x @ self.matrix
        return x + mapped if self.residual else mapped
