"""`vidclip eval --compare`: the papers' figures beside one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..lexicons import Lexicon
    from ..pipeline.evaluation import PublishedFigure


def dataset_of(classes: Lexicon) -> str:
    """Return the data set whose classes these are. Raises click.UsageError where they are of none: the papers' figures are
    of whole lists of classes."""
    from ..lexicons import load_lexicon
    from ..pipeline.evaluation import DATASETS

    lexicons = [load_lexicon(name) for name in DATASETS]
    for lexicon in lexicons:
        if lexicon.labels == classes.labels:
            return lexicon.name
    holders = [lexicon for lexicon in lexicons if all(lexicon.find(label) for label in classes.labels)]
    smallest = min(holders, key=len).name if holders else "ucf101"
    what = "these" if classes.name == "labels" else f"those of {classes.name}"
    raise click.UsageError(
        f"--compare: whose classes are {what}? Say it with --lexicon{'' if holders else ', such as'} {smallest}."
    )


def print_published(
    papers: Sequence[str], dataset: str, protocol: str, found: Sequence[PublishedFigure]
) -> None:
    """Print a table for each paper, or a sentence that says what it has instead."""
    from ..pipeline.evaluation import METRICS
    from .output import console, printable, table

    for paper in dict.fromkeys(papers):
        figures = [figure for figure in found if figure.paper == paper]
        if not figures:
            click.echo(_nothing(paper, dataset, protocol))
            continue
        rows = [
            [
                figure.method,
                figure.table,
                figure.kind,
                figure.backbone or "?",
                "?" if figure.frames is None else figure.frames,
                figure.views or "?",
                "all" if figure.shots is None else figure.shots,
                METRICS[figure.metric],
                str(figure.value) if figure.spread is None else f"{figure.value} ± {figure.spread}",
            ]
            for figure in figures
        ]
        columns = ["method", "table", "kind", "backbone", "frames", "views", "shots", "metric", "%"]
        console().print(table(f"{paper}, {dataset}, {protocol}: as published", columns, rows, left=4))
        if all(figure.kind == "fine-tuned" for figure in figures):
            click.echo("All of these trained the encoder on videos: no target for frozen features.")
        for source, note in dict.fromkeys((figure.source, figure.note) for figure in figures):
            click.echo(printable(f"{source}: {note}" if note else source))


def _nothing(paper: str, dataset: str, protocol: str) -> str:
    """Return a sentence on a paper without such a figure: which it does print."""
    from ..pipeline.evaluation import load_published

    protocols: dict[str, dict[str, None]] = {}
    for figure in load_published():
        if figure.paper == paper:
            protocols.setdefault(figure.dataset, {})[figure.protocol] = None
    has = "; ".join(f"{name}: {', '.join(known)}" for name, known in protocols.items())
    return (
        f"{paper} prints no figure for {dataset} under {protocol}, or none that could be read. It has {has}."
    )


def to_json(papers: Sequence[str], found: Sequence[PublishedFigure]) -> dict[str, Any]:
    """Return the figures for JSON, where `--compare` names papers."""
    return {"published": [vars(figure) for figure in found]} if papers else {}
