"""What heads learn in the demo's world: classifiers after few videos, temporal modules on order pairs."""

from __future__ import annotations

from ..cache import FeatureCache, TextEmbeddings
from ..lexicons import Lexicon, load_lexicon
from ..pipeline.choices import CLASSIFIERS, TEMPORAL
from ..pipeline.evaluation import FEW_SHOT_SETTINGS, Result, select_videos, train_and_evaluate
from ..pipeline.heads import ClassTexts, HeadConfig, TrainSettings

SHOTS = (0, 1, 2, 4, 8, 16)
SEEDS = 3
ORDER_SETTINGS = TrainSettings(epochs=15, held_out=0)
"""Chosen on the validation videos; the rest are the defaults."""


def by_shots(
    cache: FeatureCache, classes: Lexicon, texts: TextEmbeddings
) -> tuple[list[str], list[list[object]]]:
    """(head, rows) of a table: top-1 of each classifier (Text4Vis, Tables 6 and 7) over the number of videos."""
    results = train_and_evaluate(
        cache,
        select_videos(cache, classes, "train"),
        select_videos(cache, classes, "test"),
        ClassTexts(classes.labels, texts),
        [HeadConfig(kind) for kind in CLASSIFIERS],
        shots=SHOTS,
        seeds=SEEDS,
        fit=FEW_SHOT_SETTINGS,
    )
    cells = {(result.scorer, result.settings["shots"]): result for result in results}
    rows = [[kind, *(_top1(cells.get((kind, k))) for k in SHOTS)] for kind in CLASSIFIERS]
    return ["top-1 %", *(f"{k} a class" for k in SHOTS)], rows


def by_temporal_module(cache: FeatureCache, texts: TextEmbeddings) -> tuple[list[str], list[list[object]]]:
    """(head, rows) of a table: top-1 among the ten order classes, of each module under the text classifier."""
    classes = load_lexicon("demo-order")
    train = select_videos(cache, classes, "train-order")
    results = train_and_evaluate(
        cache,
        train,
        select_videos(cache, classes, "test-order"),
        ClassTexts(classes.labels, texts),
        [HeadConfig(temporal=kind) for kind in TEMPORAL],
        protocol="general",
        shots=(0, None),
        seeds=SEEDS,
        fit=ORDER_SETTINGS,
    )
    cells = {(result.scorer, result.settings["shots"]): result for result in results}
    names = [HeadConfig(temporal=kind).name for kind in TEMPORAL]
    rows = [[name, _top1(cells[name, 0]), _top1(cells[name, "all"])] for name in names]
    return ["top-1 % among 10 classes", "untrained", f"trained on {len(train)} videos"], rows


def _top1(result: Result | None) -> object:
    return "-" if result is None else result.figures["top1"]
