"""What classes are taken for: counts, the order of the most confused, a map of them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .class_names import inches_beside, name_axes
from .figures import style
from .fonts import drawable

_MOST_NUMBERS = 60
"""Maps of more classes have no numbers in their cells."""


def confusion_counts(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return [C, C] int64: how many videos of class (row) were taken for class (column)."""
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def confused_pairs(counts: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (class, what it was taken for, of how many videos) of all confusions [C, C], the most frequent first; of
    equal ones in the order of the classes."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    return [
        (int(i), int(j), int(wrong[i, j]))
        for i, j in zip(*np.unravel_index(places, wrong.shape), strict=True)
    ]


def order_of_confusion(counts: np.ndarray) -> list[int]:
    """Return the classes that have videos or that videos were taken for, [C, C] counts, the most confused first.

    They come as in the list of confused pairs, so that the two of a frequent confusion stand beside each other; those
    without any confusion follow in their own order.
    """
    present = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1)).tolist()
    confused = [c for i, j, _ in confused_pairs(counts) for c in (i, j)]
    return list(dict.fromkeys([*confused, *present]))


def confusion_map(counts: np.ndarray, names: Sequence[str], title: str, *, most: int = 40) -> Figure:
    """Draw shares of each class's videos [C, C]: rows the true class, columns what it was taken for.

    Classes are those of `order_of_confusion`, the first `most` of them; where there are more, a last column has what
    was taken for the others, so that a row is all videos of its class. Rows of classes without videos are gray. Raises
    ValueError where counts and names do not fit, and where there is no video.
    """
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"{len(names)} names, but counts {counts.shape}")
    present = order_of_confusion(counts)
    if not present:
        raise ValueError("there is no video whose class could be confused")
    shown = present[:most]
    drawn, totals = counts[np.ix_(shown, shown)], counts[shown].sum(axis=1, keepdims=True)
    rows = [
        names[c] if total else f"{names[c]} (no video)" for c, total in zip(shown, totals[:, 0], strict=True)
    ]
    columns = [names[c] for c in shown]
    if len(shown) < len(present):
        drawn = np.hstack([drawn, totals - drawn.sum(axis=1, keepdims=True)])
        columns.append(f"any of the {len(present) - len(shown):,} other classes")
    shares = np.where(totals > 0, 100 * drawn / np.maximum(totals, 1), np.nan)
    side = min(14.0, max(3.6, (0.3 if len(shown) <= _MOST_NUMBERS else 0.2) * len(shown)))
    with mpl.rc_context(style(**{"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True})):
        beside = inches_beside([*rows, *columns])
        figure = Figure(figsize=(side + beside + 1.8, side + beside + 0.8), layout="compressed")
        panel = figure.subplots()
        colors = mpl.colormaps["Blues"].with_extremes(bad="#e3e6ea")
        image = panel.imshow(shares, vmin=0, vmax=100, cmap=colors, interpolation="nearest")
        panel.set(xlabel="taken for", ylabel="true class")
        panel.set_title(drawable(title), wrap=True)
        name_axes(panel, rows, side, columns=columns)
        edges_x, edges_y = np.arange(len(columns) - 1) + 0.5, np.arange(len(rows) - 1) + 0.5
        panel.vlines(edges_x, -0.5, len(rows) - 0.5, color="#dadce0", linewidth=0.4)
        panel.hlines(edges_y, -0.5, len(columns) - 0.5, color="#dadce0", linewidth=0.4)
        if len(columns) > len(shown):
            panel.axvline(len(shown) - 0.5, color="#5f6368", linewidth=1)
        if len(shown) <= _MOST_NUMBERS:
            _write_shares(panel, shares, size=min(8.0, 0.42 * 72 * side / len(shown)))
        figure.colorbar(image, ax=panel, shrink=0.9).set_label("% of the class's videos")
    return figure


def _write_shares(panel: Axes, shares: np.ndarray, size: float) -> None:
    for row, column in np.argwhere(np.nan_to_num(shares) > 0):
        share = float(shares[row, column])
        ink = "white" if share > 55 else "#202124"
        panel.text(column, row, _percent(share), color=ink, size=size, ha="center", va="center")


def _percent(share: float) -> str:
    """A share that is neither none nor all is not written as such."""
    return "<1" if share < 0.5 else ">99" if 99.5 <= share < 100 else f"{share:.0f}"
