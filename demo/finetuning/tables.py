"""The tables that docs/demo.md has of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...cache import FeatureCache
from ...lexicons import load_lexicon
from ...pipeline.evaluation import evaluate, select_videos
from ...pipeline.scoring import AttributesScorer, FusionScorer, MeanScorer, Scorer, attributes_of
from ..measure import KINDS, split_of, spotting_scorer
from ..report import Measurements, table
from .hits import (
    CLASS_COLUMNS,
    ORDER_COLUMNS,
    WITHOUT_PROMPTS,
    Hits,
    difference,
    figure,
    hits_suffix,
    read_hits,
)
from .runs import RUNS

TABLES = {
    "finetuned": (KINDS, ("frozen", "frozen-vcs", "cached", "tuned", "cached-4", "tuned-4")),
    "finetuned-unseen": (CLASS_COLUMNS, ("frozen", "tuned-seen")),
    "finetuned-classifiers": (KINDS, ("tuned", "lda", "lda-100", "orthogonal", "orthogonal-100", "random")),
    "finetuned-losses": (KINDS, ("tuned", "contrastive", "contrastive-alone")),
    "finetuned-order": (
        ORDER_COLUMNS,
        (
            "order-plain",
            "frozen-order",
            "cached-order",
            "order-token-shift",
            "order-token-t1d",
            "order-transformer",
        ),
    ),
    "x-clip-order": (ORDER_COLUMNS, ("order-cross-frame", "order-mit", "order-x-clip", "cached-order")),
    "x-clip-parts": (
        CLASS_COLUMNS,
        (
            "frozen",
            "cross-frame",
            "cross-frame-mit",
            "x-clip",
            f"x-clip {WITHOUT_PROMPTS}",
            "x-clip-text",
            f"x-clip-text {WITHOUT_PROMPTS}",
        ),
    ),
    "x-clip-names": (
        CLASS_COLUMNS,
        ("cross-frame-mit", "x-clip-templates", "x-clip-learned", "x-clip"),
    ),
    "prompts-order": (
        ORDER_COLUMNS,
        (
            "frozen-order",
            *(f"prompts-{parts}" for parts in ("cg-none", "cg", "i-none", "cgi-none", "cgi", "no-residual")),
            "cached-order-16",
        ),
    ),
    "prompts-beta": (
        ORDER_COLUMNS,
        (
            "prompts-cgi-none",
            *(f"prompts-{beta}" for beta in ("mlp", "lstm", "transformer", "tada", "c3d", "cgi")),
            "prompts-no-residual",
        ),
    ),
    "prompts-settings": (
        ORDER_COLUMNS,
        (
            "prompts-cgi",
            "prompts-ci",
            "prompts-12-prompts",
            "prompts-4-frames",
            "prompts-cgi-4",
            "prompts-cgi-50",
            "cached-order-4",
            "cached-order",
        ),
    ),
    "prompts-classes": (
        KINDS,
        (
            "frozen",
            "cached-4",
            "prompts-classes-none",
            "prompts-classes",
            "prompts-classes-chinese",
            "prompts-classes-paraphrase",
            "prompts-classes-g",
        ),
    ),
    "prompts-shots": (
        KINDS,
        (
            "frozen",
            *(
                f"{name}-{shots}".removesuffix("-4") if name == "prompts-classes" else f"{name}-{shots}"
                for shots in (1, 2, 4, 8, 16)
                for name in ("cached", "prompts-classes")
            ),
        ),
    ),
    "prompts-texts": (KINDS, ("prompts-classes", "prompts-classes-person", "prompts-classes-bare")),
    "prompts-unseen": (CLASS_COLUMNS, ("frozen", "prompts-seen")),
    "x-clip-text": (KINDS, ("x-clip-all", f"x-clip-all {WITHOUT_PROMPTS}", "x-clip-without-text")),
}
"""Of each table: columns, and runs; differences are to the first of them."""


def make_tables(world: Measurements, split: str) -> dict[str, str]:
    """Return the tables whose runs are all done, by name."""
    runs = {run.name: run for run in RUNS}
    made = {}
    for name, (columns, names) in TABLES.items():
        files = {}
        for each in names:
            run = runs[each.removesuffix(f" {WITHOUT_PROMPTS}")]
            suffix = hits_suffix(split, each)
            files[each] = [run.place(world.folder, seed, suffix) for seed in range(run.seeds)]
        if all(path.exists() for paths in files.values() for path in paths):
            made[name] = _table([(each, read_hits(paths)) for each, paths in files.items()], columns)
    tuned = runs["tuned"].place(world.folder, 0, f".{split}")
    if tuned.exists():
        made["finetuned-attributes"] = _attributes(world, FeatureCache(tuned), split)
    return made


def _table(named: Sequence[tuple[str, Hits]], columns: Sequence[str]) -> str:
    """Return a table of the runs: their figures, differences to those of the first, minutes, and memory where it was measured."""
    first = named[0][1].by_column
    measured = any(hits.peak_mib for _, hits in named)
    rows = []
    for i, (name, hits) in enumerate(named):
        cells = []
        for column in columns:
            values = hits.by_column[column]
            cells.append(figure(values) + (f"; {difference(values, first[column])}" if i else ""))
        scorer = "" if hits.scorer == name else f": {hits.scorer}"
        memory = [f"{max(hits.peak_mib):,.0f}" if hits.peak_mib else "-"] if measured else []
        rows.append([name + scorer, *cells, f"{np.mean(hits.seconds) / 60:.1f}", *memory])
    return table(["top-1 %", *columns, "minutes", *(["MiB"] if measured else [])], rows)


def _attributes(world: Measurements, tuned: FeatureCache, split: str) -> str:
    """Return a table of attributes that `demo` retrieves, fused with `demo-vit`, frozen and fine-tuned.

    BIKE retrieves with another encoder, ViT-L/14, than it recognizes with.
    """
    other = Measurements(world.folder)
    read = attributes_of(other.cache, [load_lexicon("demo")], load=other.load).stored.sentence
    own = attributes_of(world.cache, [load_lexicon("demo")], load=world.load).stored.sentence
    rows = []
    texts = world.texts()
    place = {video: i for i, video in enumerate(world.cache.ids)}
    assert list(other.cache.ids) == list(world.cache.ids)
    in_tuned = np.array([place[video] for video in tuned.ids])
    for title, cache, by_others, by_itself in (
        ("frozen", world.cache, read, own),
        ("fine-tuned", tuned, read[in_tuned], own[in_tuned]),
    ):
        mean = MeanScorer(texts.sentence)
        alone = AttributesScorer(by_others, texts.sentence, name="attributes of demo")
        itself = AttributesScorer(by_itself, texts.sentence, name="attributes of demo-vit")
        scorers: list[Scorer] = [
            mean,
            alone,
            *(FusionScorer(mean, read_by, weight) for read_by in (alone, itself) for weight in (0.6, 0.8)),
            spotting_scorer(texts),
            FusionScorer(spotting_scorer(texts), alone, 0.6),
        ]
        results = {
            kind: evaluate(
                cache,
                select_videos(cache, world.classes, split_of(kind, split)),
                scorers,
                "full-classes",
                len(world.classes),
            )
            for kind in KINDS
        }
        for i, scorer in enumerate(scorers):
            cells = []
            for kind in KINDS:
                hits, first = (100.0 * results[kind][k].hits[0][1][None].astype(float) for k in (i, 0))
                cells.append(figure(hits) + (f"; {difference(hits, first)}" if i else ""))
            rows.append([f"{title}, {scorer.name}", *cells])
    return table(["top-1 %; difference to mean", *KINDS], rows)
