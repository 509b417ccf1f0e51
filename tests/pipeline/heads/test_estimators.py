"""The estimators against scikit-learn, and against cosines written out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from vidclip.pipeline.heads import CosineClassifier, LDAClassifier, LinearProbe
from vidclip.pipeline.scoring import cosine_scores, l2_normalize

NAMES = ["archery", "baby crawling", "clapping", "diving", "eating"]


@pytest.fixture(autouse=True)
def one_thread():
    """The problems are tiny: threads that wait for one another take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


def some_videos(rng, *, classes=5, per_class=20, dimension=16, noise=1.0):
    """(X, labels, centers): clusters around centers, not normalized."""
    centers = rng.standard_normal((classes, dimension))
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    return centers[labels] + noise * rng.standard_normal((len(labels), dimension)), labels, centers


@parametrize_with_checks(
    [LDAClassifier(), LinearProbe()],
    expected_failed_checks=lambda _: {
        "check_dataframe_column_names_consistency": "dimensions of embeddings have no names"
    },
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def test_settings_can_be_searched_in_a_pipeline(rng):
    X, labels, centers = some_videos(rng)
    y = np.array(NAMES)[labels]
    cosines = make_pipeline(FunctionTransformer(l2_normalize), CosineClassifier(centers, NAMES))
    search = GridSearchCV(cosines, {"cosineclassifier__scale": [1.0, 100.0]}, cv=2, scoring="neg_log_loss")
    assert search.fit(X, y).best_estimator_.score(X, y) > 0.8
    probe = GridSearchCV(LinearProbe(), {"C": [0.01, 0.316]}, cv=2).fit(X, y)
    assert set(probe.predict(X)) <= set(NAMES)


# --- cosines ---


def test_scores_are_the_scaled_cosines(rng):
    X, labels, centers = some_videos(rng)
    model = CosineClassifier(centers, scale=30.0).fit(7 * X, labels)
    expected = 30 * cosine_scores(X, centers)
    assert_allclose(model.decision_function(X), expected, atol=1e-4)
    assert_array_equal(model.predict(X), expected.argmax(axis=1))
    probabilities = model.predict_proba(X)
    assert probabilities.dtype == np.float64
    assert_allclose(probabilities, scipy.special.softmax(expected.astype(float), axis=1), atol=1e-4)
    assert_allclose(model.decision_function(X[:1]), model.decision_function(X)[:1], rtol=1e-12)


def test_two_classes_have_one_score(rng):
    X, labels, centers = some_videos(rng, classes=2)
    model = CosineClassifier(centers).fit(X, labels)
    cosines = 100 * cosine_scores(X, centers)
    assert_allclose(model.decision_function(X), cosines[:, 1] - cosines[:, 0], atol=1e-3)
    assert model.predict_proba(X).shape == (len(X), 2)


def test_classes_without_videos_can_be_predicted(rng):
    X, labels, centers = some_videos(rng, noise=0.1)
    y = np.array(NAMES)[labels]
    seen = labels < 2
    model = CosineClassifier(centers[::-1], NAMES[::-1]).fit(X[seen], y[seen])
    assert model.classes_.tolist() == NAMES[::-1]
    assert model.score(X, y) == 1
    assert_array_equal(clone(model).fit(X).predict(X), y)


def test_cosine_classifier_rejects_what_does_not_fit(rng):
    X, labels, centers = some_videos(rng)
    y = np.array(NAMES)[labels]
    with pytest.raises(ValueError, match=r"must be \[C, 16\] of two classes or more, got shape \(1,\)"):
        CosineClassifier().fit(X)
    with pytest.raises(ValueError, match=r"must be \[C, 16\] of two classes or more, got shape \(5, 8\)"):
        CosineClassifier(centers[:, :8]).fit(X, labels)
    with pytest.raises(ValueError, match="5 different labels"):
        CosineClassifier(centers, [*NAMES[:4], "archery"]).fit(X, y)
    with pytest.raises(ValueError, match="1 labels that are none of the classes, .*'eating'"):
        CosineClassifier(centers, [*NAMES[:4], "juggling"]).fit(X, y)
    with pytest.raises(ValueError, match="scale must be above 0"):
        CosineClassifier(centers, scale=0).fit(X)
    with pytest.raises(ValueError, match="hold numbers that are not finite"):
        CosineClassifier(centers * np.nan).fit(X)
    with pytest.raises(NotFittedError):
        CosineClassifier(centers).predict(X)


# --- discriminant analysis ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 5])
def test_lda_is_scikit_learn_s(rng, dtype, classes):
    X, labels, _ = some_videos(rng, classes=classes, noise=2.0)
    X, y = X.astype(dtype), np.array(NAMES)[labels]
    reference = LinearDiscriminantAnalysis().fit(X, y)
    ours = LDAClassifier().fit(X, y)
    both = np.concatenate([-reference.coef_, reference.coef_]) if classes == 2 else reference.coef_
    assert_array_equal(ours.weights_, both)
    assert_array_equal(ours.predict(X), reference.predict(X))
    assert_array_equal(ours.predict_proba(X), reference.predict_proba(X))
    assert_array_equal(ours.decision_function(X), reference.decision_function(X))


def test_lda_draws_so_many_videos_of_a_class(rng):
    X, labels, _ = some_videos(rng, per_class=20)
    X, labels = np.concatenate([X, X[labels == 0][:1]]), np.append(labels, 5)  # class 5 has one video
    drawn = LDAClassifier(max_per_class=7, random_state=1).fit(X, labels)
    indices = drawn.indices_.tolist()
    assert np.bincount(labels[indices]).tolist() == [7] * 5 + [1]
    assert len(set(indices)) == 36
    reference = LinearDiscriminantAnalysis().fit(X[indices], labels[indices])
    assert_array_equal(drawn.weights_, reference.coef_)
    assert_array_equal(drawn.predict(X), reference.predict(X))
    assert clone(drawn).fit(X, labels).indices_.tolist() == indices
    assert LDAClassifier(max_per_class=7, random_state=2).fit(X, labels).indices_.tolist() != indices
    assert len(LDAClassifier(max_per_class=None).fit(X, labels).indices_) == 101


def test_lda_rejects_too_few_videos(rng):
    X, labels, _ = some_videos(rng)
    with pytest.raises(ValueError, match=r"more videos than classes, and has 5 videos of 5.*text classifier"):
        LDAClassifier(max_per_class=1).fit(X, labels)
    with pytest.raises(ValueError, match="has 5 videos of 5"):
        LDAClassifier().fit(X[:5], np.arange(5))
    with pytest.raises(ValueError, match="max_per_class must be at least 1"):
        LDAClassifier(max_per_class=0).fit(X, labels)


# --- the linear probe ---


@pytest.mark.parametrize("classes", [2, 5])
def test_the_probe_is_logistic_regression_on_embeddings_ten_long(rng, classes):
    X, labels, _ = some_videos(rng, classes=classes, noise=3.0)
    reference = LogisticRegression(C=0.316, max_iter=1000).fit(10 * normalize(X), labels)
    probe = LinearProbe().fit(X, labels)
    assert_allclose(probe.decision_function(X), reference.decision_function(10 * normalize(X)), rtol=1e-6)
    assert_allclose(probe.predict_proba(3 * X), reference.predict_proba(10 * normalize(X)), rtol=1e-6)
    assert_array_equal(probe.predict(X), reference.predict(10 * normalize(X)))
    both = reference.coef_ if classes > 2 else np.concatenate([-reference.coef_, reference.coef_])
    assert_allclose(probe.weights_, both, rtol=1e-6)


@pytest.mark.parametrize("estimator", [LDAClassifier(), LinearProbe()], ids=lambda e: type(e).__name__)
def test_rejects_one_class_and_missing_numbers(rng, estimator):
    X, labels, _ = some_videos(rng)
    with pytest.raises(ValueError, match="(got 1 class|only one class)"):
        clone(estimator).fit(X, np.zeros_like(labels))
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clone(estimator).fit(X, labels)
