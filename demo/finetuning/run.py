"""A run: the training, the features of the test videos, and which of these were recognized."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon, load_lexicon
from ...pipeline.datasets import VideoList, read_videos
from ...pipeline.encoders import EncoderLoader, load_open_clip
from ...pipeline.evaluation import (
    FEW_SHOT_SETTINGS,
    ScoringSettings,
    build_scorers,
    evaluate,
    select_videos,
    train_head,
)
from ...pipeline.extraction import ExtractSettings, extract
from ...pipeline.finetune import Finetuning, find_recipe, training_videos
from ...pipeline.heads import ClassTexts, HeadScorer, load_head
from ...pipeline.scoring import MeanScorer, Scorer
from ...pipeline.video import Sampling
from ..actions import ACTIONS
from ..learned import ORDER_SETTINGS
from ..measure import KINDS, PROMPT, split_of, spotting_scorer, subset
from ..report import Measurements
from ..two_languages import STEPS, STILLS, settings_of, towers
from ..videos import LIST_FILE
from .hits import CLASS_COLUMNS, ORDER_COLUMNS, WITHOUT_PROMPTS, hits_suffix
from .runs import HEADS, MODEL, Run


def run_once(world: Path, run: Run, seed: int, split: str) -> None:
    """Train where that is not done, and write which videos of a split were recognized."""
    classes = load_lexicon("demo-order" if run.videos == "order" else "demo-classes")
    began = time.monotonic()
    if run.trains == "encoder":
        folder = run.place(world, seed)
        if not (folder / "training.json").exists():
            _train(world, run, seed)
        trained = time.monotonic() - began
        cache = _extract(world, run, seed, split)
        load = EncoderLoader(models=[(f"local-dir:{folder}", "")])
        heads = [("head", load_head(folder / "head.safetensors"))]
        prompts = ("on", "off") if run.has_video_prompts else ("on",)
        settings = ScoringSettings((PROMPT,), (), video_prompts=prompts)
        scorers = build_scorers(cache, classes, settings, heads=heads, load=load)
        names = [run.name, f"{run.name} {WITHOUT_PROMPTS}"]
    else:
        measured = Measurements(world, MODEL)
        cache = measured.sequences() if run.videos == "order" else measured.cache
        texts = measured.texts(classes=classes)
        name, scorer = run.name, MeanScorer(texts.sentence)
        if run.name == "frozen-vcs":
            scorer = spotting_scorer(texts)
        if run.trains == "head":
            name, scorer = _best_head(cache, ClassTexts(classes.labels, texts), classes, run, seed)
        trained = time.monotonic() - began
        scorers, names = [scorer], [name]
    found = _order_hits if run.videos == "order" else _class_hits
    for i, scorer in reversed(list(enumerate(scorers))):  # what says that the run is done comes last
        document = {"seconds": trained, "scorer": names[i], "hits": found(cache, classes, scorer, split)}
        document["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        hits = run.place(world, seed, hits_suffix(split, names[i]))
        hits.parent.mkdir(exist_ok=True)
        hits.write_text(json.dumps(document) + "\n", encoding="utf-8")


def _train(world: Path, run: Run, seed: int) -> None:
    classes = {
        "all": load_lexicon("demo-classes"),
        "seen": _seen_classes(),
        "order": load_lexicon("demo-order"),
    }[run.videos]
    split = "train-order" if run.videos == "order" else "train"
    names = set(classes.labels)
    videos = read_videos(world / LIST_FILE)
    listed = VideoList(v for v in videos if v.split == split and v.labels[0] in names)
    second = None
    if run.second:
        tower = towers(world, run.second, STEPS, STILLS, workers=1)[seed]
        second = settings_of(run.second, f"local-dir:{tower}")
    recipe = find_recipe("text4vis", **run.changes, second=second, seed=seed)
    chosen = training_videos(listed, classes, split="all", shots=run.shots, held_out=0, seed=seed)
    encoder = load_open_clip(MODEL, device="cpu", precision="fp32")
    folder = run.place(world, seed)
    training = Finetuning(chosen, encoder, recipe, folder, reading=ExtractSettings(workers=1))
    training.run(lambda report: print(f"{folder.name}: {report}", file=sys.stderr, flush=True))


def _seen_classes() -> Lexicon:
    names = tuple(action.name for action in ACTIONS if action.seen)
    return Lexicon("seen", names, names)


def _extract(world: Path, run: Run, seed: int, split: str) -> FeatureCache:
    order = run.videos == "order"
    splits = {f"{split}-order"} if order else {split_of(kind, split) for kind in KINDS}
    sampling = Sampling(run.changes.get("frames", 8), position="middle" if order else "start")
    encoder = load_open_clip(f"local-dir:{run.place(world, seed)}", device="cpu", precision="fp32")
    features = run.place(world, seed, f".{split}")
    videos = read_videos(world / LIST_FILE)
    chosen = VideoList(video for video in videos if video.split in splits)
    extract(chosen, encoder, features, sampling, ExtractSettings(workers=1))
    return FeatureCache(features)


def _best_head(
    cache: FeatureCache, texts: ClassTexts, classes: Lexicon, run: Run, seed: int
) -> tuple[str, Scorer]:
    """Train the heads on cached features; return the one that is the best on validation videos, and its name."""
    order = run.videos == "order"
    train = select_videos(cache, classes, "train-order" if order else "train")
    settings = replace(ORDER_SETTINGS if order else FEW_SHOT_SETTINGS, seed=seed)
    found = _order_hits if order else _class_hits
    best: tuple[float, str, Scorer] | None = None
    for config in HEADS:
        if config.classifier == "lda" and run.shots == 1:
            continue  # one video of each class has no covariance within classes
        head = train_head(cache, train, texts, config, settings, shots=run.shots).head
        scorer = HeadScorer(head, name=config.name)
        hits = found(cache, classes, scorer, "validation")
        columns = ORDER_COLUMNS[:1] if order else KINDS
        top1 = float(np.mean([[int(digit) for digit in hits[column]] for column in columns]))
        if best is None or top1 > best[0]:
            best = top1, config.name, scorer
    assert best is not None
    return best[1:]


def _class_hits(cache: FeatureCache, classes: Lexicon, scorer: Scorer, split: str) -> dict[str, str]:
    """Return which videos were recognized among all classes, of each kind; and of the trimmed ones, the seen and the
    unseen classes among all, and the unseen ones among themselves."""
    every = np.arange(len(ACTIONS))
    seen = np.array([i for i, action in enumerate(ACTIONS) if action.seen])
    unseen = np.setdiff1d(every, seen)
    parts = {kind: (split_of(kind, split), every, every) for kind in KINDS}
    parts |= dict(
        zip(
            CLASS_COLUMNS,
            [(split, seen, every), (split, unseen, every), (split, unseen, unseen)],
            strict=True,
        )
    )
    return {name: _hits(cache, classes, scorer, *part) for name, part in parts.items()}


def _order_hits(cache: FeatureCache, classes: Lexicon, scorer: Scorer, split: str) -> dict[str, str]:
    """Return which videos were recognized among the two classes of their pair, and among the ten."""
    every = np.arange(len(classes))
    pairs = [every[first : first + 2] for first in range(0, len(every), 2)]
    within = [_hits(cache, classes, scorer, f"{split}-order", pair, pair) for pair in pairs]
    among_all = _hits(cache, classes, scorer, f"{split}-order", every, every)
    return dict(zip(ORDER_COLUMNS, ["".join(within), among_all], strict=True))


def _hits(
    cache: FeatureCache,
    classes: Lexicon,
    scorer: Scorer,
    split: str,
    tested: np.ndarray,
    candidates: np.ndarray,
) -> str:
    test = subset(select_videos(cache, classes, split), tested)
    result = evaluate(cache, test, [scorer], "kinetics600", len(classes), class_sets={"": candidates})[0]
    return "".join("01"[int(hit)] for hit in result.hits[0][1])
