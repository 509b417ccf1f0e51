"""Several views of a video (clips x crops) become one score."""

from __future__ import annotations

import numpy as np

from ..choices import VIEW_AVERAGES
from .temperature import TEMPERATURE

NO_FEATURES = (
    "concept spotting pools a video anew for every class, so there are no features to average over views; average "
    "probabilities, or unscaled ones"
)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis in float64: with a temperature of 0.01, float32 makes ties of small probabilities."""
    logits = np.asarray(logits, np.float64)
    logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return logits / logits.sum(axis=-1, keepdims=True)


def check_view_average(view_average: str) -> str:
    """Return the name, if it is one of VIEW_AVERAGES. Raises ValueError."""
    if view_average not in VIEW_AVERAGES:
        raise ValueError(f"view_average must be one of {', '.join(VIEW_AVERAGES)}, got {view_average!r}")
    return view_average


def view_scores(
    scores: np.ndarray, temperature: float = TEMPERATURE, view_average: str = "probabilities"
) -> np.ndarray:
    """Return scores [n, C] of cosines [n, V, C]: those of a single view as they are, of several the mean of their
    probabilities (BIKE, X-CLIP; `unscaled`: without the temperature, as released BIKE)."""
    if scores.shape[1] == 1:
        return scores[:, 0]
    return softmax(scores / (1 if view_average == "unscaled" else temperature)).mean(axis=1)


def of_classes(similarities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return similarities [n, V, c] of some classes [c]; themselves, not a copy, where these are all in order."""
    if np.array_equal(classes, np.arange(similarities.shape[2])):
        return similarities
    return similarities[:, :, classes]


class ViewsScorer:
    """A scorer whose similarities are cosines [n, V, C]; [n, 1, C] where one score is of all views."""

    temperature: float = TEMPERATURE
    view_average: str = "probabilities"

    def scores(self, similarities: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return view_scores(of_classes(similarities, classes), self.temperature, self.view_average)

    def probabilities(
        self, similarities: np.ndarray, classes: np.ndarray, *, scaled: bool | None = None
    ) -> np.ndarray:
        scaled = self.view_average != "unscaled" if scaled is None else scaled
        return softmax(of_classes(similarities, classes) / (self.temperature if scaled else 1)).mean(axis=1)
