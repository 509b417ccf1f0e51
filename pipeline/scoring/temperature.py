"""The bounds of a softmax temperature."""

from __future__ import annotations

import numbers

SMALLEST_TEMPERATURE = 1e-6
"""Below it, cosines over the temperature leave the range in which float32 tells them apart."""
LARGEST_TEMPERATURE = 1e6
"""Above it, a softmax of cosines is uniform to the last digit of float32."""


def check_temperature(value: float, name: str = "temperature") -> None:
    """Raises ValueError for a temperature that is no number, or out of bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not SMALLEST_TEMPERATURE <= value <= LARGEST_TEMPERATURE:
        raise ValueError(
            f"{name} must be above 0, from {SMALLEST_TEMPERATURE:g} to {LARGEST_TEMPERATURE:g}, got {value:g}"
        )
