"""`none of these`: the threshold against conformal p-values, and a loop that leaves classes out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from helpers import write_noisy_world
from vidclip.cache import FeatureCache
from vidclip.lexicons import Lexicon, load_lexicon
from vidclip.pipeline.evaluation import (
    EvaluationError,
    choose_rejection,
    known_and_outside,
    rejection_threshold,
    zero_shot_predictor,
)

NAMES = load_lexicon("demo-classes").labels[:8]


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (40, 0.05), (99, 0.1), (7, 0.5), (30, 0.99)])
def test_a_video_is_named_where_its_conformal_p_value_is_at_most_the_rate(rng, n, rate):
    outside = np.round(rng.random(n), 2)  # with ties
    threshold = rejection_threshold(outside, rate)
    for confidence in np.linspace(0, 1, 101).round(2):
        p = (1 + sum(each >= confidence for each in outside)) / (n + 1)
        assert (confidence > threshold) == (p <= rate + 1e-12), confidence


def test_the_promise_holds_on_average_and_is_no_looser_than_it_need_be(rng):
    shares = []
    for _ in range(4000):
        drawn = rng.beta(5, 2, 60)
        shares.append(drawn[0] > rejection_threshold(drawn[1:], 0.1))
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)


def test_too_few_videos_cannot_show_a_rate():
    assert rejection_threshold(np.arange(19.0), 0.05) == 18
    with pytest.raises(
        EvaluationError, match="18 videos outside the lexicon cannot show a share of 0.05: 19"
    ):
        rejection_threshold(np.arange(18.0), 0.05)


def test_each_class_meets_the_threshold_of_the_others():
    outside = np.array([0.1, 0.2, 0.3, 0.4, 0.8, 0.9, 0.15, 0.25])
    groups = ["a", "a", "a", "a", "b", "b", "c", "c"]
    known = np.array([0.1, 0.5, 0.95])
    found = choose_rejection(outside, groups, known, 0.25, rule="outside", split="val")
    assert found.threshold == 0.8  # floor(0.25 * 9) = 2
    # a at the highest of four of b and c, b at that of six of a and c, c at that of six of a and b
    assert found.new_class == pytest.approx(((0 + 1 + 0) / 3, 0, 1))
    assert (found.n_outside, found.n_outside_classes, found.n_known) == (8, 3, 3)
    assert found.known_named == pytest.approx(1 / 3)
    assert choose_rejection(outside[:4], groups[:4], known, 0.25, rule="outside", split="").new_class is None


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    videos = [(f"{split}{c}{i}", name, split) for split in ("val", "test") for c, name in enumerate(NAMES) for i in range(6)]  # fmt: skip
    videos.append(("unlabeled", "", "val"))
    return FeatureCache(write_noisy_world(tmp_path_factory.mktemp("world") / "features", videos))


def cosines(cache, names):
    """Of the mean frame of each video with the sentences of names, in float64."""
    from vidclip.pipeline.encoders import load_encoder

    rows = load_encoder("demo", device="cpu").encode_text(names, ["This is a video about {}"]).sentence
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    videos = cache.frames()[:, 0].astype(float).mean(axis=1)
    return (videos / np.linalg.norm(videos, axis=1, keepdims=True)) @ rows.T


def test_videos_outside_the_lexicon_choose_the_threshold(cache):
    lexicon = Lexicon("five", NAMES[:5], NAMES[:5])
    known, outside, groups = known_and_outside(cache, lexicon, "val")
    assert len(known) == 30
    assert {cache.labels[i][0] for i in outside} == set(groups) == set(NAMES[5:])
    predictor = zero_shot_predictor(cache, lexicon).rejecting(cache, "val", 0.2)
    confidence = softmax(cosines(cache, NAMES[:5]) / 0.01, axis=1).max(axis=1)
    found = predictor.rejection
    assert found.rule == "outside"
    assert found.threshold == pytest.approx(
        np.sort(confidence[outside])[::-1][2], rel=1e-4
    )  # floor(.2 * 19) = 3
    assert found.known_named == pytest.approx(np.mean(confidence[known.indices] > found.threshold))
    for each in predictor.predict(cache, "test"):
        assert each.none_of_these == (each.best[0].probability <= found.threshold)


def test_where_all_are_in_it_each_class_is_left_out(cache):
    lexicon = Lexicon("eight", NAMES, NAMES)
    found = zero_shot_predictor(cache, lexicon).rejecting(cache, "val", 0.1).rejection
    expected = []
    for i, row in enumerate(cosines(cache, NAMES)):
        if cache.splits[i] == "val" and cache.labels[i]:
            others = np.delete(row, NAMES.index(cache.labels[i][0]))
            expected.append(softmax(others / 0.01).max())
    assert (found.rule, found.n_outside) == ("left-out", 48)
    assert found.threshold == pytest.approx(np.sort(expected)[::-1][3], rel=1e-4)  # floor(.1 * 49) = 4


def test_what_cannot_choose_a_threshold_is_said(cache):
    two = zero_shot_predictor(cache, Lexicon("two", NAMES[:2], NAMES[:2]))
    assert two.rejecting(cache, "val", 0.1).rejection.rule == "outside"
    with pytest.raises(EvaluationError, match="has test, val, not 'x'"):
        two.rejecting(cache, "x")
    with pytest.raises(
        EvaluationError, match="36 videos outside the lexicon cannot show a share of 0.01: 99"
    ):
        two.rejecting(cache, "val", 0.01)
    with pytest.raises(EvaluationError, match="lies between 0 and 1"):
        two.with_threshold(1.5)
