"""What is on the page of a report: plain values, from a cache and scorers.

N tested videos, C classes, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...cache import FeatureCache, StoredAttributes
from ...lexicons import Lexicon
from ..devices import choose_device
from ..encoders import EncoderLoader, text_embeddings
from ..evaluation import (
    Comparison,
    LabeledVideos,
    PredictionRow,
    Result,
    ScoringSettings,
    ZeroShotPlan,
    compare_with_first,
    results_of_predictions,
)
from ..scoring import ConceptSpotter, Scorer, find_attributes
from .decisions import ConfusedPair, Decisions, choose_examples, decide, decisions_of, most_confused


@dataclass(frozen=True, eq=False)
class Example:
    """A video to look at closely."""

    position: int
    """In 0..N-1."""
    captions: tuple[str, ...]
    """T, when each frame is shown, or which one it is."""
    saliency: Mapping[int, np.ndarray]
    """{class: shares [T] of its attention, which sum to 1}: the video's own class first, then what it was taken for."""
    attributes: tuple[tuple[str, float], ...] = ()
    """(phrase, cosine), the nearest first; the cosine is 0 where a file named the phrases."""


@dataclass(frozen=True, eq=False)
class Page:
    """All that a page says, without its pictures."""

    results: Sequence[Result]
    comparisons: Sequence[Comparison]
    """Of every scorer after the first with the first."""
    labels: tuple[str, ...]
    """C class names."""
    ids: tuple[str, ...]
    """N video ids."""
    splits: tuple[str, ...]
    test: LabeledVideos
    decisions: Sequence[Decisions]
    """One for each result, in their order."""
    confused: Sequence[Sequence[ConfusedPair]]
    """The most confused pairs, for each result."""
    examples: Sequence[Example]
    settings: Mapping[str, Any]
    """What shaped the figures, by name."""
    attributes_of: str = ""
    """What the attributes of the examples are from."""
    notes: Sequence[str] = field(default=())
    """What a reader should know, beside the notes of the results."""

    @property
    def targets(self) -> np.ndarray:
        """[N] int64, the class of each video."""
        return self.test.targets

    def hits(self, number: int) -> np.ndarray:
        """Return how many videos of each class the scorer of this number gets right, [C] int64."""
        decisions = self.decisions[number]
        right = self.targets[decisions.predicted == self.targets]
        return np.bincount(right, minlength=len(self.labels))

    def totals(self) -> np.ndarray:
        """Return how many videos each class has, [C] int64."""
        return np.bincount(self.targets, minlength=len(self.labels))


def compute_page(
    cache: FeatureCache,
    lexicon: Lexicon,
    plan: ZeroShotPlan,
    scorers: Sequence[Scorer],
    scoring: ScoringSettings,
    *,
    n_examples: int = 6,
    examples: Sequence[int] = (),
    retriever: FeatureCache | None = None,
    settings: Mapping[str, Any] | None = None,
    load: EncoderLoader | None = None,
    device: str = "auto",
) -> Page:
    """Score the videos of a plan of the protocol full-classes, and return what a page says of them.

    scorers       those that `build_scorers` makes of `scoring`; the first decides which videos are examples
    n_examples    videos that are chosen to be looked at: see `choose_examples`
    examples      positions in the cache of further ones, which must be tested
    retriever     the cache that retrieves attributes; None: `cache`
    settings      kept in the results, as in `ZeroShotPlan.run`
    load          gets the encoder where texts are not yet in the cache

    Raises ValueError for an example that is not tested; what `evaluate`, `text_embeddings` and `find_attributes` raise.
    """
    load = load or EncoderLoader()
    results = plan.run(scorers, settings)
    decisions = decide(cache, plan.test, scorers, len(lexicon))
    chosen = _chosen(cache, plan.test, decisions[0], n_examples, examples)
    attributes = None
    if chosen and scoring.attributes:
        found = find_attributes(
            cache, scoring.attributes, scoring.attribute_settings, retriever=retriever, load=load
        )
        attributes = found.stored
    shown = _examples(cache, lexicon, plan.test, decisions[0], scoring, chosen, attributes, load, device)
    of = str(attributes.settings["lexicon"]) if attributes else ""
    return _page(cache, lexicon, plan.test, results, decisions, shown, settings, attributes_of=of)


def page_of_predictions(
    cache: FeatureCache,
    lexicon: Lexicon,
    rows: Sequence[PredictionRow],
    scoring: ScoringSettings,
    *,
    n_examples: int = 6,
    examples: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
    load: EncoderLoader | None = None,
    device: str = "auto",
) -> Page:
    """Return what a page says of a file of predictions, without scoring: the figures are those of the run that wrote it.

    rows       of `read_predictions`, which must fit the cache
    scoring    prompts, words and concept spotting of the saliency of examples
    The others are those of `compute_page`. Raises EvaluationError as `results_of_predictions` does, ValueError for an
    example that is not tested, and what `text_embeddings` raises.
    """
    test, results, ordered = results_of_predictions(cache, lexicon, rows, settings)
    decisions = [decisions_of(own, lexicon) for own in ordered]
    chosen = _chosen(cache, test, decisions[0], n_examples, examples)
    load = load or EncoderLoader()
    shown = _examples(cache, lexicon, test, decisions[0], scoring, chosen, None, load, device)
    return _page(cache, lexicon, test, results, decisions, shown, settings)


def _chosen(
    cache: FeatureCache, test: LabeledVideos, decisions: Decisions, count: int, examples: Sequence[int]
) -> list[int]:
    """Return the positions among the tested of the videos to look at. Raises ValueError for one that is not tested."""
    place = {int(index): position for position, index in enumerate(test.indices)}
    unknown = next((index for index in examples if index not in place), None)
    if unknown is not None:
        raise ValueError(f"the video {cache.ids[unknown]!r} is not among those that are tested")
    chosen = [place[index] for index in dict.fromkeys(examples)]
    return chosen + [i for i in choose_examples(decisions, test.targets, count) if i not in chosen]


def _page(
    cache: FeatureCache,
    lexicon: Lexicon,
    test: LabeledVideos,
    results: Sequence[Result],
    decisions: Sequence[Decisions],
    examples: Sequence[Example],
    settings: Mapping[str, Any] | None,
    *,
    attributes_of: str = "",
) -> Page:
    return Page(
        results=results,
        comparisons=[comparison for _, comparison in compare_with_first(results)],
        labels=tuple(lexicon.labels),
        ids=tuple(cache.ids[index] for index in test.indices),
        splits=tuple(cache.splits[index] for index in test.indices),
        test=test,
        decisions=decisions,
        confused=[most_confused(each, test.targets, len(lexicon)) for each in decisions],
        examples=examples,
        settings={**(settings or {}), "split": test.split},
        attributes_of=attributes_of,
    )


def shown_view(cache: FeatureCache) -> int:
    """Return which view of a video is shown: the center crop of the first clip."""
    return int(cache.identity.sampling.get("crops", 1)) // 2 if cache.view is None else 0


def _examples(
    cache: FeatureCache,
    lexicon: Lexicon,
    test: LabeledVideos,
    decisions: Decisions,
    scoring: ScoringSettings,
    chosen: Sequence[int],
    attributes: StoredAttributes | None,
    load: EncoderLoader,
    device: str,
) -> list[Example]:
    if not chosen:
        return []
    texts = text_embeddings(cache, lexicon, scoring.prompts, words=scoring.words, load=load)
    spotter = ConceptSpotter(texts, scoring.spotting, device=choose_device(device))
    indices, view = test.indices[list(chosen)], shown_view(cache)
    shares = spotter.saliency(cache.frames(indices)[:, view])  # [n, C, T]
    seconds, numbers = cache.timestamps(indices)[:, view], cache.frame_indices(indices)[:, view]
    row_of = {id: row for row, id in enumerate(attributes.ids)} if attributes else {}
    examples = []
    for place, position in enumerate(chosen):
        classes = dict.fromkeys((int(test.targets[position]), int(decisions.predicted[position])))
        row = row_of.get(cache.ids[indices[place]])
        near: tuple[tuple[str, float], ...] = ()
        if attributes is not None and row is not None:
            near = tuple(zip(attributes.of(row), map(float, attributes.similarity[row]), strict=True))
        captions = tuple(
            f"frame {number}" if np.isnan(second) else f"{second:.1f} s"
            for number, second in zip(numbers[place], seconds[place], strict=True)
        )
        examples.append(Example(position, captions, {c: shares[place, c] for c in classes}, near))
    return examples
