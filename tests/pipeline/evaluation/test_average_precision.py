"""Average precision against scikit-learn, against counting by hand, and intervals against drawing again."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import average_precision_score

from vidclip.pipeline.evaluation import (
    average_precision,
    average_precisions,
    classification_metrics,
    mean_average_precision,
    moved_interval,
    multi_label_metrics,
    resampled_maps,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@st.composite
def scored_videos(draw):
    """Scores with many ties, and any number of labels a video; some classes have none."""
    n_videos, n_classes = draw(st.integers(1, 14)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = rng.integers(0, draw(st.integers(1, 12)), (n_videos, n_classes)) / 4
    return scores, rng.random((n_videos, n_classes)) < draw(st.sampled_from([0.1, 0.4, 0.9]))


def of_scikit_learn(scores, targets):
    """[C]; NaN where it is not defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without positives
        areas = [
            average_precision_score(truth, of_class)
            for of_class, truth in zip(scores.T, targets.T, strict=True)
        ]
    return np.where(targets.any(axis=0), areas, np.nan)


def bootstrap(scores, targets, rng, repeats=1000, level=0.95, **form):
    """The interval of the figure, as `evaluate_multi_label` makes it."""
    means = resampled_maps(scores, targets, rng, repeats, **form)
    return moved_interval(means, mean_average_precision(scores, targets, **form), level, (0, 100))


def test_areas_by_hand():
    scores = [[4, 1], [3, 2], [2, 3], [1, 4]]
    targets = np.array([[1, 0], [0, 0], [1, 1], [0, 0]], bool)
    assert_allclose(average_precisions(scores, targets), [(1 / 1 + 2 / 3) / 2, 1 / 2])
    assert_allclose(mean_average_precision(scores, targets), 100 * (5 / 6 + 1 / 2) / 2)


@given(scored_videos())
def test_areas_equal_scikit_learns_with_ties_and_without_positives(test):
    assert_allclose(average_precisions(*test), of_scikit_learn(*test), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_areas_of_many_videos_equal_scikit_learns(rng, monkeypatch, dtype):
    scores, targets = rng.normal(size=(700, 9)).astype(dtype), rng.random((700, 9)) < 0.05
    expected = of_scikit_learn(scores, targets)
    assert_allclose(average_precisions(scores, targets), expected)
    assert_allclose(mean_average_precision(scores, targets), 100 * expected.mean())
    monkeypatch.setattr(average_precision, "BLOCK_ELEMENTS", 1400)  # 2 classes a block
    assert_allclose(average_precisions(scores, targets), expected)


@given(scored_videos(), st.randoms(use_true_random=False))
def test_the_order_of_videos_does_not_count_nor_does_the_scale(test, random):
    scores, targets = test
    order = random.sample(range(len(scores)), len(scores))
    expected = average_precisions(scores, targets)
    assert_allclose(average_precisions(scores[order], targets[order]), expected, rtol=1e-12)
    assert_array_equal(average_precisions(scores * 8 - 3, targets), expected)


def test_constant_scores_are_worth_the_share_of_positives():
    targets = np.arange(40)[:, None] % [2, 5, 40] == 0
    assert_allclose(average_precisions(np.zeros((40, 3)), targets), [1 / 2, 1 / 5, 1 / 40])


def test_perfect_scores_are_worth_all(rng):
    targets = rng.random((30, 4)) < 0.3
    assert mean_average_precision(targets.astype(np.float32), targets) == 100
    assert mean_average_precision(targets, targets, released=True) == 100


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint8, np.int64])
def test_scores_are_compared_in_their_own_type(rng, released, dtype):
    # The smallest int8 has no negative, and negated unsigned numbers wrap.
    scores, targets = rng.integers(0, 256, (50, 3)).astype(np.uint8), rng.random((50, 3)) < 0.2
    expected = mean_average_precision(scores.astype(float), targets, released=released)
    shifted = (scores.astype(int) - (128 if dtype == np.int8 else 0)).astype(dtype)
    assert mean_average_precision(shifted, targets, released=released) == expected


def test_scores_too_close_for_a_narrower_type_are_still_apart():
    scores = np.array([[2**60], [2**60 + 1]])
    assert_array_equal(average_precisions(scores, [[False], [True]]), [1])
    assert_array_equal(average_precisions(scores.astype(float), [[False], [True]]), [1 / 2])


@pytest.mark.parametrize("released", [False, True])
def test_infinite_scores_are_scores(rng, released):
    scores, targets = rng.integers(-3, 4, (60, 4)).astype(float), rng.random((60, 4)) < 0.3
    infinite = np.select([scores == 3, scores == -3], [np.inf, -np.inf], scores)
    assert mean_average_precision(infinite, targets, released=released) == mean_average_precision(
        scores, targets, released=released
    )


# --- conventions


def counted_by_hand(scores, targets):
    """The released figure, place by place, in exact fractions."""
    areas = []
    for of_class, truth in zip(scores.T, targets.T, strict=True):
        found, area = 0, Fraction(0)
        ranked = sorted(range(len(of_class)), key=lambda video: -of_class[video])  # keeps the order of equals
        for place, video in enumerate(ranked, start=1):
            if truth[video]:
                found += 1
                area += Fraction(found, place)
        areas.append(area / max(found, 1))
    return float(100 * sum(areas) / len(areas))


@given(scored_videos())
def test_released_is_the_precision_at_each_positive_with_absent_classes_as_0(test):
    scores, targets = test
    assume(targets.any())
    released = mean_average_precision(scores, targets, released=True)
    assert_allclose(released, counted_by_hand(scores, targets), rtol=1e-12)


def test_without_ties_and_absent_classes_the_conventions_agree(rng):
    scores, targets = rng.normal(size=(80, 6)), np.arange(80)[:, None] % 6 == np.arange(6)
    assert_allclose(
        mean_average_precision(scores, targets),
        mean_average_precision(scores, targets, released=True),
    )


def test_absent_classes_are_left_out_or_count_as_0(rng):
    scores, targets = rng.normal(size=(80, 6)), rng.random((80, 6)) < 0.2
    targets[:, [1, 4]] = False
    present = mean_average_precision(scores[:, [0, 2, 3, 5]], targets[:, [0, 2, 3, 5]])
    assert_allclose(mean_average_precision(scores, targets), present)
    assert_allclose(mean_average_precision(scores, targets, released=True), present * 4 / 6)
    assert_array_equal(np.isnan(average_precisions(scores, targets)), [0, 1, 0, 0, 1, 0])


def test_released_ties_keep_the_order_of_the_videos_and_standard_ones_do_not_care():
    for positive, released in ((0, 100), (3, 25)):
        targets = np.arange(4)[:, None] == positive
        assert mean_average_precision(np.zeros((4, 1)), targets, released=True) == released
        assert mean_average_precision(np.zeros((4, 1)), targets) == 25


# --- all figures


def test_figures_by_hand():
    scores = [[3, 2, 1, 0], [0, 3, 1, 2], [1, 2, 3, 0], [3, 2, 1, 0]]
    targets = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
    metrics = multi_label_metrics(scores, targets)
    assert_allclose(metrics.top1, 100 * 2 / 3)  # the last video has no label, and is not tested at top-1
    assert metrics.map == mean_average_precision(scores, targets)
    assert (metrics.n_videos, metrics.n_unlabeled, metrics.n_classes, metrics.n_absent) == (4, 1, 4, 1)
    released = multi_label_metrics(scores, targets, released=True)
    assert released.map == mean_average_precision(scores, targets, released=True) < metrics.map
    assert released.top1 == metrics.top1


@given(scored_videos(), st.integers(0, 2**32))
def test_top_1_of_single_labels_is_top_1(test, seed):
    scores, _ = test
    labels = np.random.default_rng(seed).integers(0, scores.shape[1], len(scores))
    targets = labels[:, None] == np.arange(scores.shape[1])
    assert_allclose(multi_label_metrics(scores, targets).top1, classification_metrics(scores, labels).top1)


# --- intervals


@pytest.fixture
def ranked(rng):
    """Scores in quarters of which 1 in 10 is a positive, somewhat better than chance."""
    targets = rng.random((120, 5)) < 0.1
    return np.round((rng.normal(size=(120, 5)) + 1.5 * targets) * 4) / 4, targets


def test_resamples_are_the_figures_of_videos_drawn_with_replacement(ranked):
    scores, targets = ranked
    drawn = np.random.default_rng(3).integers(120, size=(20, 120))
    expected = [100 * np.nanmean(of_scikit_learn(scores[rows], targets[rows])) for rows in drawn]
    assert_allclose(resampled_maps(scores, targets, np.random.default_rng(3), 20), expected)


def test_resamples_do_not_depend_on_the_blocks_they_are_drawn_in(ranked, monkeypatch):
    whole = resampled_maps(*ranked, np.random.default_rng(3), 20)
    monkeypatch.setattr(average_precision, "_BLOCK_WEIGHTS", 7 * 120)  # 7, 7 and 6 resamples
    assert_array_equal(resampled_maps(*ranked, np.random.default_rng(3), 20), whole)


def test_classes_a_resample_lacks_are_left_out_of_it():
    # Each video is the one positive of its class and scores best there: 100 whichever are drawn.
    assert_allclose(resampled_maps(np.eye(6), np.eye(6, dtype=bool), np.random.default_rng(0), 50), 100)


def test_resamples_without_a_label_have_no_figure_and_are_left_out_of_the_interval(rng, monkeypatch):
    scores, targets = np.array([[2.0], [1.0]]), np.array([[True], [False]])
    means = resampled_maps(scores, targets, rng, 400)
    assert 60 < np.isnan(means).sum() < 140  # 1 in 4 draws the second video twice
    interval = bootstrap(scores, targets, rng, 400)
    assert_allclose([interval.low, interval.high], 100)
    monkeypatch.setattr(average_precision, "_draw_counts", lambda *_: np.array([[0.0, 2.0]]))
    with pytest.raises(ValueError, match="none of the 1 resamples has a video with a label: ask for more"):
        bootstrap(scores, targets, rng, 1)


def test_the_interval_has_the_spread_of_other_test_sets_around_the_figure():
    def another(rng):
        targets = rng.random((300, 10)) < 0.06
        return rng.normal(size=(300, 10)) + 1.5 * targets, targets

    rng = np.random.default_rng(0)
    figures = [mean_average_precision(*another(rng)) for _ in range(400)]
    drawn = [another(rng) for _ in range(60)]
    intervals = [bootstrap(*test, rng, 200) for test in drawn]
    spread = np.diff(np.quantile(figures, [0.025, 0.975]))
    assert_allclose(np.mean([each.high - each.low for each in intervals]), spread, rtol=0.15)
    assert np.mean([each.low <= np.mean(figures) <= each.high for each in intervals]) > 0.85
    # The percentiles themselves lie too high: what the interval is moved for.
    shift = [resampled_maps(*test, rng, 50).mean() - mean_average_precision(*test) for test in drawn]
    assert np.mean(shift) > 1


@settings(max_examples=25)
@given(scored_videos(), st.floats(0.05, 0.9), st.integers(0, 9))
def test_intervals_widen_with_the_level_and_repeat(test, level, seed):
    assume(test[1].any(axis=1).mean() > 0.3)
    interval, wider, again = (
        bootstrap(*test, np.random.default_rng(seed), repeats=100, level=each) for each in (level, 0.95, 0.95)
    )
    assert 0 <= wider.low <= interval.low <= interval.high <= wider.high <= 100
    assert wider == again


def test_the_interval_holds_the_figure_where_percentiles_do_not(rng):
    targets = rng.random((800, 150)) < 0.03
    scores = rng.normal(size=(800, 150)) + targets
    figure = mean_average_precision(scores, targets)
    assert np.quantile(resampled_maps(scores, targets, rng, 100), 0.025) > figure
    interval = bootstrap(scores, targets, rng, 100)
    assert interval.low < figure < interval.high


def test_the_interval_ends_at_0_and_100(rng):
    scores, targets = -np.arange(50.0)[:, None], np.arange(50)[:, None] == 4
    means = resampled_maps(scores, targets, rng, 1000)
    assert np.nanquantile(means, 0.0005) - np.nanmean(means) + mean_average_precision(scores, targets) < 0
    assert bootstrap(scores, targets, rng, level=0.999).low == 0
    targets = np.arange(50)[:, None] < 20
    interval = bootstrap(scores, targets, rng)
    assert_allclose([interval.low, interval.high], 100)
    assert interval.high <= 100


# --- errors

TRUE = np.array([[True, False], [False, True]])


def resamples(scores, targets):
    return resampled_maps(scores, targets, np.random.default_rng(0), 10)


def released(scores, targets):
    return mean_average_precision(scores, targets, released=True)


@pytest.mark.parametrize(
    "of", [average_precisions, mean_average_precision, released, multi_label_metrics, resamples]
)
@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([[0.0, 1.0], [np.nan, 1.0]], TRUE, r"the scores of video 1 are not numbers \(NaN\)"),
        ([0.0, 1.0], TRUE, r"scores must have the shape \[videos, classes\], got \(2,\)"),
        (
            np.zeros((3, 2)),
            TRUE,
            r"scores have the shape \(3, 2\) \[videos, classes\], but targets have \(2, 2\)",
        ),
        (np.zeros((2, 2)), [0, 1], r"but targets have \(2,\)"),
        (np.zeros((0, 2)), np.zeros((0, 2), bool), "there are no videos"),
        (np.zeros((2, 0)), np.zeros((2, 0), bool), "there are no classes"),
        (np.zeros((2, 2)), TRUE.astype(int), "targets must be booleans, True where .*, but they are int64"),
        ([["a", "b"], ["c", "d"]], TRUE, "scores must be numbers, but they are <U1"),
        (np.zeros((2, 2), complex), TRUE, "scores must be numbers, but they are complex128"),
    ],
)
def test_scores_and_targets_that_do_not_fit(of, scores, targets, message):
    with pytest.raises(ValueError, match=message):
        of(scores, targets)


@pytest.mark.parametrize("of", [mean_average_precision, released, multi_label_metrics, resamples])
def test_no_label_at_all_is_an_error_but_not_class_by_class(of):
    with pytest.raises(ValueError, match="none of the 3 videos has any of the 2 classes"):
        of(np.zeros((3, 2)), np.zeros((3, 2), bool))
    assert_array_equal(average_precisions(np.zeros((3, 2)), np.zeros((3, 2), bool)), [np.nan, np.nan])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.0}, "level must be between 0 and 1, got 1.0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
    ],
)
def test_intervals_of_nothing(rng, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(np.zeros((2, 2)), TRUE, rng, **settings)


def test_absent_classes_count_as_0_in_resamples_too_under_released(rng):
    scores, targets = rng.random((50, 3)), rng.random((50, 3)) < 0.4
    alone = resampled_maps(scores, targets, np.random.default_rng(0), 20)
    scores, targets = np.column_stack([scores, scores[:, 0]]), np.column_stack([targets, np.zeros(50, bool)])
    np.testing.assert_allclose(resampled_maps(scores, targets, np.random.default_rng(0), 20), alone)
    released = resampled_maps(scores, targets, np.random.default_rng(0), 20, released=True)
    np.testing.assert_allclose(released, alone * 3 / 4)
    interval = bootstrap(scores, targets, rng, released=True)
    assert interval.low < mean_average_precision(scores, targets, released=True) < interval.high
