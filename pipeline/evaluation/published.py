"""The figures that the papers print, from `published.json` beside this module, to stand beside one's own."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...lexicons.registry import ENTRIES

FORMAT, VERSION = "vidclip-published", 1

PAPERS = ("bike", "text4vis", "x-clip", "temporal-prompts")
"""Names of the papers."""

PROTOCOLS = (
    "full-classes",
    "half-classes",
    "kinetics600",
    "splits",
    "general",
    "few-shot",
    "multi-label",
)
"""Names of the protocols: the zero-shot ones, then those that train."""

METRICS = ("top1", "top5", "mean_class", "map")
"""Names of the metrics; all are in percent."""

KINDS = ("zero-shot", "head-only", "fine-tuned")
"""What was trained: nothing; something on the output of frozen encoders; an encoder, or something inside
it. Features from a cache can be put beside the first two."""

DATASETS = tuple(entry.name for entry in ENTRIES)
"""Names of datasets: those of the lexicons."""


class PublishedError(ValueError):
    """A file of figures that cannot be used."""


@dataclass(frozen=True)
class PublishedFigure:
    """One figure of one table."""

    paper: str
    """One of `PAPERS`."""

    table: str
    """Its number in the paper, such as ``5`` or ``6c``; or the section whose text has the figure."""

    method: str
    """The row of the table, in our words."""

    backbone: str | None
    """The image encoder; None where the paper does not say."""

    frames: int | None
    """Frames of a clip; None where the paper does not say."""

    views: str | None
    """Clips x crops, such as ``4x3``, or ``multiple``; None where the paper does not say."""

    dataset: str
    """One of `DATASETS`."""

    protocol: str
    """One of `PROTOCOLS`."""

    shots: int | None
    """Training videos of each class of this dataset: 0 where none were used, None where all were."""

    metric: str
    """One of `METRICS`."""

    value: float
    """Percent."""

    spread: float | None
    """What the paper prints after its plus-minus sign, in points; None where it prints none."""

    kind: str
    """One of `KINDS`."""

    source: str
    """Where the figure stands: authors, paper, table, version of the text."""

    note: str = ""
    """What else shaped it, for whoever compares."""

    def __post_init__(self) -> None:
        _check_name("paper", self.paper, PAPERS)
        _check_name("dataset", self.dataset, DATASETS)
        _check_name("protocol", self.protocol, PROTOCOLS)
        _check_name("metric", self.metric, METRICS)
        _check_name("kind", self.kind, KINDS)
        if not 0 <= self.value <= 100:
            raise ValueError(f"value is a percentage, got {self.value}")
        if self.spread is not None and not 0 <= self.spread <= 100:
            raise ValueError(f"spread is in points of a percentage, got {self.spread}")
        if self.shots is not None and self.shots < 0:
            raise ValueError(f"shots must not be negative, got {self.shots}")


def load_published(path: str | Path | None = None) -> list[PublishedFigure]:
    """All figures, in the order of the file: paper by paper, table by table.

    path    a file of the same form; default: the one that comes with vidclip
    Raises PublishedError, a ValueError, for a file that is of another form or says what cannot be; the
    message names the row.
    """
    source = files("vidclip.pipeline.evaluation") / "published.json" if path is None else Path(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:  # neither JSON nor UTF-8
        raise PublishedError(f"{source} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PublishedError(f"{source} is not a file of published figures: its format is not {FORMAT!r}.")
    if content.get("version") != VERSION:
        raise PublishedError(
            f"{source} is of version {content.get('version')!r}; this vidclip reads {VERSION}."
        )
    rows = content.get("figures")
    if not isinstance(rows, list):
        raise PublishedError(f"{source} has no list of figures.")
    return [_figure(row, f"{source}, figure {i}") for i, row in enumerate(rows, start=1)]


def published_for(
    *,
    paper: str | None = None,
    dataset: str | None = None,
    protocol: str | None = None,
    metric: str | None = None,
    shots: int | None = None,
    kind: str | None = None,
    figures: list[PublishedFigure] | None = None,
) -> list[PublishedFigure]:
    """The figures that agree with everything asked for, in the order of the papers' tables.

    None asks for nothing: ``shots=None`` gives few-shot figures of every number of shots, too.

    paper      one of `PAPERS`
    dataset    one of `DATASETS`, the canonical names of lexicons; a dataset without figures gives an
               empty list
    protocol   one of `PROTOCOLS`
    metric     one of `METRICS`
    shots      training videos of each class
    kind       one of `KINDS`
    figures    where to look; default: those that come with vidclip
    Raises ValueError for a name that is not known, with those that are.
    """
    asked = {"paper": paper, "dataset": dataset, "protocol": protocol, "metric": metric, "kind": kind}
    known = {"paper": PAPERS, "dataset": DATASETS, "protocol": PROTOCOLS, "metric": METRICS, "kind": KINDS}
    for field, name in asked.items():
        if name is not None:
            _check_name(field, name, known[field])
    if shots is not None and shots < 0:
        raise ValueError(f"shots must not be negative, got {shots}")
    wanted = {field: value for field, value in {**asked, "shots": shots}.items() if value is not None}
    return [
        figure
        for figure in (load_published() if figures is None else figures)
        if all(getattr(figure, field) == value for field, value in wanted.items())
    ]


def _check_name(field: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"no {field} of the name {name!r}; known are {', '.join(known)}")


_FIELDS = {field.name: field.default is MISSING for field in fields(PublishedFigure)}
"""Name of each field, and whether a row must have it."""

_NUMBERS = {"frames": int, "shots": int, "value": (int, float), "spread": (int, float)}
_NULLABLE = ("backbone", "frames", "views", "shots", "spread")


def _figure(row: Any, where: str) -> PublishedFigure:
    if not isinstance(row, dict):
        raise PublishedError(f"{where}: not an object.")
    if unknown := [key for key in row if key not in _FIELDS]:
        raise PublishedError(f"{where}: unknown field {unknown[0]!r}.")
    if missing := [name for name, needed in _FIELDS.items() if needed and name not in row]:
        raise PublishedError(f"{where}: no field {missing[0]!r}.")
    for name, value in row.items():
        if value is None and name in _NULLABLE:
            continue
        if not isinstance(value, _NUMBERS.get(name, str)) or isinstance(value, bool):
            raise PublishedError(f"{where}: {name} cannot be {value!r}.")
    try:
        return PublishedFigure(**row)
    except ValueError as error:
        raise PublishedError(f"{where}: {error}.") from error
