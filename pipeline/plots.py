"""Charts of what was found: the loss of a training, correlations of classes, accuracy over shots, confusions.

Each function returns a matplotlib figure; `save_figure` writes it. Class names are drawn as they are: a `$` or `_`
in a label is that character, not markup.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .fit import Epoch
from .pooling import unit

FORMATS = (".png", ".svg")
_MOST_NAMES = 60
"""More class names than these cannot be read along an axis."""
_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "font.size": 10,
    "text.parse_math": False,
    "svg.hashsalt": "vidclip",  # the same picture is the same file
}


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a .png or .svg, whole or not at all. Raises ValueError for another suffix, OSError."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: pictures end in {' or '.join(FORMATS)}")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
    try:
        with mpl.rc_context(_STYLE):
            figure.savefig(temporary, dpi=150, metadata=metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def loss_curve(epochs: Sequence[Epoch], best_epoch: int, title: str) -> Figure:
    """The loss of each epoch, and below it the top-1 on the held-out part, where there is one."""
    numbers = [epoch.number for epoch in epochs]
    held = [epoch.held_out_top1 for epoch in epochs if epoch.held_out_top1 is not None]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 5.5 if held else 3.4), layout="constrained")
        panels = figure.subplots(2 if held else 1, sharex=True, squeeze=False)[:, 0]
        panels[0].plot(numbers, [epoch.loss for epoch in epochs], color="#1a73e8", marker="o", markersize=3)
        panels[0].set(title=title, ylabel="loss")
        if held:
            panels[1].plot(numbers, held, color="#188038", marker="o", markersize=3)
            panels[1].set(ylabel="held-out top-1 (%)")
        for panel in panels:
            panel.axvline(best_epoch, color="#80868b", linestyle="--", linewidth=1)
        panels[0].annotate(
            f"kept: epoch {best_epoch}", (best_epoch, 1), xycoords=("data", "axes fraction"), xytext=(-4, -4),
            textcoords="offset points", ha="right", va="top", color="#5f6368",
        )  # fmt: skip
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def correlations(weights: np.ndarray) -> np.ndarray:
    """Cosines [C, C] between the rows of a classifier [C, D].

    Source: Wu et al. 2023 (Text4Vis), Figure 1: the correlation of the embeddings of class labels.
    """
    rows = unit(weights)
    return rows @ rows.T


def correlation_maps(classifiers: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """The correlations of several classifiers side by side: {name: rows [C, D]}, C class names.

    One colour scale for all, from the lowest cosine between two classes to the highest. Raises ValueError where
    rows and names do not fit. Source: Wu et al. 2023 (Text4Vis), Figures 1 and A.5.
    """
    maps = {name: correlations(weights) for name, weights in classifiers.items()}
    for name, values in maps.items():
        if len(values) != len(names):
            raise ValueError(f"{name} has {len(values)} rows, but there are {len(names)} names")
    readable = len(names) <= _MOST_NAMES
    side = min(9.0, max(3.2, 0.16 * len(names)))
    beside = 0.09 * max(map(len, names)) if readable else 0.4
    with mpl.rc_context({**_STYLE, "axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(side * len(maps) + beside + 1, side + beside + 0.6), layout="constrained")
        panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        between = np.concatenate([values[~np.eye(len(values), dtype=bool)] for values in maps.values()])
        low, high = float(between.min()), float(between.max())
        image = None
        for panel, (name, values) in zip(panels, maps.items(), strict=True):
            image = panel.imshow(values, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
            panel.set_title(name)
            if readable:
                ticks = np.arange(len(names))
                panel.set_xticks(ticks, names, rotation=90, fontsize=7, parse_math=False)
                panel.set_yticks(ticks, names, fontsize=7, parse_math=False)
        if image is not None:
            bar = figure.colorbar(image, ax=list(panels), shrink=0.8)
            bar.set_label("cosine between classes (a class with itself is 1)")
    return figure


def few_shot_curves(results: Sequence[Mapping[str, Any]]) -> Figure:
    """Top-1 over the number of videos of a class, a line for each head; bands are one standard deviation over seeds.

    results    of `vidclip eval --protocol few-shot --json`: dictionaries with scorer, figures and settings.shots
    Raises ValueError where there is none.
    """
    if not results:
        raise ValueError("there are no results of the protocol few-shot")
    heads = list(dict.fromkeys(str(result["scorer"]) for result in results))
    numbers = sorted({s for result in results if isinstance(s := result["settings"]["shots"], int)})
    # Even steps: 0, 1, 2, 4, ... are as far apart as 16 and all.
    shots: list[Any] = [*numbers, *(["all"] if any(r["settings"]["shots"] == "all" for r in results) else [])]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        panel = figure.subplots()
        colours = mpl.colormaps["tab10"]
        for index, head in enumerate(heads):
            own = {r["settings"]["shots"]: r["figures"]["top1"] for r in results if r["scorer"] == head}
            places = [i for i, k in enumerate(shots) if k in own]
            mean = np.array([own[shots[i]]["mean"] for i in places], float)
            spread = np.array([own[shots[i]]["spread"] or 0 for i in places], float)
            colour = colours(index % 10)
            panel.plot(places, mean, color=colour, marker="o", markersize=4, label=head)
            panel.fill_between(places, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
        first = results[0]
        chance = 100 / int(first["n_classes"])
        panel.axhline(chance, color="#80868b", linestyle=":", label="chance")
        panel.set_xticks(range(len(shots)), [str(k) for k in shots])
        panel.set(
            xlabel="training videos of a class", ylabel="top-1 (%)",
            title=f"few-shot: {first['n_videos']:,} test videos, {first['n_classes']} classes",
        )  # fmt: skip
        panel.set_ylim(0, 100)
        panel.legend(frameon=False)
    return figure


def confusion_counts(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """[C, C] int64: how many videos of class (row) were taken for class (column)."""
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def confusion_map(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Shares of each class's videos [C, C]: rows the true class, columns what it was taken for; classes without
    videos are blank rows. Raises ValueError where counts and names do not fit."""
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"{len(names)} names, but counts {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    readable = len(names) <= _MOST_NAMES
    side = min(14.0, max(4.0, 0.2 * len(names)))
    beside = 0.09 * max(map(len, names)) if readable else 0.4
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(side + beside + 1, side + beside + 0.6), layout="constrained")
        panel = figure.subplots()
        image = panel.imshow(shares, vmin=0, vmax=100, cmap="Blues", interpolation="nearest")
        panel.set(title=title, xlabel="taken for", ylabel="true class")
        if readable:
            ticks = np.arange(len(names))
            panel.set_xticks(ticks, names, rotation=90, fontsize=7, parse_math=False)
            panel.set_yticks(ticks, names, fontsize=7, parse_math=False)
        figure.colorbar(image, ax=panel, shrink=0.8).set_label("% of the class's videos")
    return figure
