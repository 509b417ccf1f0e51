"""A second language of the class names: dual semantic supervision on top of one video embedding.

    L = L(first) + second_loss_weight L(second)             the losses of the scores in each language, added
    S = weight S_first + (1 - weight) S_second              cosines, or their softmaxes at the temperature

Both scores are of one video embedding. With concept spotting, the words of the first language are the queries of the
saliency softmax for both, or each language has its own. Where the second text tower has another dimension than the frames,
or another space, a linear map into it is trained.

B videos, T frames, C classes, D dimensions of the frames, D' of the second text tower, Q words.
Source: "Adapting CLIP for Action Recognition via Dual Semantic Supervision and Temporal Prompt Reparameterization" 2024,
equations 15 to 18.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...cache import TextEmbeddings
from ..scoring import TEMPERATURE, agreement, check_owners, spotting_scores
from .projection import Projection

FOREIGN_AGREEMENT = 0.2
"""Below this `scoring.agreement` of two text towers, at ten classes or more, their spaces are held to be foreign."""
FUSION_WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))
"""Among which a weight is chosen on validation videos."""


@dataclass(frozen=True)
class SecondLanguage:
    """What a second text tower, or a control in its place, says of the C classes."""

    name: str
    """In tables."""
    texts: TextEmbeddings
    """[C, D'] sentences, and words where they are the queries of concept spotting."""
    own_words: bool = False
    """Whether its own words are the queries for its score, instead of those of the first language."""
    projects: bool = False
    """Whether frames need a trained map into its space."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Tower, lexicon and prompts, for the settings of results and heads."""

    def hybrid(self, first: TextEmbeddings) -> TextEmbeddings:
        """Return its texts with the words that are the queries for its score."""
        if self.own_words or first.word_mode == "none":
            return self.texts
        return replace(self.texts, words=first.words, offsets=first.offsets, word_mode=first.word_mode)


def is_foreign(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether sentences [C, D'] are of another space than those [C, D] of the same classes: of another dimension,
    or nearest to each other no more often than by chance."""
    if first.shape[1] != second.shape[1]:
        return True
    return len(first) >= 10 and agreement(first, second) < FOREIGN_AGREEMENT


class SecondBranch(nn.Module):
    """The score of a video embedding in a second language. Nothing of it is trained but the map into its space.

    class_embeddings    [C, D']
    dimension           D of the frames; a map to D' is trained where `projects` says so
    words               (queries [Q, D'], owners [Q]) of its own, or None
    """

    class_embeddings: torch.Tensor

    def __init__(
        self,
        class_embeddings: np.ndarray,
        dimension: int,
        *,
        projects: bool,
        words: tuple[np.ndarray, np.ndarray] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("class_embeddings", torch.from_numpy(np.array(class_embeddings, np.float32)))
        out = self.class_embeddings.shape[1]
        if out != dimension and not projects:
            raise ValueError(
                f"the second text tower has {out} dimensions, the frames {dimension}: a map has to be trained"
            )
        self.projection = Projection(dimension, out, seed) if projects else None
        self.has_words = words is not None
        if words is not None:
            self.register_buffer("queries", torch.from_numpy(np.array(words[0], np.float32)))
            self.register_buffer("owners", torch.from_numpy(np.array(words[1], np.int64)))

    def mean_scores(self, video: torch.Tensor) -> torch.Tensor:
        """Return cosines [B, C] of video embeddings [B, D]."""
        return F.normalize(self._mapped(video), dim=-1) @ F.normalize(self.class_embeddings, dim=-1).T

    def spotting_scores(
        self, sequence: torch.Tensor, queries: torch.Tensor, owners: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        """Return the scores [B, C] of concept spotting over frames [B, T, D].

        queries, owners    the words of the first language, which weigh the frames where this one has none of its own
        """
        if self.has_words:
            own = self.get_buffer("queries"), self.get_buffer("owners")
            return spotting_scores(self._mapped(sequence), *own, self.class_embeddings, **options)
        pooled = None if self.projection is None else self._mapped(F.normalize(sequence, dim=-1))
        return spotting_scores(sequence, queries, owners, self.class_embeddings, pooled=pooled, **options)

    def _mapped(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.projection is None else self.projection(x)

    def select(self, classes: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the state of the same branch over some of its classes, in this order."""
        state = dict(self.state_dict())
        state["class_embeddings"] = state["class_embeddings"][list(classes)]
        if self.has_words:
            state |= select_words(state["queries"], state["owners"], classes)
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], dimension: int) -> SecondBranch:
        """Return the branch with the shapes of `state`, to be loaded from it. Raises KeyError or ValueError."""
        words = None
        if "queries" in state:
            words = state["queries"].numpy(), state["owners"].numpy()
            check_owners(state["owners"], len(state["class_embeddings"]))
        return cls(
            state["class_embeddings"].numpy(), dimension, projects="projection.matrix" in state, words=words
        )


def select_words(
    queries: torch.Tensor, owners: torch.Tensor, classes: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Return the queries [Q, D] and owners [Q] of some classes, in their order."""
    own = [torch.nonzero(owners == c).flatten() for c in classes]
    places = [torch.full_like(each, i) for i, each in enumerate(own)]
    return {"queries": queries[torch.cat(own)], "owners": torch.cat(places)}


def fuse_scores(first: torch.Tensor, second: torch.Tensor, weight: float, form: str) -> torch.Tensor:
    """Return the fused scores [B, C] of two languages.

    form    scores: the weighted cosines; probabilities: TEMPERATURE times the logarithm of the weighted softmaxes over
            the C classes, so that their softmax at that temperature is the fused probability
    """
    if form == "scores":
        return weight * first + (1 - weight) * second
    weighed = [
        torch.log_softmax(scores / TEMPERATURE, dim=-1) + (math.log(share) if share else -math.inf)
        for scores, share in ((first, weight), (second, 1 - weight))
    ]
    return TEMPERATURE * torch.logsumexp(torch.stack(weighed), dim=0)


def choose_weight(first: np.ndarray, second: np.ndarray, labels: np.ndarray, form: str) -> float:
    """Return the weight of the first language that recognizes most validation videos; of several, that nearest to 0.5.

    first, second    scores [n, C] in each language
    labels           [n]

    Raises ValueError without videos.
    """
    if not len(labels):
        raise ValueError("a weight is chosen on validation videos, and there are none")
    hits = {}
    for weight in FUSION_WEIGHTS:
        fused = fuse_scores(torch.from_numpy(first), torch.from_numpy(second), weight, form)
        hits[weight] = int((fused.argmax(dim=1).numpy() == labels).sum())
    return max(hits, key=lambda weight: (hits[weight], -abs(weight - 0.5)))
