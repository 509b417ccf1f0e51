"""Probabilities that mean what they say: temperature scaling, and how far confidence is from accuracy.

n videos, C classes. Whatever a scorer does with frames and views, it ends in probabilities; their logarithms are the logits
here. For one view they are its cosines over its temperature, but for a constant: dividing them is temperature scaling
as published. For several, it scales what was averaged.
Source: Guo et al. 2017, On Calibration of Modern Neural Networks, 4.2 and equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .metrics import checked_labels
from .results import EvaluationError

BINS = 15
"""Of the calibration error, as in the paper."""
_MOST = 1000.0
"""Temperatures beyond this factor, up or down, are none: nothing in the videos says which."""


@dataclass(frozen=True)
class Calibration:
    """A temperature for the logarithms of a scorer's probabilities, and what it brought."""

    temperature: float
    """They are divided by it; 1 leaves them as they are."""
    split: str
    n_videos: int
    """Labeled videos that it was fitted on."""
    error_before: float
    """Expected calibration error in percent, as the scorer has it."""
    error_after: float
    """The same after the scaling; each half of the videos at the temperature of the other half."""
    offset: float = 0.0
    """Of multi-label heads: what is added to the scaled logits; see `multi_label_calibration`."""


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature t at which softmax(logits / t) gives the targets the greatest likelihood.

    logits     [n, C]
    targets    [n] class indices
    The negative log-likelihood is convex in 1 / t: the zero of its slope is found by bisection.
    Raises EvaluationError where there is none: every video is right, so that the smaller t the better; or the scores
    know no more of the targets than chance does, so that the larger the better.
    """
    logits = np.asarray(logits, np.float64)
    targets = checked_labels(targets, logits.shape[1])
    own = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0]

    def slope(inverse: float) -> float:
        weights = scaled_softmax(logits, 1 / inverse)
        return float(np.mean((weights * logits).sum(axis=1) - own))

    low, high = 1 / _MOST, _MOST
    if slope(high) <= 0:
        raise EvaluationError(
            f"all {len(targets)} videos are right, and no temperature makes probabilities of that: calibrate on "
            "more videos, or on harder ones."
        )
    if slope(low) >= 0:
        raise EvaluationError(
            f"the scores of the {len(targets)} videos know no more of their labels than chance does: there is nothing to "
            "calibrate."
        )
    while high / low > 1 + 1e-9:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / float(np.sqrt(low * high))


def scaled_softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature) [n, C] in float64. Infinite temperatures apart, as `scoring.softmax` does."""
    scaled = logits / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error in percent: over bins of equal width, the mean of |accuracy - confidence|,
    each bin by its share of the videos.

    confidence    [n] in 0..1, the probability of the class that is named
    right         [n] whether it is the true one
    """
    place = np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=np.asarray(right, float) - confidence, minlength=bins)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def calibrate(logits: np.ndarray, targets: np.ndarray, split: str = "", *, seed: int = 0) -> Calibration:
    """Return the calibration of labeled videos, with its error before, and after on videos that it was not fitted on.

    Raises EvaluationError as `fit_temperature` does, and for fewer than two videos.
    """
    n = len(targets)
    if n < 2:
        raise EvaluationError(f"{n} labeled videos are too few to calibrate on; name a split with more.")
    temperature = fit_temperature(logits, targets)
    right = logits.argmax(axis=1) == targets
    half = np.random.default_rng(seed).permutation(n) < n // 2
    after = np.empty(n)
    for fitted in (half, ~half):
        try:
            own = fit_temperature(logits[fitted], targets[fitted])
        except EvaluationError:  # so few, and all of them right
            own = temperature
        after[~fitted] = scaled_softmax(logits[~fitted], own).max(axis=1)
    before = calibration_error(scaled_softmax(logits, 1).max(axis=1), right)
    return Calibration(temperature, split, n, before, calibration_error(after, right))
