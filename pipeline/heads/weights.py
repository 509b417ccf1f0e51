"""Class embeddings W that a classifier keeps as they were made, or is trained from.

Text4Vis writes a video's score for class c as `scale * u(e) . u(W_c)` with u(x) = x / |x|, and asks where W should
come from:

    text          the sentence embeddings of the class names
    random        N(0, I); linear: the same for one seed, as a start to train from
    orthogonal    the first C rows of Q = qr(G), G a D x D matrix of N(0, 1)
    lda           W_c = S^+ (m_c - m), with m_c the mean of class c, m that of all N videos, and
                  S = sum_c sum_{i of c} (x_i - m_c) (x_i - m_c)^T / N, the covariance within classes

scikit-learn computes the last by a singular value decomposition of the videos, without the D x D matrix S; a test
holds the two equal. N videos, C classes, D dimensions of the video embeddings, D' of text embeddings.
Source: Wu et al. 2023 (Text4Vis), section 2.2, equations 4 to 6, algorithm 2, Tables 6 and 7, C.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..choices import CLASSIFIERS, check_choice


def classifier_weights(
    kind: str,
    *,
    n_classes: int,
    dimension: int,
    features: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    text: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return the class embeddings W [C, D] float32 of a classifier, not normalized.

    kind           one of CLASSIFIERS
    dimension      D of the video embeddings and of W, except for `text`, which keeps its own
    features       lda: video embeddings [N, D] of the pre-trained encoder; at most 60 videos of a class (as in the
                   paper) are drawn with the seed
    labels         lda: their classes [N], integers in 0..C-1, each class at least once
    text           text: sentence embeddings of the class names [C, D']

    What a kind does not use is not looked at. Of two classes, scikit-learn's LDA keeps one vector w = W_2 - W_1; this
    returns [-w, w].
    Raises ValueError for an unknown kind, inputs that are missing or do not fit, orthogonal embeddings with C > D, a
    class without videos, and for lda no more videos than classes.
    """
    check_choice("kind", kind, CLASSIFIERS)
    for name, value in (("n_classes", n_classes), ("dimension", dimension)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    rng = np.random.RandomState(seed)
    if kind == "text":
        if text is None:
            raise ValueError("the text classifier needs text, the sentence embeddings [C, D'] of its classes")
        embeddings = np.array(text, np.float32)
        if embeddings.ndim != 2 or len(embeddings) != n_classes or not embeddings.shape[1]:
            raise ValueError(f"text must be [C, D'] of {n_classes} classes, got the shape {embeddings.shape}")
        bad = ~np.isfinite(embeddings).all(axis=1) | ~embeddings.any(axis=1)
        if bad.any():
            raise ValueError(f"text has an embedding of class {np.argmax(bad)} that is zero or not finite")
        return embeddings
    if kind == "lda":
        if features is None or labels is None:
            raise ValueError("the lda classifier needs features [N, D] and labels [N] to be computed from")
        return _lda(features, labels, n_classes, dimension, rng)
    if kind == "orthogonal":
        if n_classes > dimension:
            raise ValueError(
                f"{n_classes} classes cannot have orthogonal embeddings in {dimension} dimensions. Use random ones."
            )
        return np.linalg.qr(rng.standard_normal((dimension, dimension)))[0][:n_classes].astype(np.float32)
    return rng.standard_normal((n_classes, dimension)).astype(np.float32)


def _lda(
    features: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    dimension: int,
    rng: np.random.RandomState,
) -> NDArray[np.float32]:
    from sklearn.utils import check_X_y

    from .estimators import LDAClassifier

    checked: Any = check_X_y  # scikit-learn has no types
    videos, codes = checked(features, labels, dtype=[np.float64, np.float32])
    if videos.shape[1] != dimension:
        raise ValueError(f"features must be [N, {dimension}], got the shape {videos.shape}")
    if codes.dtype.kind not in "iu" or not 0 <= codes.min() <= codes.max() < n_classes:
        raise ValueError(
            f"labels must be class indices from 0 to {n_classes - 1}, got {codes.dtype} from {codes.min()} to "
            f"{codes.max()}"
        )
    absent = np.setdiff1d(np.arange(n_classes), codes)
    if len(absent):
        raise ValueError(
            f"{len(absent)} of {n_classes} classes have no videos to compute the lda classifier from, class "
            f"{absent[0]} the first. Give at least one video of each, or use the text classifier."
        )
    return LDAClassifier(random_state=rng).fit(videos, codes).weights_.astype(np.float32)
