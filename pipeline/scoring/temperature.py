"""The temperature of a softmax over cosines, and its bounds."""

from __future__ import annotations

import numbers

TEMPERATURE = 0.01
"""The temperature with which CLIP was trained: of softmaxes over frames, and over classes."""
SMALLEST_TEMPERATURE = 1e-6
"""Below it, cosines over the temperature leave the range in which float32 tells them apart."""
LARGEST_TEMPERATURE = 1e6
"""Above it, a softmax of cosines is uniform to the last digit of float32."""


def check_temperature(value: float, name: str = "temperature") -> None:
    """Raise ValueError for a temperature that is no number, or out of bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not SMALLEST_TEMPERATURE <= value <= LARGEST_TEMPERATURE:
        raise ValueError(
            f"{name} must be above 0, from {SMALLEST_TEMPERATURE:g} to {LARGEST_TEMPERATURE:g}, got {value:g}"
        )
