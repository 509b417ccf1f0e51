"""The tables of `vidclip eval` and `vidclip fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from .output import console, count, printable, table, warn

if TYPE_CHECKING:
    from ..pipeline.evaluation import CacheComparison, Result
    from .cache_evaluation import Evaluated
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
    done: Sequence[Evaluated],
    released: AsReleased,
    across: Sequence[CacheComparison] = (),
    notes: Sequence[str] = (),
) -> None:
    """Print the results of one protocol over a cache, or over several in one table, and below them each comparison.

    across    those between caches
    notes     on what differs between them
    """
    results = [
        replace(result, scorer=f"{each.name}: {result.scorer}") if each.name else result
        for each in done
        for result in each.results
    ]
    first = results[0]
    few = first.protocol == "few-shot"
    title = _title([each.results[0] for each in done])
    chance = {each.name: _chance(each.results[0]) for each in done}
    if len({tuple(own) for own in chance.values()}) == 1:
        last = [["chance", *chance[done[0].name]]]
    else:
        last = [[f"chance, {name}", *own] for name, own in chance.items()]
    if few:
        shots = list(dict.fromkeys(result.settings["shots"] for result in results))
        cell = {(result.scorer, result.settings["shots"]): str(result.figures["top1"]) for result in results}
        heads = dict.fromkeys(result.scorer for result in results)
        rows = [[head, *(cell.get((head, k), "-") for k in shots)] for head in heads]
        rows += [[*row[:2], *("" for _ in shots[1:])] for row in last]
        names = ["top-1 %", *map(_shots, shots)]
        console().print(table(title, names, rows))
    else:
        figures_table(title, results, *last)
    for each in done:
        for k, comparison in each.comparisons:
            prefix = f"{each.name}: " if each.name else ""
            click.echo(printable(f"{prefix}{_shots(k) + ': ' if few else ''}{comparison}"))
    for each in across:
        prefix = f"{_shots(each.shots)}: " if few else ""
        click.echo(printable(f"{prefix}{each.comparison} ({count(each.n, 'common video')})"))
    click.echo(_legend(done, results))
    for each in done if len(done) > 1 else ():
        own = each.results[0]
        tested = count(own.n_videos, "video")
        click.echo(printable(f"{each.name}: {own.settings['encoder']}, {each.sampling}; {tested}."))
    released.echo()
    for message in notes:
        warn(message)
    said: set[str] = set()
    for each in done:
        for message in each.results[0].notes:
            if message not in said:
                warn(message if len(done) == 1 else f"{each.name}: {message}")
            said.add(message)


def _title(firsts: Sequence[Result]) -> str:
    """Return what was tested: of one cache, or of several that test one split of one list of classes."""
    first = firsts[0]
    settings, repetitions = first.settings, first.repetitions
    videos = sorted({each.n_videos for each in firsts})
    shown = (
        count(videos[0], "video") if len(videos) == 1 else f"{videos[0]:,} to {count(videos[-1], 'video')}"
    )
    parts = [
        f"{first.protocol}: {shown}{' of split ' + printable(settings['split']) if settings['split'] else ''}",
        f"{count(first.n_classes, 'class', 'classes')} ({printable(settings['lexicon'])})",
    ]
    if "train_split" in settings:
        parts.append(f"trained on split {printable(settings['train_split'])}")
    elif len(repetitions) > 1:
        candidates = {metrics.n_classes for each in firsts for _, metrics in each.repetitions}
        over = f"{min(candidates)}" if len(candidates) == 1 else f"{min(candidates)} to {max(candidates)}"
        parts.append(f"{len(repetitions)} times {over} of them")
    return ", ".join(parts) + _CONVENTIONS.get(settings.get("map_convention", ""), "")


def _chance(result: Result) -> list[str]:
    if "chance" in result.settings:
        return [f"{value:.1f}" for value in result.settings["chance"].values()]
    shares = [100 / metrics.n_classes for _, metrics in result.repetitions]
    return [f"{sum(shares) / len(shares):.1f}", "", ""]


def _legend(done: Sequence[Evaluated], results: Sequence[Result]) -> str:
    settings = results[0].settings
    prompts = " | ".join(settings["prompts"][:2]) + (" | ..." if len(settings["prompts"]) > 2 else "")
    n_repetitions = max(len(result.repetitions) for result in results)
    over = f"{n_repetitions} seeds" if "train_split" in settings else "the repetitions"
    legend = [f"± standard deviation over {over}"] if n_repetitions > 1 else []
    if any(figure.low is not None for result in results for figure in result.figures.values()):
        legend.append("brackets: 95 % bootstrap interval over videos")
    encoder = f"{printable(settings['encoder'])}; " if len(done) == 1 else ""
    return f"{encoder}prompt {printable(prompts)}; {'; '.join(legend)}."


def print_classes(protocol: str, done: Sequence[Evaluated]) -> None:
    """Print a table for each scorer of each cache, the worst class first."""
    named = {
        f"{each.name}: {scorer}" if each.name else scorer: own
        for each in done
        for scorer, own in each.classes.items()
    }
    for scorer, figures in named.items():
        rows = []
        for each in sorted(figures, key=lambda each: (each.top1, -each.n)):
            taken = f"{each.confusion} ({each.n_confused})" if each.confusion else ""
            rows.append([each.label, taken, each.n, f"{each.top1:.1f} [{each.low:.1f}, {each.high:.1f}]"])
        title = f"{protocol}, {printable(scorer)}: each class [95 % Wilson interval]"
        console().print(table(title, ["class", "most often taken for", "n", "top-1 %"], rows, left=2))


def _shots(shots: int | str | None) -> str:
    return "all" if shots == "all" else f"{shots}-shot"
