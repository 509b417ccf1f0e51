"""Accuracies against scikit-learn and against counting by hand; intervals against exact distributions."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from vidclip.pipeline.evaluation import (
    bootstrap_interval,
    classification_metrics,
    label_ranks,
    metrics,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@st.composite
def scored_videos(draw):
    """Scores with many ties, and labels."""
    n_videos, n_classes = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(0, 4, (n_videos, n_classes)) / 4, rng.integers(0, n_classes, n_videos)


@given(scored_videos())
def test_ranks_are_places_in_a_stable_sort(test):
    scores, labels = test
    for row, label, rank in zip(scores, labels, label_ranks(scores, labels), strict=True):
        order = sorted(range(len(row)), key=lambda c: -row[c])  # Python's sort keeps the order of equals
        assert order.index(label) == rank


@given(scored_videos())
def test_top_1_is_argmax_and_more_never_hurts(test):
    scores, labels = test
    found = classification_metrics(scores, labels)
    assert_allclose(found.top1, 100 * np.mean(scores.argmax(axis=1) == labels))
    assert found.top1 <= found.top5 <= 100
    assert scores.shape[1] > 5 or found.top5 == 100


@given(scored_videos(), st.integers(-3, 3), st.sampled_from([0.5, 2, 8]))
def test_only_the_order_of_scores_counts(test, shift, scale):
    scores, labels = test
    assert classification_metrics(scores * scale + shift, labels) == classification_metrics(scores, labels)


def test_accuracies_equal_scikit_learn(rng):
    scores, labels = rng.normal(size=(300, 11)).astype(np.float32), rng.integers(0, 11, 300)
    scores[np.arange(300), labels] += 1
    found = classification_metrics(scores, labels)
    for k, figure in ((1, found.top1), (5, found.top5)):
        assert_allclose(figure, 100 * top_k_accuracy_score(labels, scores, k=k, labels=range(11)))
    assert_allclose(found.mean_class, 100 * balanced_accuracy_score(labels, scores.argmax(axis=1)))
    assert (found.n_videos, found.n_classes) == (300, 11)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_classes_without_videos_do_not_count_in_the_mean(rng):
    scores, labels = rng.normal(size=(90, 9)), rng.choice([1, 4, 7], 90, p=[0.8, 0.1, 0.1])
    expected = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert_allclose(classification_metrics(scores, labels).mean_class, 100 * expected)


def test_mean_class_accuracy_by_hand():
    scores = np.eye(3)[[0, 0, 0, 1, 0]]  # predictions
    found = classification_metrics(scores, [0, 0, 0, 1, 1])
    assert_allclose([found.mean_class, found.top1], [(100 + 50) / 2, 80])


def test_constant_scores_are_not_all_right():
    labels = np.arange(20) % 10
    found = classification_metrics(np.zeros((20, 10)), labels)
    assert (found.top1, found.top5, found.mean_class) == (10, 50, 10)


def test_figures_do_not_depend_on_blocks(rng, monkeypatch):
    scores, labels = rng.normal(size=(50, 7)), rng.integers(0, 7, 50)
    whole = classification_metrics(scores, labels)
    monkeypatch.setattr(metrics, "BLOCK_ELEMENTS", 20)  # 2 videos a block
    assert classification_metrics(scores, labels) == whole


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_scores_are_compared_in_their_own_type(dtype):
    assert_array_equal(
        label_ranks(np.array([[1, 3, 2], [0, 5, 5]], dtype), np.array([2, 2], np.uint8)), [1, 1]
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64])
def test_labels_may_be_any_whole_numbers(dtype):
    assert classification_metrics(np.eye(3), np.array([0, 1, 1], dtype)).mean_class == 75


def test_the_video_without_scores_is_named_in_a_long_list_too(monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK_ELEMENTS", 4)
    scores = np.zeros((9, 2))
    scores[7, 1] = np.nan
    with pytest.raises(ValueError, match="the scores of video 7 are not numbers"):
        label_ranks(scores, np.zeros(9, int))


def test_infinite_scores_are_scores():
    assert_array_equal(label_ranks([[-np.inf, 0, np.inf]] * 3, [0, 1, 2]), [2, 1, 0])


def test_fewer_classes_than_five_are_all_right_at_top_5():
    assert classification_metrics([[0.1, 0.9]], [0]).top5 == 100


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([[0.0, 1.0], [np.nan, 1.0]], [1, 1], r"the scores of video 1 are not numbers \(NaN\)"),
        ([[0.0, 1.0], [0.0, 1.0]], [1, 2], "video 1 has the label 2, but the classes are 0 to 1"),
        ([[0.0, 1.0], [0.0, 1.0]], [-1, 0], "video 0 has the label -1"),
        ([[0.0, 1.0]], [0, 1], r"1 videos have scores, but the labels have the shape \(2,\)"),
        ([0.0, 1.0], [0, 1], r"scores must have the shape \[videos, classes\], got \(2,\)"),
        (np.zeros((0, 2)), np.zeros(0, int), "there are no videos"),
        ([[0.0, 1.0]], [1.0], r"labels must be a class index .*, got float64 \(1,\)"),
    ],
)
def test_scores_and_labels_that_do_not_fit(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(scores, labels)


# --- intervals


def test_the_interval_of_hits_has_the_quantiles_of_a_binomial(rng):
    hits = np.arange(500) < 400
    interval = bootstrap_interval(hits, rng, repeats=200_000)
    low, high = scipy.stats.binom(500, 0.8).ppf([0.025, 0.975]) / 500
    assert_allclose([interval.low, interval.high], [low, high], atol=1 / 500)


def test_the_interval_of_differences_equals_scipys(rng):
    values = rng.choice([-1, 0, 1], 200, p=[0.1, 0.6, 0.3])
    ours = bootstrap_interval(values, rng, level=0.9, repeats=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval
    assert_allclose([ours.low, ours.high], theirs, atol=0.01)


def test_the_interval_of_any_values_equals_scipys(rng, monkeypatch):
    values = rng.exponential(size=150)
    monkeypatch.setattr(metrics, "BLOCK_ELEMENTS", 1000)  # several blocks, the last of them shorter
    ours = bootstrap_interval(values, rng, repeats=20_001)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval
    assert_allclose([ours.low, ours.high], theirs, atol=0.01)


def test_drawing_counts_and_drawing_videos_are_the_same_distribution(rng, monkeypatch):
    few, many = rng.choice([0.0, 1.0, 3.0], 100), rng.permutation(np.repeat(rng.exponential(size=100), 20))
    by_counts = [bootstrap_interval(values, rng, repeats=50_000) for values in (few, many)]
    monkeypatch.setattr(metrics, "_MOST_VALUES_COUNTED", 0)
    monkeypatch.setattr(metrics, "_VIDEOS_A_VALUE", 10**6)
    by_videos = [bootstrap_interval(values, rng, repeats=20_000) for values in (few, many)]
    assert_allclose(by_counts, by_videos, atol=0.02)


@pytest.mark.parametrize("special", [0, -1])
def test_every_video_can_be_drawn(rng, monkeypatch, special):
    monkeypatch.setattr(metrics, "_MOST_VALUES_COUNTED", 0)
    values = np.zeros(3)
    values[special] = 1
    assert bootstrap_interval(values, rng, repeats=1000).high == 1  # alone in 1 of 27 resamples


@settings(max_examples=25)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=80), st.floats(0.05, 0.9), st.integers(0, 9))
def test_intervals_lie_in_the_values_widen_with_the_level_and_repeat(values, level, seed):
    interval, wider = (
        bootstrap_interval(values, np.random.default_rng(seed), level=each, repeats=300)
        for each in (level, 0.95)
    )
    slack = 1e-9
    assert (
        min(values) - slack <= wider.low <= interval.low <= interval.high <= wider.high <= max(values) + slack
    )
    assert wider == bootstrap_interval(values, np.random.default_rng(seed), repeats=300)


def test_the_unit_is_that_of_the_values():
    hits = np.arange(50) < 20
    share, percent = (bootstrap_interval(v, np.random.default_rng(1)) for v in (hits, 100 * hits))
    assert_allclose([percent.low, percent.high], [100 * share.low, 100 * share.high])


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([], {}, r"values must be one number for each of one or more videos, got shape \(0,\)"),
        ([[1.0]], {}, r"got shape \(1, 1\)"),
        ([0.0, np.inf], {}, "values must be finite, but that of video 1 is not"),
        ([0.0], {"level": 1.0}, "level must be between 0 and 1, got 1.0"),
        ([0.0], {"repeats": 0}, "repeats must be at least 1, got 0"),
    ],
)
def test_intervals_of_nothing(rng, values, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, rng, **settings)
