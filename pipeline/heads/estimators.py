"""Classifiers over video embeddings: rows W that stay as they were made, and the linear probe to compare with.

Text4Vis writes a video's score for class c as `scale * u(e) . u(W_c)` with u(x) = x / |x|, and asks where W should
come from: the embeddings of the class names, noise, orthogonal noise, or discriminant analysis. Here each is a
scikit-learn estimator; `classifier_weights` gives the rows alone, for modules that are trained below them.

N videos, D dimensions of the video embeddings, C classes, D' dimensions of the rows.
Source: Wu et al. 2023 (Text4Vis), section 2.2, Tables 6 and 7, C.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

CLASSIFIERS = ("text", "random", "orthogonal", "lda", "linear")
"""Where rows W can come from: frozen, all but linear, whose rows are a start to train from."""

SCALE = 100.0
"""What cosines are multiplied by before the softmax: the end value of CLIP's learned scale, 1 / temperature."""

CLIP_LENGTH = 10.0
"""Length the linear probe gives to embeddings. Those of OpenAI's CLIP are about ten long as they come, and its
C = 0.316 was chosen on them; on unit rows the same C would regularise a hundred times as much."""

_FLOATS = (np.float64, np.float32)  # scikit-learn's own keep both

Embed = Callable[[Sequence[Any]], ArrayLike] | Mapping[Any, ArrayLike]
"""From class labels to vectors: a function of the C labels that gives [C, D'], or {label: vector [D']}."""


def classifier_weights(
    kind: str,
    *,
    n_classes: int,
    dimension: int,
    features: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    text: ArrayLike | None = None,
    max_per_class: int | None = 60,
    seed: int | np.random.RandomState | None = 0,
) -> NDArray[np.float32]:
    """Rows W [C, D'] float32 of a classifier, as they were made: not unit.

    kind           one of CLASSIFIERS
    dimension      D of the video embeddings; rows have as many, but those of `text`, which keep their own
    features       lda: video embeddings [N, D] of the pre-trained encoder
    labels         lda: their classes [N], integers in 0..C-1, each class at least once
    text           text: sentence embeddings of the class names [C, D']
    max_per_class  lda: at most so many videos of a class, drawn with the seed; None: all. The paper's 60

    What a kind does not use is not looked at. Random and linear rows are N(0, I), the same for one seed, so that
    frozen and trained rows can be compared from one start. Orthogonal rows are the first C of Q, from the QR
    decomposition of a D x D Gaussian matrix. LDA rows are scikit-learn's `coef_`; for two classes, of which it
    keeps one row, [-coef_, coef_].
    Raises ValueError for an unknown kind, inputs that are missing or do not fit, orthogonal rows with C > D, a
    class without videos, and for lda no more videos than classes.
    """
    if kind not in CLASSIFIERS:
        raise ValueError(f"kind must be one of {', '.join(CLASSIFIERS)}, got {kind!r}")
    for name, value in (("n_classes", n_classes), ("dimension", dimension)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if kind == "text":
        if text is None:
            raise ValueError("the text classifier needs text, the sentence embeddings [C, D'] of its classes")
        return _checked_rows(text, n_classes, "text")
    if kind == "orthogonal":
        return _orthogonal_rows(n_classes, dimension, seed)
    if kind == "lda":
        if features is None or labels is None:
            raise ValueError("the lda classifier needs features [N, D] and labels [N] to be computed from")
        videos, codes = _checked_videos(features, labels, n_classes, dimension)
        rows = _drawn_videos(codes, max_per_class, seed)
        return _two_sided(_fitted_lda(videos[rows], codes[rows]).coef_).astype(np.float32)
    return check_random_state(seed).standard_normal((n_classes, dimension)).astype(np.float32)


class _CosineClassifier(ClassifierMixin, BaseEstimator):
    """Scores by `scale * u(e) . u(W_c)`, for whatever gave it `weights_`, and `projection_` or none.

    In float64: a score must not depend on which other videos are scored with it.
    """

    scale: float
    classes_: NDArray
    weights_: NDArray
    n_features_in_: int

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores [N, C]; with two classes [N], as scikit-learn has it: those of the second less those of the
        first."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Softmax of the scores: [N, C], also with two classes."""
        return softmax(self._scores(X))

    def predict(self, X: ArrayLike) -> NDArray:
        """The class of the highest score, of equal ones the first: [N]."""
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]

    def _scores(self, X: ArrayLike) -> NDArray[np.float64]:
        videos = _known_videos(self, X, np.float64)
        projection = getattr(self, "projection_", None)
        if projection is not None:
            videos = videos @ projection
        return self.scale * (_unit_rows(videos) @ _unit_rows(self.weights_.astype(np.float64)).T)


class _FrozenClassifier(_CosineClassifier):
    """Rows that are never trained; with `adapt`, a linear map of the video embeddings below them is."""

    adapt: bool
    max_iter: int
    weight_decay: float
    random_state: int | np.random.RandomState | None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Rows that know nothing of scikit-learn's test data are at chance there.
        tags.classifier_tags.poor_score = not self.adapt
        return tags

    def _check_settings(self) -> None:
        _check_positive("scale", self.scale)
        if self.max_iter < 0:
            raise ValueError(f"max_iter must be at least 0, got {self.max_iter}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")

    def _freeze(self, rows: NDArray, X: NDArray, codes: NDArray | None, rng: np.random.RandomState) -> None:
        """Sets `weights_`, and where `adapt` says so learns `projection_`."""
        self.weights_ = rows
        # scikit-learn wants n_iter_ >= 1 of whatever has a max_iter; without adapt the one step was to make W.
        self.projection_, self.n_iter_ = None, 1
        if self.adapt and codes is not None:
            self.projection_, self.n_iter_ = _learned_projection(
                X,
                codes,
                rows,
                _first_projection(X.shape[1], rows.shape[1], rng),
                scale=self.scale,
                max_iter=self.max_iter,
                weight_decay=self.weight_decay,
            )
        elif rows.shape[1] != X.shape[1]:
            raise ValueError(
                f"the rows of the classifier have {rows.shape[1]} dimensions and the videos {X.shape[1]} (as "
                "DistilBERT's 768 against ViT-B's 512): a learned projection of the videos is needed. Use "
                "adapt=True, or rows of the videos' own encoder."
            )


class TextClassifier(_FrozenClassifier):
    """The embeddings of the class names as rows: Text4Vis's own classifier. Without `adapt` it is zero-shot.

    embed         a function of the C labels that gives [C, D'], or {label: vector [D']}: from the text tower of
                  the videos' encoder, or from any other text encoder (`text_encoders.transformers_embedder`) with adapt=True
    names         the classes, in the order of the columns; so a class that y never shows can be predicted. None:
                  the labels found in y, sorted. Scorers of scikit-learn that read probabilities (log loss, AUC)
                  take columns to be in sorted order
    scale         of the cosines
    adapt         learn `projection_` [D, D'] below the frozen rows by cross entropy: the stand-in, on frozen
                  features, for the encoder that the paper trains. It begins as the identity, or where D' differs
                  from D as a semi-orthogonal matrix drawn with random_state
    max_iter      adapt: at most so many iterations of L-BFGS, over all videos at once; fewer where it converges
    weight_decay  adapt: weight of the squared distance of the projection from where it began, against the mean
                  cross entropy; so few videos change little
    random_state  adapt: of that start where D' differs from D

    After fit: `classes_` [C], `weights_` [C, D'], `n_features_in_`, `n_iter_`, and `projection_`, None without adapt.
    fit takes y=None where there are names and nothing is learned; X then says D alone.
    fit raises ValueError where embed is missing or does not fit its labels, where y has a label that is not among
    names, for fewer than two classes, and for D' other than D without adapt.
    Source: Wu et al. 2023 (Text4Vis), equation 6.
    """

    def __init__(
        self,
        embed: Embed | None = None,
        names: Sequence[Any] | None = None,
        scale: float = SCALE,
        adapt: bool = False,
        max_iter: int = 50,
        weight_decay: float = 1e-3,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.embed = embed
        self.names = names
        self.scale = scale
        self.adapt = adapt
        self.max_iter = max_iter
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> TextClassifier:
        """X [N, D] video embeddings of any length, y [N] labels."""
        self._check_settings()
        codes = None
        if self.names is None:
            videos, given = _labeled_videos(self, X, y, np.float64)
            self.classes_, codes = _indexed(given)
        else:
            self.classes_ = _named_classes(self.names)
            if y is None and not self.adapt:
                videos = _any(validate_data)(self, X, dtype=np.float64)
            else:
                videos, given = _labeled_videos(self, X, y, np.float64)
                codes = _places(given, self.classes_)
        labels = self.classes_.tolist()
        rows = _checked_rows(_embedded(self.embed, labels), len(labels), "embed")
        self._freeze(rows, videos, codes, check_random_state(self.random_state))
        return self


class RandomClassifier(_FrozenClassifier):
    """Rows of noise, N(0, I): what frozen rows are worth that know nothing. At chance without `adapt`.

    dimension     D' of the rows; None: D of the videos. Another needs adapt=True
    random_state  of the rows, and after them of the projection's start

    The other settings and what fit leaves are those of TextClassifier.
    fit raises ValueError for fewer than two classes, and for D' other than D without adapt.
    Source: Wu et al. 2023 (Text4Vis), equation 4.
    """

    _kind = "random"

    def __init__(
        self,
        scale: float = SCALE,
        adapt: bool = False,
        random_state: int | np.random.RandomState | None = None,
        dimension: int | None = None,
        max_iter: int = 50,
        weight_decay: float = 1e-3,
    ) -> None:
        self.scale = scale
        self.adapt = adapt
        self.random_state = random_state
        self.dimension = dimension
        self.max_iter = max_iter
        self.weight_decay = weight_decay

    def fit(self, X: ArrayLike, y: ArrayLike) -> RandomClassifier:
        """X [N, D] video embeddings of any length, y [N] labels."""
        self._check_settings()
        videos, labels = _labeled_videos(self, X, y, np.float64)
        self.classes_, codes = _indexed(labels)
        rng = check_random_state(self.random_state)
        rows = classifier_weights(
            self._kind,
            n_classes=len(self.classes_),
            dimension=videos.shape[1] if self.dimension is None else self.dimension,
            seed=rng,
        )
        self._freeze(rows, videos, codes, rng)
        return self


class OrthogonalClassifier(RandomClassifier):
    """Rows of noise at right angles: no class is nearer to another than to a third. At chance without `adapt`.

    The first C rows of Q, from the QR decomposition of a D' x D' Gaussian matrix; settings as RandomClassifier's.
    fit raises ValueError where C > D' (adapt=True and a larger `dimension` help), and as RandomClassifier does.
    Source: Wu et al. 2023 (Text4Vis), equation 5.
    """

    _kind = "orthogonal"


class LDAClassifier(_CosineClassifier):
    """The rows of linear discriminant analysis on video embeddings of the pre-trained encoder.

    max_per_class  at most so many videos of a class, drawn with random_state; None: all. The paper's 60
    intercept      True: the classifier that LDA is by itself, with its intercept; scores and probabilities are
                   scikit-learn's, and scale says nothing. False: as the paper freezes it, `scale * u(e) . u(W_c)`
    scale          of the cosines, with intercept=False
    random_state   of the draw

    LDA sees the embeddings as they come, not made unit, so that the rows are scikit-learn's to the last bit: give it
    unit rows (`mean_embeddings` does) or raw ones, and the same in fit and predict.
    After fit: `classes_` [C], `weights_` [C, D], scikit-learn's `coef_` (for two classes, of which it keeps one row,
    [-coef_, coef_]), `lda_` the fitted LinearDiscriminantAnalysis, `rows_` [n] the videos it was fitted on, and
    `n_features_in_`.
    fit raises ValueError for fewer than two classes, and where there are not more videos than classes.
    Source: Wu et al. 2023 (Text4Vis), section 2.2 and algorithm 2.
    """

    def __init__(
        self,
        max_per_class: int | None = 60,
        intercept: bool = True,
        scale: float = SCALE,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.max_per_class = max_per_class
        self.intercept = intercept
        self.scale = scale
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Without the intercept a class in the middle of the others has hardly a direction of its own.
        tags.classifier_tags.poor_score = not self.intercept
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> LDAClassifier:
        """X [N, D] video embeddings, y [N] labels."""
        _check_positive("scale", self.scale)
        videos, labels = _labeled_videos(self, X, y, _FLOATS)
        self.classes_, codes = _indexed(labels)
        self.rows_ = _drawn_videos(codes, self.max_per_class, self.random_state)
        self.lda_ = _fitted_lda(videos[self.rows_], labels[self.rows_])
        self.weights_ = _two_sided(self.lda_.coef_)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray:
        """Scores [N, C]; with two classes [N]: positive for the second."""
        return self._lda_says("decision_function", X) if self.intercept else super().decision_function(X)

    def predict_proba(self, X: ArrayLike) -> NDArray:
        """Probabilities [N, C]: of LDA, or without intercept the softmax of the scores."""
        return self._lda_says("predict_proba", X) if self.intercept else super().predict_proba(X)

    def predict(self, X: ArrayLike) -> NDArray:
        """The likeliest class: [N]."""
        return self._lda_says("predict", X) if self.intercept else super().predict(X)

    def _lda_says(self, method: str, X: ArrayLike) -> NDArray:
        videos = _known_videos(self, X, _FLOATS)
        return getattr(self.lda_, method)(videos)


class LinearProbe(ClassifierMixin, BaseEstimator):
    """CLIP's linear probe: logistic regression by L-BFGS with an L2 penalty, on embeddings made ten long.

    C, max_iter, random_state  scikit-learn's; the first two as in CLIP's published example

    The example gives embeddings as they come, about ten long (see CLIP_LENGTH); a cache may hold others, and means
    over frames are shorter than their frames, so all are brought to that length.
    After fit: `classes_` [C], `weights_` [C, D], scikit-learn's `coef_` (for two classes [-coef_, coef_]), `probe_`
    the fitted LogisticRegression, `n_iter_` and `n_features_in_`.
    fit raises ValueError for fewer than two classes.
    Source: Radford et al. 2021 (CLIP), A.3.
    """

    def __init__(
        self,
        C: float = 0.316,
        max_iter: int = 1000,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> LinearProbe:
        """X [N, D] video embeddings of any length, y [N] labels."""
        videos, labels = _labeled_videos(self, X, y, _FLOATS)
        self.classes_, _ = _indexed(labels)
        self.probe_ = LogisticRegression(C=self.C, max_iter=self.max_iter, random_state=self.random_state)
        self.probe_.fit(CLIP_LENGTH * _unit_rows(videos), labels)
        self.weights_ = _two_sided(self.probe_.coef_)
        self.n_iter_ = int(np.max(self.probe_.n_iter_))
        return self

    def decision_function(self, X: ArrayLike) -> NDArray:
        """Scores [N, C]; with two classes [N]: positive for the second."""
        return self._probe_says("decision_function", X)

    def predict_proba(self, X: ArrayLike) -> NDArray:
        """Probabilities [N, C]."""
        return self._probe_says("predict_proba", X)

    def predict(self, X: ArrayLike) -> NDArray:
        """The likeliest class: [N]."""
        return self._probe_says("predict", X)

    def _probe_says(self, method: str, X: ArrayLike) -> NDArray:
        videos = _known_videos(self, X, _FLOATS)
        return getattr(self.probe_, method)(CLIP_LENGTH * _unit_rows(videos))


def _embedded(embed: Embed | None, labels: list[Any]) -> ArrayLike:
    """Vectors [C, D'] of the labels."""
    if isinstance(embed, Mapping):
        missing = [label for label in labels if label not in embed]
        if missing:
            raise ValueError(
                f"embed has no vector for {len(missing)} of {len(labels)} classes, {missing[0]!r} the first"
            )
        return [np.asarray(embed[label]) for label in labels]
    if callable(embed):
        return embed(labels)
    raise ValueError(
        f"TextClassifier needs embed, from class labels to vectors: a function of the labels that gives [C, D'], or "
        f"a mapping {{label: vector}}; got {embed!r}"
    )


def _checked_rows(rows: ArrayLike, n_classes: int, name: str) -> NDArray[np.float32]:
    try:
        rows = np.array(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must give one vector [D'] for each class, all of one length") from error
    if rows.ndim != 2 or len(rows) != n_classes or not rows.shape[1]:
        raise ValueError(f"{name} must give [C, D'] for {n_classes} classes, got the shape {rows.shape}")
    bad = ~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1)
    if bad.any():
        raise ValueError(f"{name} gives class {np.argmax(bad)} a vector that is zero or not finite")
    return rows


def _orthogonal_rows(
    n_classes: int, dimension: int, seed: int | np.random.RandomState | None
) -> NDArray[np.float32]:
    if n_classes > dimension:
        raise ValueError(
            f"{n_classes} classes cannot have orthogonal rows in {dimension} dimensions. Use random rows, or "
            f"OrthogonalClassifier with adapt=True and a dimension of at least {n_classes}."
        )
    q, _ = np.linalg.qr(check_random_state(seed).standard_normal((dimension, dimension)))
    return q[:n_classes].astype(np.float32)


def _drawn_videos(
    codes: NDArray, max_per_class: int | None, seed: int | np.random.RandomState | None
) -> NDArray[np.intp]:
    """Indices [n], ascending, of at most so many videos of each class."""
    if max_per_class is None:
        return np.arange(len(codes))
    if max_per_class < 1:
        raise ValueError(f"max_per_class must be at least 1, or None for all videos, got {max_per_class}")
    rng = check_random_state(seed)
    kept = []
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        kept.append(rows if len(rows) <= max_per_class else rng.choice(rows, max_per_class, replace=False))
    return np.sort(np.concatenate(kept))


def _fitted_lda(features: NDArray, labels: NDArray) -> LinearDiscriminantAnalysis:
    """Fitted on exactly these embeddings [N, D]."""
    n_videos, n_classes = len(labels), len(np.unique(labels))
    if n_videos <= n_classes:
        raise ValueError(
            f"linear discriminant analysis needs more videos than classes, and has {n_videos} videos of {n_classes} "
            "classes. Give it at least two videos of a class (and a max_per_class of two or more), or use the text "
            "classifier, which needs none."
        )
    return LinearDiscriminantAnalysis().fit(features, labels)


def _two_sided(coef: NDArray) -> NDArray:
    """A row for each class [C, D]; of two classes scikit-learn keeps the second's alone."""
    return np.concatenate([-coef, coef]) if len(coef) == 1 else coef


def _checked_videos(
    features: ArrayLike, labels: ArrayLike, n_classes: int, dimension: int
) -> tuple[NDArray, NDArray[np.intp]]:
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or features.shape[1] != dimension:
        raise ValueError(f"features must be [N, {dimension}], got the shape {features.shape}")
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{len(features)} videos have features, but the labels have the shape {labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be class indices, whole numbers, but they are {labels.dtype}")
    if not np.isfinite(features).all():
        raise ValueError(
            f"the features of video {np.argmin(np.isfinite(features).all(axis=1))} are not finite"
        )
    wrong = (labels < 0) | (labels >= n_classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"video {row} has the label {labels[row]}, but there are the classes 0 to {n_classes - 1}"
        )
    if n_classes < 2:
        raise ValueError("linear discriminant analysis needs at least two classes, got 1 class")
    lacking = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
    if len(lacking):
        raise ValueError(
            f"{len(lacking)} of {n_classes} classes have no videos to compute the lda classifier from, class "
            f"{lacking[0]} the first. Give at least one video of each, or use the text classifier."
        )
    return features, labels.astype(np.intp)


def _first_projection(dimension: int, rows: int, rng: np.random.RandomState) -> NDArray[np.float64]:
    """[D, D']: the identity, or where they differ one that keeps lengths, or else right angles."""
    if dimension == rows:
        return np.eye(dimension)
    larger = max(dimension, rows)
    q, _ = np.linalg.qr(rng.standard_normal((larger, larger)))
    return q[:dimension, :rows]


def _learned_projection(
    X: NDArray,
    codes: NDArray,
    rows: NDArray,
    first: NDArray,
    *,
    scale: float,
    max_iter: int,
    weight_decay: float,
) -> tuple[NDArray[np.float64], int]:
    """(P [D, D'], iterations) that makes small

        mean over videos of cross entropy(scale * u(x P) . u(W)) + weight_decay * |P - first|^2

    X [N, D], codes [N] in 0..C-1, rows W [C, D'] frozen, first [D, D'] where P begins. No randomness: L-BFGS over
    all videos at once. Raises ValueError where it runs into numbers that are not finite.
    """
    import torch
    import torch.nn.functional as F

    if max_iter == 0:
        return first, 0
    videos = torch.from_numpy(_unit_rows(X).astype(np.float32))
    truth = torch.from_numpy(codes.astype(np.int64))
    classes = F.normalize(torch.from_numpy(rows.astype(np.float32)), dim=1)
    start = torch.from_numpy(first.astype(np.float32))
    change = torch.zeros_like(start, requires_grad=True)
    solver = torch.optim.LBFGS(
        [change],
        max_iter=max_iter,
        max_eval=10 * max_iter,
        history_size=10,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        cosines = F.normalize(videos @ (start + change), dim=1) @ classes.T
        value = F.cross_entropy(scale * cosines, truth) + weight_decay * change.square().sum()
        if not torch.isfinite(value):
            raise ValueError(
                f"the projection ran away with scale={scale} and weight_decay={weight_decay}: use a smaller scale "
                "or a larger weight_decay"
            )
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    learned = change.detach().numpy()
    return first + learned.astype(np.float64), int(solver.state[change]["n_iter"])


def _unit_rows(vectors: NDArray) -> NDArray:
    """Rows of length one in their own dtype; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _labeled_videos(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike | None, dtype: Any) -> Any:
    """(videos [N, D], labels [N]) as scikit-learn wants them for fit. Raises ValueError."""
    videos, labels = _any(validate_data)(estimator, X, y, dtype=dtype)
    check_classification_targets(labels)
    return videos, labels


def _known_videos(estimator: BaseEstimator, X: ArrayLike, dtype: Any) -> NDArray:
    """Videos [N, D] with the D of fit. Raises NotFittedError or ValueError."""
    check_is_fitted(estimator)
    return _any(validate_data)(estimator, X, dtype=dtype, reset=False)


def _any(function: Any) -> Any:
    return function  # scikit-learn has no types, and those guessed from its defaults are wrong


def _indexed(labels: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """(classes [C] sorted, index [N] of each label among them). Raises ValueError for a single class."""
    classes, codes = np.unique(labels, return_inverse=True)
    _check_several(classes)
    return classes, codes


def _named_classes(names: Sequence[Any]) -> NDArray:
    classes = np.asarray(names)
    if classes.ndim != 1:
        raise ValueError(f"names must be a list of classes, got the shape {classes.shape}")
    different, counts = np.unique(classes, return_counts=True)
    if len(different) < len(classes):
        twice = different[counts > 1].tolist()[0]
        raise ValueError(f"names has {twice!r} more than once; a class is named once")
    _check_several(classes)
    return classes


def _places(y: NDArray, classes: NDArray) -> NDArray[np.intp]:
    """Index [N] of each label among the classes. Raises ValueError for a label that is none of them."""
    place = {name: index for index, name in enumerate(classes.tolist())}
    labels = y.tolist()
    foreign = [label for label in dict.fromkeys(labels) if label not in place]
    if foreign:
        raise ValueError(
            f"y has {len(foreign)} labels that are not among the {len(place)} names, {foreign[0]!r} the first"
        )
    return np.array([place[label] for label in labels], np.intp)


def _check_several(classes: NDArray) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"a classifier needs at least two classes, got {len(classes)} class: {classes.tolist()}"
        )


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
