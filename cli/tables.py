"""The tables of `vidclip eval` and `vidclip fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from .output import console, count, printable, table, warn

if TYPE_CHECKING:
    from ..pipeline.evaluation import ClassFigures, Comparison, Result
    from .released import AsReleased

_CONVENTIONS = {
    "released-charades": ", mAP as the released script for Charades computes it",
    "released-activitynet": ", mAP as the released script for ActivityNet computes it",
}


def figures_table(title: str, results: Sequence[Result], *last: Sequence[object]) -> None:
    """Print a row for each result, a column for each metric, and then the rows of `last`."""
    from ..pipeline.evaluation import METRICS

    metrics = [name for name in METRICS if name in results[0].figures]
    rows = [[result.scorer, *(str(result.figures[name]) for name in metrics)] for result in results]
    console().print(table(title, ["", *(f"{METRICS[name]} %" for name in metrics)], [*rows, *last]))


def print_results(
    results: Sequence[Result],
    comparisons: Sequence[tuple[int | str | None, Comparison]],
    released: AsReleased,
) -> None:
    """Print the results of one protocol, and below them each comparison (with its number of shots, or None)."""
    first = results[0]
    settings, repetitions = first.settings, first.repetitions
    few = first.protocol == "few-shot"
    parts = [
        f"{first.protocol}: {count(first.n_videos, 'video')}"
        f"{' of split ' + printable(settings['split']) if settings['split'] else ''}",
        f"{count(first.n_classes, 'class', 'classes')} ({printable(settings['lexicon'])})",
    ]
    if "train_split" in settings:
        parts.append(f"trained on split {printable(settings['train_split'])}")
    elif len(repetitions) > 1:
        candidates = {metrics.n_classes for _, metrics in repetitions}
        over = f"{min(candidates)}" if len(candidates) == 1 else f"{min(candidates)} to {max(candidates)}"
        parts.append(f"{len(repetitions)} times {over} of them")
    title = ", ".join(parts) + _CONVENTIONS.get(settings.get("map_convention", ""), "")
    chance = [f"{sum(100 / metrics.n_classes for _, metrics in repetitions) / len(repetitions):.1f}", "", ""]
    if "chance" in settings:
        chance = [f"{value:.1f}" for value in settings["chance"].values()]
    if few:
        shots = list(dict.fromkeys(result.settings["shots"] for result in results))
        cell = {(result.scorer, result.settings["shots"]): str(result.figures["top1"]) for result in results}
        heads = dict.fromkeys(result.scorer for result in results)
        rows = [[head, *(cell.get((head, k), "-") for k in shots)] for head in heads]
        rows.append(["chance", chance[0], *("" for _ in shots[1:])])
        names = ["top-1 %", *map(_shots, shots)]
        console().print(table(title, names, rows))
    else:
        figures_table(title, results, ["chance", *chance])
    for k, comparison in comparisons:
        prefix = f"{_shots(k)}: " if few else ""
        click.echo(f"{prefix}{printable(comparison)}")
    shown = " | ".join(settings["prompts"][:2]) + (" | ..." if len(settings["prompts"]) > 2 else "")
    n_repetitions = max(len(result.repetitions) for result in results)
    over = f"{n_repetitions} seeds" if "train_split" in settings else "the repetitions"
    legend = [f"± standard deviation over {over}"] if n_repetitions > 1 else []
    if any(figure.low is not None for result in results for figure in result.figures.values()):
        legend.append("brackets: 95 % bootstrap interval over videos")
    click.echo(f"{printable(settings['encoder'])}; prompt {printable(shown)}; {'; '.join(legend)}.")
    released.echo()
    for message in first.notes:
        warn(message)


def print_classes(protocol: str, classes: Mapping[str, Sequence[ClassFigures]]) -> None:
    """Print a table for each scorer, the worst class first."""
    for scorer, figures in classes.items():
        rows = []
        for each in sorted(figures, key=lambda each: (each.top1, -each.n)):
            taken = f"{each.confusion} ({each.n_confused})" if each.confusion else ""
            rows.append([each.label, taken, each.n, f"{each.top1:.1f} [{each.low:.1f}, {each.high:.1f}]"])
        title = f"{protocol}, {printable(scorer)}: each class [95 % Wilson interval]"
        console().print(table(title, ["class", "most often taken for", "n", "top-1 %"], rows, left=2))


def _shots(shots: int | str | None) -> str:
    return "all" if shots == "all" else f"{shots}-shot"
