"""Charts of results: the loss of a training, correlations of classes, accuracy over shots, confusions.

Each function returns a matplotlib figure; `save_figure` writes it. Class names are drawn as they are: a `$` or `_`
in a label is that character, not markup.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...cache import write_whole
from ..heads import Epoch
from ..scoring import l2_normalize

FORMATS = (".png", ".svg")
_MOST_NAMES = 120
"""More class names than these cannot be read along an axis."""
_LONGEST_NAME = 40
"""Longer names are cut along an axis, or nothing would be left for the picture."""
_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "SimHei", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip
"""Fonts that have what matplotlib's own lacks, where they are installed."""
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
    "svg.fonttype": "none",  # text stays text: it can be searched, and the reader's fonts have all scripts
}


def save_figure(figure: Figure, path: Path) -> str:
    """Write a .png or .svg, whole or not at all. Raises ValueError for another suffix, OSError.

    Returns the characters that no font here has, drawn as boxes: of a .png, as a .svg leaves them to its reader.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: pictures end in {' or '.join(FORMATS)}")
    svg, picture = path.suffix.lower() == ".svg", io.BytesIO()
    with warnings.catch_warnings(record=True) as caught, mpl.rc_context(_style()):
        warnings.simplefilter("always")
        figure.savefig(
            picture,
            format=path.suffix[1:].lower(),
            dpi=150,
            metadata={"Date": None} if svg else {},
            bbox_inches="tight",
            pad_inches=0.15,
        )
    write_whole(path, picture.getvalue())
    boxes = set()
    for warning in caught:
        glyph = re.match(r"Glyph (\d+) .*missing from", str(warning.message))
        if glyph:
            boxes.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return "" if svg else "".join(sorted(boxes))


def loss_curve(epochs: Sequence[Epoch], best_epoch: int, title: str) -> Figure:
    """Draw the loss of each epoch, and below it the top-1 on the held-out part, where there is one."""
    numbers = [epoch.number for epoch in epochs]
    held = [epoch.held_out_top1 for epoch in epochs if epoch.held_out_top1 is not None]
    with mpl.rc_context(_style()):
        figure = Figure(figsize=(7, 5.5 if held else 3.4), layout="constrained")
        panels = figure.subplots(2 if held else 1, sharex=True, squeeze=False)[:, 0]
        panels[0].plot(numbers, [epoch.loss for epoch in epochs], color="#1a73e8", marker="o", markersize=3)
        panels[0].set(title=f"{title}; dashed: epoch {best_epoch}, which was kept", ylabel="loss")
        if held:
            panels[1].plot(numbers, held, color="#188038", marker="o", markersize=3)
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
    with mpl.rc_context(_style(**{"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True})):
        beside = _beside(names)
        figure = Figure(figsize=(side * len(maps) + beside + 1.5, side + beside + 0.5), layout="compressed")
        panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        image = None
        for panel, (name, values) in zip(panels, maps.items(), strict=True):
            image = panel.imshow(values, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
            panel.set_title(_drawn(name))
            _name_axes(panel, names, side)
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
    with mpl.rc_context(_style()):
        figure = Figure(figsize=(9, 4.8), layout="constrained")
        panel = figure.subplots()
        colors = mpl.colormaps["tab10"]
        for index, (head, own) in enumerate(points.items()):
            places = [place for place, k in enumerate(shots) if k in own]
            mean = np.array([own[shots[place]]["mean"] for place in places], float)
            spread = np.array([own[shots[place]]["spread"] or 0 for place in places], float)
            style = {"color": colors(index % 10), "linestyle": ("-", "--", "-.")[index // 10 % 3]}
            panel.plot(places, mean, marker="o", markersize=4, label=_drawn(head), **style)
            if len(places) == 1:  # a band of one point would have no width
                panel.errorbar(places, mean, spread, color=style["color"], capsize=3)
            panel.fill_between(
                places, mean - spread, mean + spread, color=style["color"], alpha=0.18, linewidth=0
            )
        panel.axhline(100 / counts[0], color="#80868b", linestyle=":", label="chance")
        panel.set_xticks(range(len(shots)), [str(k) for k in shots])
        panel.set(
            xlabel="training videos of a class", ylabel="top-1 (%)", ylim=(0, 100),
            title=f"few-shot: {videos} test videos, {counts[0]} classes",
        )  # fmt: skip
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def confusion_counts(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return [C, C] int64: how many videos of class (row) were taken for class (column)."""
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def confusion_map(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Draw shares of each class's videos [C, C]: rows the true class, columns what it was taken for; classes without
    videos are blank rows. Raises ValueError where counts and names do not fit."""
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"{len(names)} names, but counts {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    side = min(14.0, max(3.6, 0.2 * len(names)))
    with mpl.rc_context(_style(**{"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True})):
        beside = _beside(names)
        figure = Figure(figsize=(side + beside + 1.8, side + beside + 0.8), layout="compressed")
        panel = figure.subplots()
        image = panel.imshow(shares, vmin=0, vmax=100, cmap="Blues", interpolation="nearest")
        panel.set(title=_drawn(title), xlabel="taken for", ylabel="true class")
        _name_axes(panel, names, side)
        figure.colorbar(image, ax=panel, shrink=0.9).set_label("% of the class's videos")
    return figure


def _beside(names: Sequence[str]) -> float:
    """Return the inches that the names along an axis take, about."""
    return 0.4 if len(names) > _MOST_NAMES else 0.06 * min(_LONGEST_NAME, max(map(len, names)))


def _name_axes(panel: Axes, names: Sequence[str], side: float) -> None:
    """Write class names along both axes of a map `side` inches wide; of too many, their numbers in the list."""
    if len(names) > _MOST_NAMES:
        return
    shown = [_drawn(name) for name in names]
    shown = [name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…" for name in shown]
    ticks, size = np.arange(len(names)), min(7.0, 0.8 * 72 * side / len(names))
    panel.set_xticks(ticks, shown, rotation=90, fontsize=size, parse_math=False)
    panel.set_yticks(ticks, shown, fontsize=size, parse_math=False)


def _drawn(name: str) -> str:
    """Return a name as a font takes it: labels that were folders may hold bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _style(**more: Any) -> dict[Any, Any]:
    return {**_STYLE, "font.family": list(_families()), **more}


@cache
def _families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed))
