"""Scores of class names in two languages, fused: dual semantic supervision when nothing is trained.

    S = weight S_first + (1 - weight) S_second

With mean pooling both scores are of one video embedding e, so that the fused scores are those of a single classifier,
S = u(e) . (weight u(t_c) + (1 - weight) u(z_c)), with u(x) = x / |x|, t_c and z_c the two sentences of class c.

n videos, V views, C classes, D dimensions.
Source: "Adapting CLIP for Action Recognition via Dual Semantic Supervision and Temporal Prompt Reparameterization" 2024,
equation 18; the weight is not given there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..choices import LANGUAGE_FUSIONS, check_choice
from .pooling import l2_normalize
from .scorers import FusionScorer, JointScorer, Scorer, check_weight


class LanguageScorer(JointScorer):
    """The weighted cosines of two scorers of one kind, which differ in the texts of the classes alone.

    weight    of the first, in 0..1; at 1 the scores are those of the first, to the bit
    """

    def __init__(self, first: Scorer, second: Scorer, weight: float, *, name: str) -> None:
        self.name, self.parts, self._weight = name, (first, second), check_weight(weight)

    def join(self, first: Any, second: Any) -> Any:
        return self._weight * first + (1 - self._weight) * second

    def scores(self, similarities: Any, classes: np.ndarray) -> np.ndarray:
        return self.parts[0].scores(similarities, classes)

    def probabilities(
        self, similarities: Any, classes: np.ndarray, *, scaled: bool | None = None
    ) -> np.ndarray:
        return self.parts[0].probabilities(similarities, classes, scaled=scaled)


def fuse_languages(first: Scorer, second: Scorer, weight: float, *, form: str, name: str) -> Scorer:
    """Return the fusion of two scorers, of their cosines or of their probabilities (LANGUAGE_FUSIONS).

    Raises ValueError for a weight outside 0..1 or an unknown form.
    """
    check_choice("the form of fusion", form, LANGUAGE_FUSIONS)
    if form == "scores":
        return LanguageScorer(first, second, weight, name=name)
    fused = FusionScorer(first, second, weight)
    fused.name = name
    return fused


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of classes whose second sentence is nearest to their own first one, in 0..1.

    first, second    [C, D] sentence embeddings of the classes in two languages

    Two towers of one space say nearly the same of a class, so that it is near 1; where the spaces are foreign to each
    other it is that of chance, 1 / C. What a tower's files say about its space is not asked.
    """
    nearest = (l2_normalize(second) @ l2_normalize(first).T).argmax(axis=1)
    return float((nearest == np.arange(len(first))).mean())


def deranged(count: int, seed: int = 0) -> np.ndarray:
    """Return a permutation of `count` classes in which none stays at its place: one random cycle."""
    order = np.random.default_rng(seed).permutation(count)
    permutation = np.empty(count, np.int64)
    permutation[order] = np.roll(order, 1)
    return permutation
