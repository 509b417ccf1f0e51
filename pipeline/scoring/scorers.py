"""From the frames of a video to scores of classes: mean, max, vote, concept spotting, attributes, fusion.

A scorer works in two steps. `similarities` is computed once for a video and all C classes; `scores` makes scores
of it among the candidates of a trial. They differ where probabilities are averaged: a softmax over half of
the classes is not half of a softmax over all.

n videos of a batch, V views, T frames, D dimensions, C classes, c of them candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..choices import FUSION_FORMS
from .pooling import cosine_scores, mean_embeddings
from .temperature import TEMPERATURE
from .views import NO_FEATURES, ViewsScorer, check_view_average, softmax

if TYPE_CHECKING:  # it brings torch
    from .concept_spotting import ConceptSpotter


class Scorer(Protocol):
    """Something that scores videos; larger is likelier."""

    name: str

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> Any:
        """Return what `scores` needs of n videos, an array with n rows.

        indices    [n] positions in the cache
        frames     [n, V, T, D], as the encoder gave them
        """
        ...

    def scores(self, similarities: Any, classes: np.ndarray) -> np.ndarray:
        """Return scores [n, c] among the classes [c]."""
        ...

    def probabilities(
        self, similarities: Any, classes: np.ndarray, *, scaled: bool | None = None
    ) -> np.ndarray:
        """Return probabilities [n, c] among the classes [c], for fusion and for the released mAP.

        scaled    whether cosines are divided by the temperature before the softmax; None: as the scorer's own
                  average over views does
        """
        ...


class MeanScorer(ViewsScorer):
    """Cosine of the mean frame embedding with each sentence [C, D].

    view_average    `features`: the mean is over frames and views alike, as in Text4Vis; see VIEW_AVERAGES
    """

    def __init__(self, sentence: np.ndarray, name: str = "mean", *, view_average: str = "features") -> None:
        self.name, self._sentence, self.view_average = name, sentence, check_view_average(view_average)

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        n, views, times, dimensions = frames.shape
        if self.view_average != "features":
            frames = frames.reshape(n * views, 1, times, dimensions)
        return cosine_scores(mean_embeddings(frames), self._sentence).reshape(n, -1, len(self._sentence))


class MaxScorer(ViewsScorer):
    """Cosine of the best frame of all views with each sentence [C, D]."""

    def __init__(self, sentence: np.ndarray, name: str = "max") -> None:
        self.name, self._sentence = name, sentence

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return frame_cosines(frames, self._sentence).max(axis=1, keepdims=True)


class VoteScorer:
    """Mean over frames and views of each one's probabilities.

    raw    True: of the embeddings as they are, times 1 / temperature, as released BIKE scores its halves;
           False: of L2-normalized embeddings
    """

    def __init__(self, sentence: np.ndarray, *, raw: bool = False, name: str = "vote") -> None:
        self.name, self._sentence, self._raw = name, sentence, raw

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        cosines = frame_cosines(frames, self._sentence)  # [n, V * T, C]
        if self._raw:
            lengths = np.linalg.norm(frames.astype(np.float32), axis=-1).reshape(len(frames), -1, 1)
            cosines = cosines * lengths
        return cosines

    def scores(self, similarities: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return self.probabilities(similarities, classes)

    def probabilities(
        self, similarities: np.ndarray, classes: np.ndarray, *, scaled: bool | None = None
    ) -> np.ndarray:
        # Released BIKE multiplies raw embeddings by 100: there is no temperature to leave out.
        plain = scaled is False and not self._raw
        return softmax(similarities[:, :, classes] / (1 if plain else TEMPERATURE)).mean(axis=1)


class SpottingScorer(ViewsScorer):
    """Video Concept Spotting.

    view_average    probabilities or unscaled; see VIEW_AVERAGES
    """

    def __init__(
        self, spotter: ConceptSpotter, *, view_average: str = "probabilities", name: str = "vcs"
    ) -> None:
        if check_view_average(view_average) == "features":
            raise ValueError(NO_FEATURES)
        self.name, self._spotter, self.view_average = name, spotter, view_average

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        n, views, times, dimensions = frames.shape
        scores = self._spotter.scores(frames.reshape(n * views, times, dimensions))
        return scores.reshape(n, views, -1)


class MissingAttributes(ValueError):
    """A video that is tested has no attributes."""


class AttributesScorer(ViewsScorer):
    """Cosine of each video's attributes sentence with each class sentence [C, D] (BIKE 2.2).

    embeddings    [N, D] of the attributes sentences, by position in the cache; NaN where a video has none
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        sentence: np.ndarray,
        name: str = "attributes",
        *,
        temperature: float = TEMPERATURE,
    ) -> None:
        self.name, self._embeddings, self._sentence = name, embeddings, sentence
        self.temperature = temperature

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return cosines [n, 1, C]. Raises MissingAttributes."""
        check_attributes(self._embeddings, indices)
        return cosine_scores(self._embeddings[indices], self._sentence)[:, None]


def check_attributes(embeddings: np.ndarray, indices: np.ndarray) -> None:
    """Raise MissingAttributes where one of these videos of a cache has no embedding of an attributes sentence."""
    without = int(np.isnan(embeddings[indices, 0]).sum())
    if without:
        raise MissingAttributes(
            f"{without} of the {len(indices)} videos that are read now have no attributes, nor do "
            f"{int(np.isnan(embeddings[:, 0]).sum())} of the cache: their file does not name them. Test another --split, or "
            "give the file of these videos too."
        )


class JointScorer(ABC):
    """A scorer of what two others make of a video. Their similarities are computed once, however many scorers join them."""

    name: str
    parts: tuple[Scorer, Scorer]

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> Any:
        return self.join(*(part.similarities(indices, frames) for part in self.parts))

    @abstractmethod
    def join(self, first: Any, second: Any) -> Any:
        """Return the similarities from those of the two parts."""


class FusionScorer(JointScorer):
    """S = weight S_V + (1 - weight) S_A, on probabilities (BIKE, equation 4).

    weight    of the video, in 0..1; 0.6 for ViT-B and 0.8 for ViT-L in the paper, 0.7 in the released script
    form      one of FUSION_FORMS
    """

    def __init__(self, video: Scorer, attributes: Scorer, weight: float, *, form: str = "paper") -> None:
        check_weight(weight)
        if form not in FUSION_FORMS:
            raise ValueError(f"the form of fusion must be {' or '.join(FUSION_FORMS)}, got {form!r}")
        self.name = f"{video.name} + {attributes.name} ({weight:g})"
        self.parts, self._weight, self._scaled = (video, attributes), weight, form == "paper"

    def join(self, first: Any, second: Any) -> Any:
        return _Pair(first, second)

    def scores(self, similarities: Any, classes: np.ndarray) -> np.ndarray:
        video, attributes = (
            part.probabilities(each, classes, scaled=self._scaled)
            for part, each in zip(self.parts, (similarities.video, similarities.attributes), strict=True)
        )
        return self._weight * video + (1 - self._weight) * attributes

    def probabilities(
        self, similarities: Any, classes: np.ndarray, *, scaled: bool | None = None
    ) -> np.ndarray:
        return self.scores(similarities, classes)


def check_weight(weight: float) -> float:
    """Return the weight of a fusion, if it is one. Raises ValueError."""
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of fusion lies between 0 and 1, got {weight}")
    return weight


class _Pair:
    """The similarities of two scorers, indexed together."""

    def __init__(self, video: Any, attributes: Any) -> None:
        self.video, self.attributes = video, attributes

    def __getitem__(self, rows: np.ndarray) -> _Pair:
        return _Pair(self.video[rows], self.attributes[rows])


def frame_cosines(frames: np.ndarray, sentence: np.ndarray) -> np.ndarray:
    """Return cosines [n, V * T, C] float32 of frames [n, V, T, D] with sentences [C, D]."""
    n, views, times, dimensions = frames.shape
    return cosine_scores(frames.reshape(-1, dimensions), sentence).reshape(n, views * times, -1)


def default_fusion(architecture: Mapping[str, Any]) -> float:
    """Return the paper's weight of the video: 0.8 for ViT-L (and what is as wide or wider), else 0.6."""
    width = architecture.get("vision_cfg", {}).get("width", 0)
    return 0.8 if isinstance(width, int) and width >= 1024 else 0.6
