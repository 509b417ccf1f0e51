"""Probabilities of multi-label heads, scaled on labeled videos."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from vidclip.pipeline.evaluation import (
    EvaluationError,
    calibrate_multi_label,
    fit_scaling,
    probability_error,
)


@pytest.fixture
def cases(rng):
    """Logits [400, 6] that are three times as sure as they should be, and 2 too high; and labels."""
    true = 1.5 * rng.standard_normal((400, 6)) - 1
    return 3 * true + 2, rng.random((400, 6)) < expit(true)


def test_the_likelihood_is_the_greatest(cases):
    logits, targets = cases
    a, b = fit_scaling(logits, targets)
    # Where the likelihood is the greatest, its slope in a and in b is 0.
    left = expit(a * logits + b) - targets
    np.testing.assert_allclose([left.mean(), (left * logits).mean()], 0, atol=1e-6)
    np.testing.assert_allclose([a, b], [1 / 3, -2 / 3], atol=0.06)
    np.testing.assert_allclose(fit_scaling(1000 * logits, targets), [a / 1000, b], rtol=1e-4)


def test_the_error_is_that_of_a_plain_loop(cases):
    logits, targets = cases
    p, y = expit(logits).reshape(-1), targets.reshape(-1)
    bins = [[] for _ in range(15)]
    for each, label in zip(p, y, strict=True):
        bins[min(14, max(0, int(np.ceil(each * 15)) - 1))].append((each, label))
    expected = sum(abs(sum(label - each for each, label in own)) for own in bins) / len(p)
    assert probability_error(expit(logits), targets) == pytest.approx(100 * expected)


def test_calibration_brings_the_probabilities_to_the_shares(cases):
    found = calibrate_multi_label(*cases, "val")
    a, b = fit_scaling(*cases)
    assert (found.temperature, found.offset, found.n_videos) == (pytest.approx(1 / a), b, 400)
    assert found.error_after < found.error_before / 5


def test_what_cannot_be_calibrated(cases):
    logits, targets = cases
    for z, y, message in (
        (logits, np.zeros_like(targets), "all of the labels or none"),
        (np.where(targets, 1.0, -1.0), targets, "no scale makes probabilities of that"),
        (-logits, targets, "know no more of their labels than chance"),
        (logits[:1], targets[:1], "1 labeled videos are too few"),
    ):
        with pytest.raises(EvaluationError, match=message):
            calibrate_multi_label(z, y)
