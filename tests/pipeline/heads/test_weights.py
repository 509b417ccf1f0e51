"""Class embeddings of every kind: noise by its statistics, LDA by its definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from vidclip.pipeline.choices import CLASSIFIERS
from vidclip.pipeline.heads import classifier_weights


def some_videos(rng, *, classes=5, per_class=20, dimension=16, noise=1.0):
    """(X, labels, centers): clusters around centers, not normalized."""
    centers = rng.standard_normal((classes, dimension))
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    return centers[labels] + noise * rng.standard_normal((len(labels), dimension)), labels, centers


def lda_by_definition(X, labels):
    """[C, D] float64: S^+ (m_c - m), with S the covariance within classes."""
    means = np.stack([X[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    S = np.cov(X - means[labels], rowvar=False, bias=True)
    return (means - X.mean(axis=0)) @ np.linalg.pinv(S)


def directions(vectors):
    """Older versions of scikit-learn divide S by N - C, which cosines do not see."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("sizes", [(20, 20, 20, 20), (3, 30, 12, 7)])
def test_lda_equals_its_definition(rng, sizes):
    labels = rng.permutation(np.repeat(np.arange(4), sizes))
    X = rng.standard_normal((4, 6))[labels] + rng.standard_normal((len(labels), 6))
    found = classifier_weights("lda", n_classes=4, dimension=6, features=X, labels=labels)
    assert_allclose(directions(found), directions(lda_by_definition(X, labels)), atol=1e-6)


def test_lda_of_two_classes_is_the_difference_and_its_negative(rng):
    X, labels, _ = some_videos(rng, classes=2, noise=2.0)
    first, second = lda_by_definition(X, labels)
    found = classifier_weights("lda", n_classes=2, dimension=16, features=X, labels=labels)
    both = np.stack([first - second, second - first])
    assert_allclose(directions(found), directions(both), atol=1e-6)


@pytest.mark.parametrize(("per_class", "drawn"), [(70, True), (20, False)])
def test_lda_draws_sixty_videos_of_a_class_with_the_seed(rng, per_class, drawn):
    X, labels, _ = some_videos(rng, per_class=per_class)
    one, same, other = (
        classifier_weights("lda", n_classes=5, dimension=16, features=X, labels=labels, seed=seed)
        for seed in (1, 1, 2)
    )
    of_all = LinearDiscriminantAnalysis().fit(X, labels).coef_.astype(np.float32)
    assert_array_equal(one, same)
    assert np.array_equal(one, other) != drawn
    assert np.array_equal(one, of_all) != drawn


def test_random_embeddings_are_standard_normal():
    weights = classifier_weights("random", n_classes=100, dimension=512, seed=1)
    assert weights.shape == (100, 512)
    assert weights.dtype == np.float32
    assert scipy.stats.kstest(weights.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(weights[:, :-1].ravel(), weights[:, 1:].ravel())[0, 1]) < 0.02


def test_noise_depends_on_the_seed_alone(rng):
    X, labels, centers = some_videos(rng)
    size = {"n_classes": 5, "dimension": 16}
    for kind in ("random", "linear", "orthogonal"):
        alone = classifier_weights(kind, **size, seed=4)
        with_all = classifier_weights(kind, **size, seed=4, features=X, labels=labels, text=centers)
        assert_array_equal(alone, with_all)
        assert not np.allclose(alone, classifier_weights(kind, **size, seed=5))
    assert_array_equal(
        classifier_weights("random", **size, seed=4), classifier_weights("linear", **size, seed=4)
    )


@pytest.mark.parametrize(("classes", "dimension"), [(3, 64), (64, 64), (101, 512)])
def test_orthogonal_embeddings_are_orthonormal(classes, dimension):
    weights = classifier_weights("orthogonal", n_classes=classes, dimension=dimension)
    assert_allclose(weights @ weights.T, np.eye(classes), atol=1e-5)


def test_every_kind_has_its_shape(rng):
    X, labels, _ = some_videos(rng)
    text = rng.standard_normal((5, 24))  # of another encoder
    for kind in CLASSIFIERS:
        weights = classifier_weights(kind, n_classes=5, dimension=16, features=X, labels=labels, text=text)
        assert weights.shape == (5, 24 if kind == "text" else 16)
        assert weights.dtype == np.float32


def test_rejects_what_does_not_fit(rng):
    X, labels, centers = some_videos(rng)

    def make(kind, **more):
        return classifier_weights(kind, **{"n_classes": 5, "dimension": 16, **more})

    with pytest.raises(ValueError, match="kind must be one of text, random, orthogonal, lda, linear"):
        make("bert")
    with pytest.raises(ValueError, match="n_classes must be at least 1"):
        make("random", n_classes=0)
    with pytest.raises(ValueError, match="6 classes cannot have orthogonal embeddings in 4 dimensions"):
        make("orthogonal", n_classes=6, dimension=4)
    with pytest.raises(ValueError, match="needs text"):
        make("text")
    with pytest.raises(ValueError, match=r"\[C, D'\] of 5 classes, got the shape \(3, 16\)"):
        make("text", text=centers[:3])
    with pytest.raises(ValueError, match="class 2 that is zero or not finite"):
        make("text", text=centers * [[1], [1], [0], [1], [1]])
    with pytest.raises(ValueError, match="needs features"):
        make("lda", labels=labels)
    with pytest.raises(ValueError, match=r"2 of 5 classes have no videos .*class 1 the first"):
        kept = (labels != 1) & (labels != 3)
        make("lda", features=X[kept], labels=labels[kept])
    with pytest.raises(ValueError, match="class indices from 0 to 3, got int64 from 0 to 4"):
        make("lda", features=X, labels=labels, n_classes=4)
    with pytest.raises(ValueError, match="class indices from 0 to 4, got float64"):
        make("lda", features=X, labels=labels.astype(float))
    with pytest.raises(ValueError, match="at least two classes"):
        make("lda", features=X, labels=np.zeros_like(labels), n_classes=1)
    with pytest.raises(ValueError, match=r"features must be \[N, 16\]"):
        make("lda", features=X[:, :8], labels=labels)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make("lda", features=X, labels=labels[1:])
    with pytest.raises(ValueError, match="contains infinity"):
        make("lda", features=np.where(X[7, 0] == X, np.inf, X), labels=labels)
