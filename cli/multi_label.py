"""`vidclip eval --protocol multi-label`: mean average precision, from the options to the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from .released import released_line

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.evaluation import Comparison, Result
    from ..pipeline.scoring import Scorer


def plan_multi_label(
    features: FeatureCache, classes: Lexicon, options: dict[str, Any], settings: Mapping[str, Any]
) -> Callable[[Sequence[Scorer]], tuple[list[Result], list[Comparison]]]:
    """Chooses the videos; what it returns gives the results of all scorers, and each against the first."""
    from ..pipeline.evaluation import (
        compare_maps,
        evaluate_multi_label,
        released_convention,
        select_multi_label,
    )
    from .scoring import untrained_indices

    convention = options["map_convention"]
    if convention == "released":
        convention = released_convention(classes.name)
    test = select_multi_label(features, classes, options["split"])
    keep, notes = untrained_indices(features, test.indices, options)
    test = replace(test, indices=test.indices[keep], targets=test.targets[keep], notes=[*test.notes, *notes])

    def score(scorers: Sequence[Scorer]) -> tuple[list[Result], list[Comparison]]:
        results = evaluate_multi_label(features, test, scorers, convention=convention, settings=settings)
        return results, [compare_maps(result, results[0]) for result in results[1:]]

    return score


def print_multi_label(results: list[Result], comparisons: list[Comparison]) -> None:
    from ..pipeline.evaluation.multi_label import METRICS
    from .output import console, count, printable, table, warn

    first = results[0]
    settings = first.settings
    of_split = f" of split {printable(settings['split'])}" if settings["split"] else ""
    released = {
        "released-charades": ", mAP as the released script for Charades computes it",
        "released-activitynet": ", mAP as the released script for ActivityNet computes it",
    }.get(settings["map_convention"], "")
    title = (
        f"{first.protocol}: {count(first.n_videos, 'video')}{of_split}, "
        f"{count(first.n_classes, 'class', 'classes')} ({printable(settings['lexicon'])}){released}"
    )
    rows = [[result.scorer, *(str(result.figures[field]) for field in METRICS)] for result in results]
    rows.append(["chance", *(f"{settings['chance'][field]:.1f}" for field in METRICS)])
    console().print(table(title, ["", *(f"{name} %" for name in METRICS.values())], rows))
    for comparison in comparisons:
        click.echo(f"mAP, {printable(comparison)}")
    shown = " | ".join(settings["prompts"][:2]) + (" | ..." if len(settings["prompts"]) > 2 else "")
    click.echo(
        f"{printable(settings['encoder'])}; prompt {printable(shown)}; brackets: 95 % bootstrap interval over videos."
    )
    if settings["as_released"]:
        click.echo(released_line(settings["as_released"]))
    for note in first.notes:
        warn(note)
