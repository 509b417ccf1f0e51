"""A trained video head as a scorer."""

from __future__ import annotations

import numpy as np
import torch

from ..scoring import NO_FEATURES, TEMPERATURE, ViewsScorer, check_view_average
from .multi_label import mean_logits
from .video_head import VideoHead, head_inputs


class HeadScorer(ViewsScorer):
    """A trained video head as a scorer.

    view_average    None: that of the head's own config; see VIEW_AVERAGES
    """

    def __init__(
        self,
        head: VideoHead,
        *,
        temperature: float = TEMPERATURE,
        view_average: str | None = None,
        name: str = "head",
    ) -> None:
        self.name, self._head, self.temperature = name, head, temperature
        self.view_average = check_view_average(view_average or head.config.view_average)
        if self.view_average == "features" and head.config.pool == "vcs":
            raise ValueError(NO_FEATURES)

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return scores as `head_scores` does. Raises NoScores."""
        inputs = head_inputs(frames, self._head.config)
        scores = head_scores(self._head, inputs, frames.shape[1], self.view_average)
        check_scores(scores, self.name)
        return scores


class MultiLabelScorer(HeadScorer):
    """A trained multi-label head as a scorer: its similarities are logits [n, V, C], its probabilities those of each
    class, which do not sum to 1. Several views count by the mean of their probabilities."""

    def __init__(self, head: VideoHead, *, view_average: str | None = None, name: str = "head") -> None:
        super().__init__(head, view_average=view_average, name=name)
        if self.view_average == "unscaled":
            raise ValueError("a multi-label head has no softmax over classes, and its scale is its own")

    def scores(self, similarities: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return logits [n, c] float64."""
        return mean_logits(similarities[:, :, classes])

    def probabilities(
        self, similarities: np.ndarray, classes: np.ndarray, *, scaled: bool | None = None
    ) -> np.ndarray:
        return sigmoid(self.scores(similarities, classes))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)), without overflow."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64)))


def head_scores(
    head: VideoHead, inputs: torch.Tensor, views: int, view_average: str | None = None
) -> np.ndarray:
    """Return scores, of a multi-label head logits, [n, V, C] of the views of inputs [n * V, T, D], or [n, 1, C] where features are averaged before
    the score. `view_scores` makes one score of them.

    view_average    None: that of the head's own config
    """
    together = views if (view_average or head.config.view_average) == "features" else 1
    scores = head.scores(inputs, views=together)
    if head.multi_label is not None:
        with torch.inference_mode():
            device = head.multi_label.bias.device
            scores = head.multi_label(torch.from_numpy(scores).to(device)).cpu().numpy()
    return scores.reshape(-1, views // together, scores.shape[-1])


class NoScores(ValueError):
    """Scores of finite features that are not finite."""


def check_scores(scores: np.ndarray, name: str) -> None:
    """Raise NoScores where a score is not finite."""
    if not np.isfinite(scores).all():
        raise NoScores(
            f"the head {name} gives scores that are not finite: its weights are too large for these features. Train "
            "it again with `vidclip fit`."
        )
