"""Class names along the axes of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .fonts import drawable

_MOST_NAMES = 120
"""More class names than these cannot be read along an axis."""
_LONGEST_NAME = 40
"""Longer names are cut along an axis, or nothing would be left for the picture."""


def inches_beside(names: Sequence[str]) -> float:
    """Return the inches that the names along an axis take, about."""
    return 0.4 if len(names) > _MOST_NAMES else 0.06 * min(_LONGEST_NAME, max(map(len, names)))


def name_axes(panel: Axes, rows: Sequence[str], side: float, *, columns: Sequence[str] = ()) -> None:
    """Write class names along both axes of a map `side` inches high; of too many, their numbers in the list.

    columns    the names along the horizontal axis; none: those of the rows
    """
    if len(rows) > _MOST_NAMES:
        return
    size = min(7.0, 0.75 * 72 * side / len(rows))
    turned: dict[str, Any] = {"rotation": 90}
    for set_ticks, names, turn in ((panel.set_xticks, columns or rows, turned), (panel.set_yticks, rows, {})):
        shown = [drawable(name) for name in names]
        shown = [name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…" for name in shown]
        set_ticks(np.arange(len(names)), shown, fontsize=size, parse_math=False, **turn)
