"""Temperature scaling and its error: against scipy's minimum and scikit-learn's bins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve

from vidclip.pipeline.evaluation import (
    EvaluationError,
    calibrate,
    calibration_error,
    fit_temperature,
    scaled_softmax,
)


def drawn(rng, temperature, n=4000, classes=7, scale=4.0):
    """Logits [n, C], and labels that softmax(logits / temperature) draws."""
    logits = scale * rng.standard_normal((n, classes))
    shares = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > shares[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_likeliest(rng, temperature):
    logits, targets = drawn(rng, temperature)

    def loss(log_t):
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(targets)), targets].mean()

    expected = np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9}).x)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(expected, rel=1e-5)
    assert found == pytest.approx(temperature, rel=0.1)


def test_scaled_softmax_is_scipys(rng):
    logits = 300 * rng.standard_normal((20, 5))
    np.testing.assert_allclose(scaled_softmax(logits, 0.7), softmax(logits / 0.7, axis=1), rtol=1e-9)


def test_the_error_is_that_of_scikit_learns_bins(rng):
    confidence = rng.random(5000)
    right = rng.random(5000) < confidence**2
    share, mean = calibration_curve(right, confidence, n_bins=15, strategy="uniform")
    n = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    expected = 100 * np.average(np.abs(share - mean), weights=n)
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_the_ends_of_the_bins_belong_to_the_bin_below():
    # Twice 0.5, once right: in one bin of (0, 0.5], no error; 1.0 and 0.0 have a bin too.
    assert calibration_error(np.array([0.5, 0.5]), np.array([True, False]), bins=2) == 0
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, False])) == pytest.approx(50)


def test_calibration_lowers_the_error_on_videos_it_was_not_fitted_on(rng):
    logits, targets = drawn(rng, 3.0)
    found = calibrate(logits, targets, "val")
    assert (found.n_videos, found.split) == (4000, "val")
    assert found.temperature == fit_temperature(logits, targets)
    before = calibration_error(softmax(logits, axis=1).max(axis=1), logits.argmax(axis=1) == targets)
    assert found.error_before == pytest.approx(before)
    assert found.error_before > 20
    assert found.error_after < 4


def test_what_no_temperature_fits_is_refused(rng):
    logits = rng.standard_normal((30, 4))
    with pytest.raises(EvaluationError, match="all 30 videos are right"):
        fit_temperature(logits, logits.argmax(axis=1))
    with pytest.raises(EvaluationError, match="no more of their labels than chance"):
        fit_temperature(logits, logits.argmin(axis=1))
    with pytest.raises(EvaluationError, match="1 labeled videos are too few"):
        calibrate(logits[:1], np.array([0]))
