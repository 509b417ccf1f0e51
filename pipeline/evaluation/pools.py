"""The pools: how the frames of a video make its scores, by name."""

from __future__ import annotations

from collections.abc import Callable

from ...cache import TextEmbeddings
from ..scoring import ConceptSpottingConfig, MaxScorer, MeanScorer, Scorer, SpottingScorer, VoteScorer


def pool_scorer(
    pool: str, texts: TextEmbeddings, *, config: ConceptSpottingConfig, view_average: str | None, device: str
) -> Scorer:
    """Return the scorer of a pool, one of POOLS, for classes of these texts."""
    sentence = texts.sentence
    makers: dict[str, Callable[[], Scorer]] = {
        "mean": lambda: MeanScorer(sentence, view_average=view_average or "features"),
        "max": lambda: MaxScorer(sentence),
        "vote": lambda: VoteScorer(sentence),
        "vcs": lambda: _spotting_scorer(texts, config, view_average, device),
        "released-bike": lambda: VoteScorer(sentence, raw=True, name="released-bike"),
        "released-text4vis": lambda: MeanScorer(sentence, "released-text4vis"),
    }
    return makers[pool]()


def _spotting_scorer(
    texts: TextEmbeddings, config: ConceptSpottingConfig, view_average: str | None, device: str
) -> Scorer:
    from ..devices import choose_device
    from ..scoring import ConceptSpotter

    spotter = ConceptSpotter(texts, config, device=choose_device(device))
    return SpottingScorer(spotter, view_average=view_average or "probabilities")
