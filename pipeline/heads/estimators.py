"""Classifiers of video embeddings as scikit-learn estimators, for pipelines, grid searches and cross-validation.

N videos, D dimensions of the video embeddings, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.utils import check_random_state
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

SCALE = 100.0
"""What cosines are multiplied by before the softmax: the end value of CLIP's learned scale, 1 / temperature."""

CLIP_LENGTH = 10.0
"""Length the linear probe gives to embeddings. Those of OpenAI's CLIP are about ten long as they come, and its
C = 0.316 was chosen on them; on L2-normalized ones the same C would regularize a hundred times as much."""

# scikit-learn has no types, and those guessed from its defaults are wrong.
_validate_data: Any = validate_data
_l2_normalize: Any = normalize  # zero rows are returned unchanged


class CosineClassifier(ClassifierMixin, BaseEstimator):
    """Cosines of video embeddings with class embeddings that stay as they are: score = `scale * u(e) . u(W_c)`.

    With the text embeddings of class names this is zero-shot classification; with others of `classifier_weights`, it
    is what they are worth without training. Scores are in float64: they do not depend on which other videos are
    scored at once.

    Parameters
    ----------
    class_embeddings : array of shape (C, D)
        W, of any length.
    classes : sequence of C labels, default None
        Labels of the classes in the order of `class_embeddings`; None: 0 to C - 1. Scorers of scikit-learn that read
        probabilities (log loss, AUC) take them to be sorted.
    scale : float, default 100
        Factor of the cosines, 1 / temperature of the softmax.

    Attributes
    ----------
    classes_ : array of shape (C,)
    weights_ : array of shape (C, D), float64, L2-normalized
    n_features_in_ : int
        D.

    Source: Wu et al. 2023 (Text4Vis), equation 6.
    """

    def __init__(
        self,
        class_embeddings: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        scale: float = SCALE,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.classes = classes
        self.scale = scale

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> CosineClassifier:
        """Check X [N, D], of which D alone is used, and labels y [N]. Raises ValueError where they do not fit."""
        videos = _validate_data(self, X)
        weights = np.array(self.class_embeddings, np.float64, ndmin=1)
        if weights.ndim != 2 or len(weights) < 2 or weights.shape[1] != videos.shape[1]:
            raise ValueError(
                f"class_embeddings must be [C, {videos.shape[1]}] of two classes or more, got shape {weights.shape}"
            )
        if not np.isfinite(weights).all():
            raise ValueError("class_embeddings hold numbers that are not finite")
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be above 0 and finite, got {self.scale}")
        self.classes_ = np.arange(len(weights)) if self.classes is None else np.asarray(self.classes)
        if self.classes_.shape != (len(weights),) or len(np.unique(self.classes_)) < len(weights):
            raise ValueError(f"classes must be {len(weights)} different labels, got {self.classes!r}")
        foreign = [] if y is None else np.setdiff1d(y, self.classes_)
        if len(foreign):
            raise ValueError(
                f"y has {len(foreign)} labels that are none of the classes, {foreign[0]!r} the first"
            )
        self.weights_ = _l2_normalize(weights)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return scores [N, C]; with two classes [N], those of the second less those of the first."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the softmax of the scores: [N, C], also with two classes."""
        return softmax(self._scores(X))

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the class of the highest score, of equal ones the first: [N]."""
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]

    def _scores(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        videos = _validate_data(self, X, dtype=np.float64, reset=False)
        return self.scale * (_l2_normalize(videos) @ self.weights_.T)


class LDAClassifier(LinearDiscriminantAnalysis):
    """scikit-learn's linear discriminant analysis on some videos of each class, on embeddings as they come.

    Give it L2-normalized embeddings (`mean_embeddings`) or others, and the same in fit and predict.

    Parameters
    ----------
    max_per_class : int or None, default 60
        At most so many videos of a class, drawn at random; None: all. The paper's 60.
    random_state : int, RandomState or None, default 0
        Random state of that draw.

    Attributes
    ----------
    classes_ : array of shape (C,)
    weights_ : array of shape (C, D)
        `coef_`, the class embeddings that Text4Vis freezes; for two classes [-coef_, coef_].
    indices_ : array of shape (n,)
        Indices of the videos it was fitted on, ascending.

    and those of LinearDiscriminantAnalysis.
    Source: Wu et al. 2023 (Text4Vis), section 2.2 and algorithm 2.
    """

    def __init__(
        self, max_per_class: int | None = 60, random_state: int | np.random.RandomState | None = 0
    ) -> None:
        super().__init__()
        self.max_per_class = max_per_class
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> LDAClassifier:
        """Fit on X [N, D] and y [N]. Raises ValueError for fewer than two classes, or no more videos than classes."""
        videos, labels = _validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        if self.max_per_class is not None and self.max_per_class < 1:
            raise ValueError(
                f"max_per_class must be at least 1, or None for all videos, got {self.max_per_class}"
            )
        rng, chosen = check_random_state(self.random_state), []
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            few = self.max_per_class is None or len(own) <= self.max_per_class
            chosen.append(own if few else rng.choice(own, self.max_per_class, replace=False))
        self.indices_ = np.sort(np.concatenate(chosen))
        if len(chosen) < 2:
            raise ValueError("linear discriminant analysis needs at least two classes, got 1 class")
        if len(self.indices_) <= len(chosen):
            raise ValueError(
                f"linear discriminant analysis needs more videos than classes, and has {len(self.indices_)} videos of "
                f"{len(chosen)} classes. Give it at least two videos of a class (and a max_per_class of two or more), "
                "or use the text classifier, which needs none."
            )
        super().fit(videos[self.indices_], labels[self.indices_])
        self.weights_ = _of_each_class(self.coef_)
        return self


class LinearProbe(LogisticRegression):
    """CLIP's linear probe: logistic regression by L-BFGS with an L2 penalty, on embeddings made ten long.

    CLIP's example gives embeddings as they come, about ten long (see CLIP_LENGTH); a cache may hold others, and means
    over frames are shorter than their frames, so all are brought to that length.

    Parameters
    ----------
    C : float, default 0.316
        Inverse of the weight of the penalty, as in CLIP's published example.
    max_iter : int, default 1000
        Largest number of iterations, as there.
    random_state : int, RandomState or None, default 0

    Attributes
    ----------
    classes_ : array of shape (C,)
    weights_ : array of shape (C, D)
        `coef_`, for two classes [-coef_, coef_].

    and those of LogisticRegression.
    Source: Radford et al. 2021 (CLIP), A.3.
    """

    def __init__(
        self,
        C: float = 0.316,
        max_iter: int = 1000,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        super().__init__(C=C, max_iter=max_iter, random_state=random_state)

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> LinearProbe:
        """Fit on X [N, D] of any length and y [N]. Raises ValueError for fewer than two classes."""
        super().fit(CLIP_LENGTH * _l2_normalize(X), y, sample_weight)
        self.weights_ = _of_each_class(self.coef_)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray:
        """Return scores [N, C]; with two classes [N]: positive for the second."""
        check_is_fitted(self)
        return super().decision_function(CLIP_LENGTH * _l2_normalize(X))


def _of_each_class(coef: NDArray) -> NDArray:
    """Return [C, D]; of two classes scikit-learn keeps the second's vector alone."""
    return np.concatenate([-coef, coef]) if len(coef) == 1 else coef
