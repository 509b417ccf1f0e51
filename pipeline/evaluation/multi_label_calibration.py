"""Probabilities of multi-label heads that mean what they say: Platt scaling, and how far they are from the shares of right ones.

n videos, C classes; each (video, class) is a case, and one scale and one offset serve all classes:

    p = 1 / (1 + exp(-(a z + b)))

of the logits z, with a and b that give the labels the greatest likelihood.
Source: Platt 1999, Probabilistic Outputs for Support Vector Machines, 2.1 (without its smoothed targets).
"""

from __future__ import annotations

import numpy as np

from ..heads import sigmoid
from .calibration import BINS, Calibration
from .results import EvaluationError


def fit_scaling(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return (a, b) of the greatest likelihood.

    logits, targets    [n, C] numbers and booleans
    Raises EvaluationError where there is none: labels of one kind alone; logits that tell them apart without an error, so
    that the larger a the better; or that know no more than chance, so that a is not above 0.
    """
    from sklearn.linear_model import LogisticRegression

    z, y = np.asarray(logits, np.float64).reshape(-1, 1), np.asarray(targets, bool).reshape(-1)
    if y.all() or not y.any():
        raise EvaluationError("the videos have all of the labels or none: there is nothing to calibrate on.")
    if z[y].min() > z[~y].max():
        raise EvaluationError(
            f"all labels of {len(logits)} videos are right, and no scale makes probabilities of that: calibrate on more "
            "videos, or on harder ones."
        )
    # Standardized, so that the solver's tolerance means the same for any scale.
    mean, spread = z.mean(), max(float(z.std()), 1e-12)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit((z - mean) / spread, y)
    slope = float(fitted.coef_[0, 0]) / spread
    if slope <= 0:
        raise EvaluationError(
            f"the scores of the {len(logits)} videos know no more of their labels than chance does: there is nothing to "
            "calibrate."
        )
    return slope, float(fitted.intercept_[0]) - slope * float(mean)


def probability_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error in percent: over bins of equal width in the probabilities [n, C], the mean distance
    of their mean from the share of cases that are labels, by the cases in each.

    Most cases are sure negatives, so it is small by itself; compare it before and after alone.
    """
    p, y = np.asarray(probabilities, np.float64).reshape(-1), np.asarray(targets, np.float64).reshape(-1)
    place = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    return float(100 * np.abs(np.bincount(place, weights=y - p, minlength=bins)).sum() / len(p))


def calibrate_multi_label(
    logits: np.ndarray, targets: np.ndarray, split: str = "", *, seed: int = 0
) -> Calibration:
    """Return the scaling of labeled videos, with its error before, and after on videos that it was not fitted on.

    Raises EvaluationError as `fit_scaling` does, and for fewer than two videos.
    """
    n = len(targets)
    if n < 2:
        raise EvaluationError(f"{n} labeled videos are too few to calibrate on; name a split with more.")
    slope, offset = fit_scaling(logits, targets)
    half = np.random.default_rng(seed).permutation(n) < n // 2
    after = np.empty(logits.shape)
    for fitted in (half, ~half):
        try:
            own = fit_scaling(logits[fitted], targets[fitted])
        except EvaluationError:  # so few, and all of them right
            own = slope, offset
        after[~fitted] = sigmoid(own[0] * logits[~fitted] + own[1])
    before = probability_error(sigmoid(logits), targets)
    return Calibration(1 / slope, split, n, before, probability_error(after, targets), offset)
