"""Scores in two languages, fused, without training."""

import numpy as np
import pytest
from scipy.special import softmax

from vidclip.pipeline.scoring import (
    LanguageScorer,
    MeanScorer,
    VoteScorer,
    agreement,
    deranged,
    fuse_languages,
)

CLASSES = np.arange(5)


@pytest.fixture
def frames(rng):
    return rng.standard_normal((7, 2, 4, 16)).astype(np.float32)


@pytest.fixture
def sentences(rng):
    return [rng.standard_normal((5, 16)).astype(np.float32) for _ in range(2)]


def u(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def scored(scorer, frames, classes=CLASSES):
    return scorer.scores(scorer.similarities(np.arange(len(frames)), frames), classes)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5])
def test_with_mean_pooling_the_fusion_is_one_classifier_with_summed_rows(frames, sentences, weight):
    first, second = (MeanScorer(each) for each in sentences)
    fused = fuse_languages(first, second, weight, form="scores", name="both")
    rows = weight * u(sentences[0].astype(np.float64)) + (1 - weight) * u(sentences[1].astype(np.float64))
    expected = u(frames.astype(np.float64).mean(axis=(1, 2))) @ rows.T
    np.testing.assert_allclose(scored(fused, frames), expected, atol=1e-6)


@pytest.mark.parametrize("make", [MeanScorer, VoteScorer])
def test_weight_one_gives_the_first_language_to_the_bit(frames, sentences, make):
    first, second = (make(each) for each in sentences)
    fused = fuse_languages(first, second, 1.0, form="scores", name="both")
    np.testing.assert_array_equal(scored(fused, frames), scored(first, frames))
    other = fuse_languages(first, second, 0.9, form="scores", name="both")
    assert (scored(other, frames) != scored(first, frames)).any()


def test_probabilities_are_fused_among_the_candidates_of_a_trial(frames, sentences):
    some = np.array([3, 0, 4])
    fused = fuse_languages(*(MeanScorer(each) for each in sentences), 0.25, form="probabilities", name="both")
    video = u(frames.astype(np.float64).mean(axis=(1, 2)))
    first, second = (softmax(video @ u(each.astype(np.float64))[some].T / 0.01, axis=1) for each in sentences)
    np.testing.assert_allclose(scored(fused, frames, some), 0.25 * first + 0.75 * second, atol=2e-5)


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_rejects_a_weight_that_is_none(sentences, weight):
    first, second = (MeanScorer(each) for each in sentences)
    with pytest.raises(ValueError, match="between 0 and 1"):
        LanguageScorer(first, second, weight, name="both")


def test_agreement_counts_the_classes_that_find_themselves(rng):
    first = np.eye(6, 8, dtype=np.float32)
    assert agreement(first, 3 * first) == 1
    swapped = first[[1, 0, 2, 3, 4, 5]]
    assert agreement(first, swapped) == pytest.approx(4 / 6)
    many = rng.standard_normal((2, 400, 64)).astype(np.float32)
    assert agreement(*many) < 0.02  # chance is 1 / 400


@pytest.mark.parametrize("count", [2, 3, 75])
def test_a_derangement_moves_every_class(count):
    order = deranged(count)
    assert sorted(order) == list(range(count))
    assert (order != np.arange(count)).all()
