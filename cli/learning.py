"""`vidclip eval` under the protocols that train before they test: general and few-shot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .compare import find_published, print_published, to_json
from .released import released_line

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.evaluation import Comparison, LabeledVideos, Result, Run, TrainTest
    from ..pipeline.heads import HeadConfig, TrainSettings


def plan_learning(
    features: FeatureCache,
    classes: Lexicon,
    protocol: str,
    options: dict[str, Any],
    settings: dict[str, Any],
    json_file: Path | None,
) -> Callable[[], dict[str, Any]]:
    """Checks what can be checked before any work; returns what does it: trains, tests, prints, and gives the
    document for --json."""
    from ..pipeline.evaluation import FEW_SHOT_SETTINGS, plan_runs
    from .training import fit_settings, head_configs

    few = protocol == "few-shot"
    made = head_configs(options, tuple(options["pools"]))
    sides = _sides(features, classes, options)
    shots: tuple[int | None, ...] = (None,)
    if few:
        shots, told = _shots(options["shots"], sides.train, classes)
        sides = replace(sides, test=replace(sides.test, notes=[*sides.test.notes, *told]))
    given = {"epochs": FEW_SHOT_SETTINGS.epochs, "held_out": FEW_SHOT_SETTINGS.held_out} if few else {}
    fit = fit_settings(options, **given)
    plan_runs(sides.train.labels, classes.labels, made, shots, features.shape[3])
    return lambda: _learn(features, classes, protocol, made, shots, sides, fit, options, settings, json_file)


def _learn(
    features: FeatureCache,
    classes: Lexicon,
    protocol: str,
    made: list[HeadConfig],
    shots: tuple[int | None, ...],
    sides: TrainTest,
    fit: TrainSettings,
    options: dict[str, Any],
    settings: dict[str, Any],
    json_file: Path | None,
) -> dict[str, Any]:
    from ..pipeline.devices import choose_device
    from ..pipeline.evaluation import train_and_evaluate
    from .options import encoder_loader
    from .output import progress_bar
    from .training import class_texts, examples

    few = protocol == "few-shot"
    load = encoder_loader(options)
    train, test = examples(features, sides.train), examples(features, sides.test)
    knowledge = class_texts(features, classes, made, options, load)
    with progress_bar("training") as advance:

        def show(run: Run) -> None:
            advance(
                run.number - 1, run.of, f"{run.head}, {'all' if run.shots is None else run.shots} a class"
            )

        results = train_and_evaluate(
            train,
            test,
            knowledge,
            made,
            protocol=protocol,
            shots=shots,
            first_seed=options["seed"],
            seeds=options["seeds"] or (3 if few else 1),
            fit=fit,
            settings={
                **settings,
                **sides.settings,
                "seed": options["seed"],
                "text_encoder": options["text_encoder"].name if options["text_encoder"] else "",
            },
            device=choose_device(options["device"]),
            on_run=show,
        )
    comparisons = _compared_by_shots(results)
    published = find_published(options["papers"], options["dataset"], protocol, shots)
    if str(json_file) != "-":
        _print_trained(results, comparisons, few)
        print_published(options["papers"], options["dataset"], protocol, published)
    return {
        "protocol": protocol,
        "results": [result.to_dict() for result in results],
        "comparisons": [{**vars(comparison), "shots": shots} for shots, comparison in comparisons],
        **to_json(options["papers"], published),
    }


def _sides(features: FeatureCache, classes: Lexicon, options: dict[str, Any]) -> TrainTest:
    """What is trained on and what is tested: the list's splits, or where it has none a random one."""
    from ..pipeline.evaluation import (
        TrainTest,
        check_disjoint,
        drawn_split,
        draws_test_set,
        select_test_set,
        training_set,
    )

    train_split, split, share = options["train_split"], options["split"], options["test_share"]
    if draws_test_set(features, share, train_split, split):
        sides = drawn_split(features, classes, train_split, share, seed=options["seed"])
    else:
        sides = TrainTest(
            training_set(features, classes, train_split), select_test_set(features, classes, split)
        )
    notes = check_disjoint(features, sides.train, sides.test)
    return replace(sides, test=replace(sides.test, notes=[*sides.test.notes, *notes]))


def _shots(
    asked: tuple[int | None, ...], train: LabeledVideos, classes: Lexicon
) -> tuple[tuple[int | None, ...], list[str]]:
    """The numbers of shots; by default those that every class has videos for, and a note on the others."""
    import numpy as np

    from ..pipeline.evaluation import FEW_SHOT_SHOTS

    if asked:
        return asked, []
    count = np.bincount(train.labels, minlength=len(classes))
    fewest = int(count.argmin())
    too_many = [str(shots) for shots in FEW_SHOT_SHOTS if shots and shots > count[fewest]]
    if not too_many:
        return FEW_SHOT_SHOTS, []
    return tuple(shots for shots in FEW_SHOT_SHOTS if not shots or shots <= count[fewest]), [
        f"{', '.join(too_many)} shots are left out: the class {classes.labels[fewest]!r} has {count[fewest]} training "
        "videos."
    ]


def _compared_by_shots(results: list[Result]) -> list[tuple[int | str, Comparison]]:
    """Every head against the first, where both learned from as many videos."""
    from ..pipeline.evaluation import compare

    first = {r.settings["shots"]: r for r in results if r.scorer == results[0].scorer}
    return [
        (result.settings["shots"], compare(result, first[result.settings["shots"]]))
        for result in results
        if result.scorer != results[0].scorer
        and result.settings["shots"] in first
        and len(result.hits) == len(first[result.settings["shots"]].hits)
    ]


def _print_trained(results: list[Result], comparisons: list[tuple[int | str, Comparison]], few: bool) -> None:
    from ..pipeline.evaluation import METRICS
    from .output import console, count, printable, table, warn

    first = results[0]
    settings = first.settings
    title = (
        f"{first.protocol}: {count(first.n_videos, 'video')}"
        f"{' of split ' + printable(settings['split']) if settings['split'] else ''}, "
        f"{count(first.n_classes, 'class', 'classes')} ({printable(settings['lexicon'])}), learned from split "
        f"{printable(settings['train_split'])}"
    )
    heads = list(dict.fromkeys(result.scorer for result in results))
    if few:
        columns = list(dict.fromkeys(result.settings["shots"] for result in results))
        cell = {(r.scorer, r.settings["shots"]): str(r.figures["top1"]) for r in results}
        rows = [[head, *(cell.get((head, shots), "-") for shots in columns)] for head in heads]
        names = ["top-1 %", *(f"{shots}-shot" if shots != "all" else "all" for shots in columns)]
    else:
        rows = [[r.scorer, *(str(r.figures[field]) for field in METRICS)] for r in results]
        names = ["", *(f"{name} %" for name in METRICS.values())]
    rows.append(["chance", f"{100 / first.n_classes:.1f}", *("" for _ in names[2:])])
    console().print(table(title, names, rows))
    for shots, comparison in comparisons:
        click.echo(f"{f'{shots}-shot: ' if few else ''}{printable(comparison)}")
    seeds = max(len(result.repetitions) for result in results)
    spread = f"± standard deviation over {seeds} seeds; " if seeds > 1 else ""
    click.echo(f"{printable(settings['encoder'])}; {spread}brackets: 95 % bootstrap interval over videos.")
    if settings["as_released"]:
        click.echo(released_line(settings["as_released"]))
    for note in first.notes:
        warn(note)
