"""The figures that the papers print, from `published.json` beside this module, to stand beside one's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...lexicons.registry import ENTRIES
from ..choices import PAPERS

DATASETS = tuple(entry.name for entry in ENTRIES)
"""Names of datasets: those of the lexicons."""


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
    """One that `vidclip eval` takes."""
    shots: int | None
    """Training videos of each class of this dataset: 0 where none were used, None where all were."""
    metric: str
    """top1, top5, mean_class or map, all in percent."""
    value: float
    """Percent."""
    spread: float | None
    """What the paper prints after its plus-minus sign, in points; None where it prints none."""
    kind: str
    """What was trained: `zero-shot` nothing; `head-only` something on the output of frozen encoders; `fine-tuned` an
    encoder, or something inside it. Features from a cache can be put beside the first two."""
    source: str
    """Where the figure stands: authors, paper, table, version of the text."""
    note: str = ""
    """What else a comparison has to know."""


@cache
def load_published() -> tuple[PublishedFigure, ...]:
    """Return all figures, in the order of the file: paper by paper, table by table."""
    text = Path(__file__).with_name("published.json").read_text(encoding="utf-8")
    return tuple(PublishedFigure(**row) for row in json.loads(text)["figures"])


def published_for(
    papers: Sequence[str], dataset: str, protocol: str, shots: Sequence[int | None] = ()
) -> list[PublishedFigure]:
    """Return the figures of a dataset and protocol, paper by paper, in the order of their tables.

    papers     some of `PAPERS`
    dataset    one of `DATASETS`; one without figures gives an empty list
    shots      of few-shot: training videos of each class (None: all); other protocols have their own
    Raises ValueError for a paper or dataset that is not known.
    """
    for name, known in (*((paper, PAPERS) for paper in papers), (dataset, DATASETS)):
        if name not in known:
            raise ValueError(f"there is no {name!r} among {', '.join(known)}")
    return [
        figure
        for paper in dict.fromkeys(papers)
        for figure in load_published()
        if (figure.paper, figure.dataset, figure.protocol) == (paper, dataset, protocol)
        and (protocol != "few-shot" or figure.shots in shots)
    ]
