"""What turns the frames of a video into scores of classes: mean, max, vote, concept spotting, attributes, fusion.

A scorer works in two steps. `evidence` is computed once for a video and all C classes; `combine` makes scores
of it among the candidates of a trial. They differ where probabilities are averaged: a softmax over half of
the classes is not half of a softmax over all.

n videos of a batch, V views, T frames, D dimensions, C classes, c of them candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .concept_spotting import ConceptSpotter
from .pooling import cosine_scores, mean_embeddings
from .video_head import VideoHead, head_inputs

TEMPERATURE = 0.01
"""Of the softmax over classes: cosines become probabilities as in CLIP."""


class Scorer(Protocol):
    """Something that scores videos; larger is likelier."""

    name: str

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> Any:
        """Of the videos `rows` [n] of the cache, with frames [n, V, T, D]: an array with n rows."""
        ...

    def combine(self, evidence: Any, classes: np.ndarray) -> np.ndarray:
        """Scores [n, c] among the classes [c]."""
        ...

    def probabilities(self, evidence: Any, classes: np.ndarray) -> np.ndarray:
        """Probabilities [n, c] among the classes [c], for fusion."""
        ...


def softmax(logits: np.ndarray, axis: int = -1) -> np.ndarray:
    """In float64: with a temperature of 0.01, float32 makes ties of small probabilities."""
    logits = np.asarray(logits, np.float64)
    logits = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return logits / logits.sum(axis=axis, keepdims=True)


class _Cosine:
    """Evidence [n, C] of cosines; probabilities are their softmax."""

    temperature: float = TEMPERATURE

    def combine(self, evidence: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return evidence[:, classes]

    def probabilities(self, evidence: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return softmax(evidence[:, classes] / self.temperature)


class MeanScorer(_Cosine):
    """Cosine of the mean frame embedding, over frames and views, with each sentence [C, D]."""

    def __init__(self, sentence: np.ndarray, name: str = "mean") -> None:
        self.name, self._sentence = name, sentence

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return cosine_scores(mean_embeddings(frames), self._sentence)


class MaxScorer(_Cosine):
    """Cosine of the best frame of all views with each sentence [C, D]."""

    def __init__(self, sentence: np.ndarray, name: str = "max") -> None:
        self.name, self._sentence = name, sentence

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return frame_cosines(frames, self._sentence).max(axis=1)


class VoteScorer:
    """Mean over frames and views of each one's probabilities.

    raw    True: of the embeddings as they are, times 1 / temperature, as released BIKE scores its halves;
           False: of unit embeddings
    """

    def __init__(
        self, sentence: np.ndarray, *, temperature: float = TEMPERATURE, raw: bool = False, name: str = "vote"
    ) -> None:
        self.name, self._sentence, self._temperature, self._raw = name, sentence, temperature, raw

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        cosines = frame_cosines(frames, self._sentence)  # [n, V * T, C]
        if self._raw:
            lengths = np.linalg.norm(frames.astype(np.float32), axis=-1).reshape(len(frames), -1, 1)
            cosines = cosines * lengths
        return cosines

    def combine(self, evidence: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return softmax(evidence[:, :, classes] / self._temperature).mean(axis=1)

    probabilities = combine


def view_scores(scores: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """Scores [n, C] of cosines [n, V, C]: those of a single view as they are, of several the mean of their
    probabilities (BIKE, X-CLIP)."""
    return scores[:, 0] if scores.shape[1] == 1 else softmax(scores / temperature).mean(axis=1)


class _Views:
    """Evidence [n, V, C] of cosines, one row a view."""

    temperature: float = TEMPERATURE

    def combine(self, evidence: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return view_scores(evidence[:, :, classes], self.temperature)

    def probabilities(self, evidence: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return softmax(evidence[:, :, classes] / self.temperature).mean(axis=1)


class SpottingScorer(_Views):
    """Video Concept Spotting."""

    def __init__(
        self, spotter: ConceptSpotter, *, temperature: float = TEMPERATURE, name: str = "vcs"
    ) -> None:
        self.name, self._spotter, self.temperature = name, spotter, temperature

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        n, views, times, dimensions = frames.shape
        scores = self._spotter.scores(frames.reshape(n * views, times, dimensions))
        return scores.reshape(n, views, -1)


class HeadScorer(_Views):
    """A trained video head."""

    def __init__(self, head: VideoHead, *, temperature: float = TEMPERATURE, name: str = "head") -> None:
        self.name, self._head, self.temperature = name, head, temperature

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        scores = self._head.scores(head_inputs(frames, self._head.design))
        return scores.reshape(*frames.shape[:2], -1)


class AttributesScorer(_Cosine):
    """Cosine of each video's attributes sentence with each class sentence (BIKE 2.2)."""

    def __init__(self, embeddings: np.ndarray, sentence: np.ndarray, name: str = "attributes") -> None:
        """embeddings [N, D] of the attributes sentences, by row of the cache; sentence [C, D]."""
        self.name, self._embeddings, self._sentence = name, embeddings, sentence

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return cosine_scores(self._embeddings[rows], self._sentence)


class FusionScorer:
    """S = weight S_V + (1 - weight) S_A, on probabilities (BIKE, equation 4)."""

    def __init__(self, video: Scorer, attributes: Scorer, weight: float) -> None:
        """weight of the video, in 0..1; 0.6 for ViT-B and 0.8 for ViT-L in the paper."""
        if not 0 <= weight <= 1:
            raise ValueError(f"the weight of fusion lies between 0 and 1, got {weight}")
        self.name = f"{video.name} + {attributes.name} ({weight:g})"
        self.parts, self._weight = (video, attributes), weight

    def evidence(self, rows: np.ndarray, frames: np.ndarray) -> Any:
        return self.join(*(part.evidence(rows, frames) for part in self.parts))

    def join(self, video: Any, attributes: Any) -> Any:
        """The evidence, from that of its two parts."""
        return _Pair(video, attributes)

    def combine(self, evidence: Any, classes: np.ndarray) -> np.ndarray:
        video, attributes = (
            part.probabilities(each, classes)
            for part, each in zip(self.parts, (evidence.video, evidence.attributes), strict=True)
        )
        return self._weight * video + (1 - self._weight) * attributes

    probabilities = combine


class _Pair:
    """Evidence of two scorers; its rows are those of both."""

    def __init__(self, video: Any, attributes: Any) -> None:
        self.video, self.attributes = video, attributes

    def __getitem__(self, rows: np.ndarray) -> _Pair:
        return _Pair(self.video[rows], self.attributes[rows])


def frame_cosines(frames: np.ndarray, sentence: np.ndarray) -> np.ndarray:
    """[n, V * T, C] float32 from frames [n, V, T, D] and sentences [C, D]."""
    n, views, times, dimensions = frames.shape
    return cosine_scores(frames.reshape(-1, dimensions), sentence).reshape(n, views * times, -1)


def default_fusion(architecture: Mapping[str, Any]) -> float:
    """The paper's weight of the video: 0.8 for ViT-L (and what is as wide or wider), else 0.6."""
    width = architecture.get("vision_cfg", {}).get("width", 0)
    return 0.8 if isinstance(width, int) and width >= 1024 else 0.6
