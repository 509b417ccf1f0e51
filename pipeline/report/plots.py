"""Charts of results: the loss of a training, correlations of classes, accuracy over shots.

Each function returns a matplotlib figure; `save_figure` writes it. Class names are drawn as they are: a `$` or `_`
in a label is that character, not markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..heads import Epoch
from ..scoring import l2_normalize
from .class_names import inches_beside, name_axes
from .figures import COLORS, line_style, style
from .fonts import drawable


def loss_curve(epochs: Sequence[Epoch], best_epoch: int, title: str) -> Figure:
    """Draw the loss of each epoch, and below it the top-1 on the held-out part, where there is one."""
    numbers = [epoch.number for epoch in epochs]
    held = [epoch.held_out_top1 for epoch in epochs if epoch.held_out_top1 is not None]
    with mpl.rc_context(style()):
        figure = Figure(figsize=(7, 5.5 if held else 3.4), layout="constrained")
        panels = figure.subplots(2 if held else 1, sharex=True, squeeze=False)[:, 0]
        panels[0].plot(numbers, [epoch.loss for epoch in epochs], color=COLORS[0], marker="o", markersize=3)
        panels[0].set(title=f"{title}; dashed: epoch {best_epoch}, which was kept", ylabel="loss")
        if held:
            panels[1].plot(numbers, held, color=COLORS[2], marker="s", markersize=3)
            panels[1].set(ylabel="held-out top-1 (%)")
        for panel in panels:
            panel.axvline(best_epoch, color="#80868b", linestyle="--", linewidth=1, zorder=1.5)
        panels[-1].set(xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def correlations(weights: np.ndarray) -> np.ndarray:
    """Return cosines [C, C] between the rows of a classifier [C, D].

    Source: Wu et al. 2023 (Text4Vis), Figure 1: the correlation of the embeddings of class labels.
    """
    rows = l2_normalize(weights)
    return rows @ rows.T


def correlation_maps(classifiers: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Draw the correlations of several classifiers side by side: {name: rows [C, D]}, C class names.

    One color scale for all, from the lowest cosine between two classes to the highest. Raises ValueError where
    rows and names do not fit, and for fewer than two classes.
    Source: Wu et al. 2023 (Text4Vis), Figures 1 and A.5.
    """
    if len(names) < 2:
        raise ValueError("a correlation is between classes: give at least two")
    maps = {name: correlations(weights) for name, weights in classifiers.items()}
    for name, values in maps.items():
        if len(values) != len(names):
            raise ValueError(f"{name} has {len(values)} rows, but there are {len(names)} names")
    between = np.concatenate([values[~np.eye(len(values), dtype=bool)] for values in maps.values()])
    low, high = float(between.min()), float(between.max())
    side = min(9.0, max(3.2, 0.16 * len(names)))
    with mpl.rc_context(style(**{"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True})):
        beside = inches_beside(names)
        figure = Figure(figsize=(side * len(maps) + beside + 1.5, side + beside + 0.5), layout="compressed")
        panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        image = None
        for panel, (name, values) in zip(panels, maps.items(), strict=True):
            image = panel.imshow(values, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
            panel.set_title(drawable(name))
            name_axes(panel, names, side)
        if image is not None:
            bar = figure.colorbar(image, ax=list(panels), extend="max", shrink=0.9)
            bar.set_label("cosine between classes")
    return figure


def few_shot_curves(results: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw top-1 over the number of videos of a class, a line for each head; bands are one standard deviation over seeds.

    results    of `vidclip eval --protocol few-shot --json`: dictionaries with scorer, figures and settings.shots
    Raises ValueError where there is none, where a head has two for one number of videos, and for results over
    different numbers of classes.
    """
    if not results:
        raise ValueError("there are no results of the protocol few-shot")
    points: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for result in results:
        own, k = points.setdefault(str(result["scorer"]), {}), result["settings"]["shots"]
        if k in own:
            raise ValueError(f"there are two results of {result['scorer']!r} for {k} videos of a class")
        own[k] = result["figures"]["top1"]
    counts = sorted({int(result["n_classes"]) for result in results})
    if len(counts) > 1:
        raise ValueError(
            f"there are results over {' and over '.join(map(str, counts))} classes: one picture is of one"
        )
    given = {k for own in points.values() for k in own}
    # Even steps: 0, 1, 2, 4, ... are as far apart as 16 and all.
    shots: list[Any] = [*sorted(k for k in given if k != "all"), *(["all"] if "all" in given else [])]
    tested = sorted({int(result["n_videos"]) for result in results})
    videos = f"{tested[0]:,}" if len(tested) == 1 else f"{tested[0]:,} to {tested[-1]:,}"
    with mpl.rc_context(style()):
        figure = Figure(figsize=(9, 4.8), layout="constrained")
        panel = figure.subplots()
        for index, (head, own) in enumerate(points.items()):
            places = [place for place, k in enumerate(shots) if k in own]
            mean = np.array([own[shots[place]]["mean"] for place in places], float)
            spread = np.array([own[shots[place]]["spread"] or 0 for place in places], float)
            line = line_style(index)
            panel.plot(places, mean, markersize=5, label=drawable(head), **line)
            if len(places) == 1:  # a band of one point would have no width
                panel.errorbar(places, mean, spread, color=line["color"], capsize=3)
            panel.fill_between(
                places, mean - spread, mean + spread, color=line["color"], alpha=0.18, linewidth=0
            )
        panel.axhline(100 / counts[0], color="#80868b", linestyle=":", label="chance")
        panel.set_xticks(range(len(shots)), [str(k) for k in shots])
        panel.set(
            xlabel="training videos of a class", ylabel="top-1 (%)", ylim=(0, 100),
            title=f"few-shot: {videos} test videos, {counts[0]} classes",
        )  # fmt: skip
        figure.legend(loc="outside right upper", frameon=False, handlelength=4)
    return figure
