"""What the methods reach on the world's videos: the numbers of `vidclip demo` and of the report."""

from __future__ import annotations

import numpy as np

from ..cache import FeatureCache, StoredAttributes, TextEmbeddings
from ..lexicons import Lexicon
from ..pipeline.evaluation import LabeledVideos, Result, evaluate, select_videos
from ..pipeline.scoring import (
    AttributesScorer,
    ConceptSpotter,
    ConceptSpottingConfig,
    FusionScorer,
    MeanScorer,
    Scorer,
    SpottingScorer,
)

PROMPT = "This is a video about {}"
TEMPERATURE = 0.15
"""The temperature of concept spotting, chosen on the validation videos by `python -m vidclip.demo.report`:
of 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3 and 0.5 the best mean top-1 over trimmed, idle and distracting."""
KINDS = ("trimmed", "idle", "distracting")


def split_of(kind: str, split: str = "test") -> str:
    """The split that holds the videos of a kind: `test`, `test-idle`, `test-distracting`."""
    return split if kind == "trimmed" else f"{split}-{kind}"


def spotting_scorer(texts: TextEmbeddings, temperature: float = TEMPERATURE, name: str = "") -> Scorer:
    """Concept spotting with words for saliency and the sentence for recognition, the paper's best."""
    spotter = ConceptSpotter(texts, ConceptSpottingConfig(temperature=temperature))
    return SpottingScorer(spotter, name=name or f"vcs ({temperature:g})")


def main_scorers(texts: TextEmbeddings, attributes: StoredAttributes) -> list[Scorer]:
    """Mean pooling, concept spotting, attributes, and mean pooling and concept spotting fused with attributes."""
    mean = MeanScorer(texts.sentence)
    spotting = spotting_scorer(texts)
    read = AttributesScorer(attributes.sentence, texts.sentence)
    return [mean, spotting, read, FusionScorer(mean, read, 0.6), FusionScorer(spotting, read, 0.6)]


def results_by_kind(
    cache: FeatureCache, classes: Lexicon, scorers: list[Scorer], split: str = "test"
) -> dict[str, list[Result]]:
    """Top-1 among all classes, for every kind of video that the cache has: {kind: one result a scorer}."""
    found = {}
    for kind in KINDS:
        if split_of(kind, split) in cache.splits:
            test = select_videos(cache, classes, split_of(kind, split))
            found[kind] = evaluate(cache, test, scorers, "full-classes", len(classes))
    return found


def subset(test: LabeledVideos, keep: np.ndarray) -> LabeledVideos:
    """The test videos whose class is among `keep`."""
    return test.take(np.isin(test.targets, keep))
