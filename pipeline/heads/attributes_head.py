"""The trained attributes branch of released BIKE: an MLP for the attributes sentence, another for the class sentence."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .head_scorer import check_scores


class AttributesHead(nn.Module):
    """Two MLPs, Linear D-D, ReLU, Linear D-D, on L2-normalized embeddings of the frozen text tower; the cosine of their
    outputs is the score.

    Source: Wu et al. 2023 (BIKE), released code.
    """

    structure: ClassVar[dict[str, Any]] = {}
    """Nothing but its weights is needed to build it again."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.sentence, self.classes = (
            nn.Sequential(nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension))
            for _ in range(2)
        )

    def embed_sentences(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return [N, D], L2-normalized, of embeddings [N, D] of attributes sentences."""
        return F.normalize(self.sentence(F.normalize(embeddings, dim=-1)), dim=-1)

    def embed_classes(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return [C, D], L2-normalized, of embeddings [C, D] of class sentences."""
        return F.normalize(self.classes(F.normalize(embeddings, dim=-1)), dim=-1)

    @torch.inference_mode()
    def apply_to(self, sentences: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both embeddings as arrays: their cosines are the scores. A sentence of NaN, where a video has none,
        stays NaN. Raises NoScores."""
        pair = (
            self.embed_sentences(torch.from_numpy(sentences)).numpy(),
            self.embed_classes(torch.from_numpy(classes)).numpy(),
        )
        check_scores(pair[0][~np.isnan(sentences).any(axis=1)], "of attributes")
        check_scores(pair[1], "of attributes")
        return pair
