"""Measures the demo: `python -m vidclip.demo.report [FOLDER] [--output docs/demo.md]`.

Renders the validation and test videos of `videos.csv` into FOLDER, extracts them, and writes the tables of
docs/demo.md. What is there already is used again. Settings are chosen on validation videos; test videos
are scored once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..cache import FeatureCache, TextEmbeddings
from ..lexicons import Lexicon, load_lexicon
from ..pipeline.datasets import VideoList, read_videos
from ..pipeline.encoders import EncoderLoader, load_encoder, text_embeddings
from ..pipeline.evaluation import Result, compare, evaluate, select_videos
from ..pipeline.extraction import ExtractSettings, extract
from ..pipeline.heads import fit_attributes
from ..pipeline.scoring import (
    AttributeSettings,
    AttributesScorer,
    ConceptSpotter,
    ConceptSpottingConfig,
    FusionScorer,
    MaxScorer,
    MeanScorer,
    Scorer,
    SpottingScorer,
    VoteScorer,
    attributes_of,
)
from ..pipeline.video import Sampling
from .actions import ACTIONS
from .learned import by_shots, by_temporal_module
from .measure import KINDS, PROMPT, TEMPERATURE, results_by_kind, split_of, spotting_scorer, subset
from .videos import LIST_FILE, list_clips, write_world

COUNTS = {
    "trimmed": {"train": 16, "validation": 4, "test": 10},
    "idle": {"validation": 4, "test": 10},
    "distracting": {"validation": 4, "test": 10},
    "order": {"train": 50, "validation": 10, "test": 50},
}
"""Videos per class that the report measures: a part of those that `videos.csv` lists."""
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


class Measurements:
    """The extracted world, and what is asked of it again and again."""

    def __init__(self, folder: Path, model: str = "demo") -> None:
        self.folder = folder
        for done, total in write_world(folder, list_clips(COUNTS)):
            _say(f"rendering {done}/{total}")
        self.features = folder / ("features" if model == "demo" else f"features-{Path(model).name}")
        self._encoder = load_encoder(model, precision="fp32")  # the same tables on every machine
        videos = read_videos(folder / LIST_FILE)
        self.cache = self._extract(videos, self.features, Sampling(frames=8))
        self.classes = load_lexicon("demo-classes")
        self.load = EncoderLoader(models=[(model, "")])

    def _extract(self, videos: VideoList, folder: Path, sampling: Sampling) -> FeatureCache:
        extract(
            videos,
            self._encoder,
            folder,
            sampling,
            ExtractSettings(workers=os.cpu_count() or 1),
            on_progress=lambda progress: _say(f"extracting {progress.done}/{progress.listed}"),
        )
        return FeatureCache(folder)

    def sequences(self) -> FeatureCache:
        """The order videos, sampled in the middle of each segment: the first frame of each, as elsewhere, would
        show one direction a little later than the other, and give some of the order away."""
        videos = read_videos(self.folder / LIST_FILE)
        order = VideoList(video for video in videos if video.split.endswith("-order"))
        folder = self.features.with_name(f"{self.features.name}-middle")
        return self._extract(order, folder, Sampling(frames=8, position="middle"))

    def texts(
        self, prompt: str = PROMPT, words: str = "name", classes: Lexicon | None = None
    ) -> TextEmbeddings:
        return text_embeddings(self.cache, classes or self.classes, [prompt], words=words, load=self.load)

    def by_kind(self, scorers: Sequence[Scorer], split: str = "test") -> dict[str, list[Result]]:
        return results_by_kind(self.cache, self.classes, list(scorers), split)


def zero_shot(world: Measurements) -> str:
    """Mean pooling on trimmed test videos: seen, unseen, together."""
    test = select_videos(world.cache, world.classes, "test")
    seen = np.array([i for i, action in enumerate(ACTIONS) if action.seen])
    unseen = np.array([i for i, action in enumerate(ACTIONS) if not action.seen])
    every = np.arange(len(ACTIONS))
    scorer = MeanScorer(world.texts().sentence)
    rows = []
    for name, tested, candidates, target in (
        ("seen, among the seen", seen, seen, "95"),
        ("unseen, among the unseen", unseen, unseen, "85"),
        ("seen, among all", seen, every, ""),
        ("unseen, among all", unseen, every, "60"),
        ("all, among all (generalised)", every, every, ""),
    ):
        part = subset(test, tested)
        result = evaluate(
            world.cache,
            part,
            [scorer],
            "kinetics600",
            len(every),
            class_sets={name: candidates},
        )[0]
        rows.append([name, len(part), result.figures["top1"], f"{100 / len(candidates):.1f}", target])
    return table(["videos", "n", "top-1 %", "chance", "target"], rows)


def temperatures(world: Measurements) -> tuple[str, float]:
    """Concept spotting on validation videos at each temperature; the table, and the best."""
    texts = world.texts()
    scorers = [MeanScorer(texts.sentence), *(spotting_scorer(texts, t) for t in TEMPERATURES)]
    found = world.by_kind(scorers, "validation")
    rows, means = [], []
    for i, scorer in enumerate(scorers):
        values = [found[kind][i].figures["top1"].mean for kind in KINDS]
        means.append(float(np.mean(values)))
        rows.append([scorer.name, *(f"{value:.1f}" for value in values), f"{means[-1]:.1f}"])
    best = TEMPERATURES[int(np.argmax(means[1:]))]
    return table(["validation", *KINDS, "mean of the three"], rows), best


def rivals(world: Measurements) -> str:
    """Concept spotting against mean pooling and other ways to weigh frames, paired, on test videos."""
    texts = world.texts()
    shifted = _with_words_of_others(texts)
    wrong = SpottingScorer(
        ConceptSpotter(shifted, ConceptSpottingConfig(temperature=TEMPERATURE)),
        name=f"vcs ({TEMPERATURE:g}), wrong words",
    )
    scorers: list[Scorer] = [
        MeanScorer(texts.sentence),
        spotting_scorer(texts, 1e6, "mean of unit frames"),  # every frame weighs the same
        MaxScorer(texts.sentence),
        VoteScorer(texts.sentence),
        spotting_scorer(texts, 0.01),
        spotting_scorer(texts),
        wrong,
    ]
    return _compared(world, scorers)


def queries(world: Measurements) -> str:
    """BIKE's Table 6b: words or sentence to weigh frames, words or sentence to recognize."""
    texts = world.texts()
    scorers: list[Scorer] = [MeanScorer(texts.sentence)]
    for saliency, recognition in (("words", "sentence"), ("words", "words"), ("sentence", "sentence")):
        spotting = ConceptSpottingConfig(saliency, recognition, temperature=TEMPERATURE)
        scorers.append(SpottingScorer(ConceptSpotter(texts, spotting), name=f"{saliency} / {recognition}"))
    for words in ("sentence", "all"):
        spotter = ConceptSpotter(world.texts(words=words), ConceptSpottingConfig(temperature=TEMPERATURE))
        scorers.append(SpottingScorer(spotter, name=f"words: {words} / sentence"))
    return _compared(world, scorers)


def attributes(world: Measurements) -> str:
    """Attributes alone and fused, on test videos."""
    texts = world.texts()
    mean, spotting = MeanScorer(texts.sentence), spotting_scorer(texts)
    read = AttributesScorer(_attributes(world), texts.sentence)
    scorers: list[Scorer] = [mean, spotting, read]
    scorers += [FusionScorer(video, read, weight) for video in (mean, spotting) for weight in (0.6, 0.8)]
    return _compared(world, scorers)


def attributes_trained(world: Measurements) -> str:
    """The attributes branch with the trained head, on test videos; 16 training videos a class."""
    texts = world.texts()
    read = _attributes(world)
    training = select_videos(world.cache, world.classes, "train")
    fitted = fit_attributes(read[training.indices], training.targets, texts.sentence)
    trained = AttributesScorer(*fitted.head.apply_to(read, texts.sentence), name="attributes, trained")
    mean, spotting = MeanScorer(texts.sentence), spotting_scorer(texts)
    scorers: list[Scorer] = [mean, AttributesScorer(read, texts.sentence), trained]
    scorers += [FusionScorer(video, trained, weight) for video in (mean, spotting) for weight in (0.6, 0.8)]
    return _compared(world, scorers)


def attribute_settings(world: Measurements) -> str:
    """BIKE's Tables 6c, 6d and 6g in small: prompts, number of attributes, lexicon; trimmed test videos."""
    both = world.texts().sentence
    bare = world.texts("{}").sentence
    cases: list[tuple[str, Callable[[], tuple[np.ndarray, np.ndarray]]]] = [
        ("no prompt", lambda: (_attributes(world, prompt="{}"), bare)),
        ("prompt on the attributes", lambda: (_attributes(world), bare)),
        ("prompt on both (default)", lambda: (_attributes(world), both)),
        ("3 attributes", lambda: (_attributes(world, top=3), both)),
        ("5 attributes (default)", lambda: (_attributes(world, top=5), both)),
        ("7 attributes", lambda: (_attributes(world, top=7), both)),
        ("lexicon demo (53 phrases, default)", lambda: (_attributes(world), both)),
        ("lexicon demo-classes (75)", lambda: (_attributes(world, lexicons=("demo-classes",)), both)),
        ("both lexicons", lambda: (_attributes(world, lexicons=("demo", "demo-classes")), both)),
    ]
    test = select_videos(world.cache, world.classes, "test")
    rows = []
    for name, make in cases:
        embeddings, sentence = make()
        read = AttributesScorer(embeddings, sentence)
        fused = FusionScorer(MeanScorer(both), read, 0.8)
        results = evaluate(world.cache, test, [read, fused], "full-classes", len(world.classes))
        rows.append([name, *(result.figures["top1"] for result in results)])
    return table(["attributes", "alone, top-1 %", "fused with mean pooling, 0.8"], rows)


def order_pairs(world: Measurements) -> str:
    """Mean pooling between the two classes of each order pair: what stills can say."""
    pairs = load_lexicon("demo-order")
    names = pairs.labels
    test = select_videos(world.cache, pairs, split_of("order"))
    scorer = MeanScorer(world.texts(classes=pairs).sentence)
    rows, right = [], []
    for first in range(0, len(names), 2):
        both = np.array([first, first + 1])
        part = subset(test, both)
        result = evaluate(
            world.cache, part, [scorer], "kinetics600", len(names), class_sets={names[first]: both}
        )[0]
        rows.append([f"{names[first]} / {names[first + 1]}", len(part), result.figures["top1"]])
        right.append(result.figures["top1"].mean)
    rows.append(["mean", len(test), f"{np.mean(right):.1f}"])
    return table(["pair", "n", "mean pooling, top-1 % (chance 50)"], rows)


def classifiers_by_shots(world: Measurements) -> str:
    """Every classifier after so many training videos of a class, on trimmed test videos."""
    return table(*by_shots(world.cache, world.classes, world.texts()))


def order_heads(world: Measurements) -> str:
    """Temporal modules among the ten order classes, on test videos."""
    return table(*by_temporal_module(world.sequences(), world.texts(classes=load_lexicon("demo-order"))))


def _attributes(
    world: Measurements, *, top: int = 5, prompt: str = PROMPT, lexicons: Sequence[str] = ("demo",)
) -> np.ndarray:
    settings = AttributeSettings(top=top, prompt=prompt)
    return attributes_of(
        world.cache, [load_lexicon(name) for name in lexicons], settings, load=world.load
    ).stored.sentence


def _with_words_of_others(texts: TextEmbeddings) -> TextEmbeddings:
    """Every class asks the frames with the words of another: half of the list further on."""
    n = len(texts.phrases)
    order = [(c + n // 2) % n for c in range(n)]
    spans = [texts.words[texts.offsets[c] : texts.offsets[c + 1]] for c in order]
    offsets = np.cumsum([0, *(len(span) for span in spans)], dtype=np.int64)
    return replace(texts, words=np.concatenate(spans), offsets=offsets)


def _compared(world: Measurements, scorers: Sequence[Scorer]) -> str:
    """Top-1 of every scorer on every kind of test videos, and the paired difference to the first."""
    found = world.by_kind(scorers)
    rows = []
    for i, scorer in enumerate(scorers):
        cells = []
        for kind in KINDS:
            result, baseline = found[kind][i], found[kind][0]
            cell = str(result.figures["top1"])
            if i:
                against = compare(result, baseline)
                cell += f"; {against.difference:+.1f} [{against.low:+.1f}, {against.high:+.1f}]"
            cells.append(cell)
        rows.append([scorer.name, *cells])
    return table(["top-1 %; difference to mean", *KINDS], rows)


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, head)) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def _say(message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{message}", end="", file=sys.stderr, flush=True)


SECTIONS: dict[str, Callable[[Measurements], str]] = {
    "zero-shot": zero_shot,
    "rivals": rivals,
    "queries": queries,
    "attributes": attributes,
    "attributes-trained": attributes_trained,
    "attribute-settings": attribute_settings,
    "shots": classifiers_by_shots,
    "order": order_pairs,
    "order-heads": order_heads,
}


def fill(document: str, tables: dict[str, str]) -> str:
    """Puts each table between its `<!-- name -->` and `<!-- /name -->`. Raises ValueError where one is missing."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if document.count(begin) != 1 or document.count(end) != 1:
            raise ValueError(f"the document has no place for the table {name!r}: {begin} ... {end}")
        before, rest = document.split(begin)
        document = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return document


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vidclip.demo.report", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("vidclip-demo-report"))
    parser.add_argument("--model", default="demo", help="an encoder of another seed: local-dir:FOLDER")
    parser.add_argument(
        "--output", type=Path, help="a document whose tables are replaced, such as docs/demo.md"
    )
    arguments = parser.parse_args()
    world = Measurements(arguments.folder, arguments.model)
    chosen, best = temperatures(world)
    tables = {"temperatures": chosen, **{name: make(world) for name, make in SECTIONS.items()}}
    for name, table in tables.items():
        print(f"\n{name}\n\n{table}")
    print(f"\nbest temperature on validation videos: {best:g} (measure.TEMPERATURE is {TEMPERATURE:g})")
    if arguments.output:
        filled = fill(arguments.output.read_text(encoding="utf-8"), tables)
        arguments.output.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
