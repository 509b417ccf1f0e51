"""A search from its queries to its results: which videos, and with moments, when.

Q queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...cache import FeatureCache, TextEmbeddings
from ..choices import SEARCH_POOLS
from ..devices import choose_device
from ..encoders import check_has_time
from ..scoring import ConceptSpotter, ConceptSpottingConfig, FeatureSource, l2_normalize
from .compressed_index import CompressedIndex
from .errors import SearchError
from .moments import LEVEL, Moment, mean_frame, moments_of, spotted_moments
from .ranking import QueryScorer, Ranking, search_videos, text_scorer


@dataclass(frozen=True)
class Query:
    """One thing that is searched for."""

    name: str
    """The text, the id of the video, or the path of the file."""
    kind: str
    """`text`, `video` of the cache, `file`, or `mean` of several."""
    embedding: np.ndarray
    """[D], not normalized."""
    own: int | None = None
    """The position of the video in the cache, which is not among its own results."""


@dataclass(frozen=True)
class SearchSettings:
    """How a cache is searched. Raises ValueError for what cannot be."""

    top: int = 20
    """Results of a query."""
    pool: str = "mean"
    """One of SEARCH_POOLS; moments are found by `max` and `vcs`."""
    moments: bool = False
    """Whether the results are moments, or whole videos."""
    level: float = LEVEL
    """How far down from the best frame of its video a moment reaches; see `moments`."""
    spotting: ConceptSpottingConfig = field(default_factory=ConceptSpottingConfig)
    """For the pool `vcs`."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top must be at least 1, got {self.top}")
        if self.pool not in SEARCH_POOLS:
            raise ValueError(f"pool must be one of {', '.join(SEARCH_POOLS)}, got {self.pool!r}")
        if self.moments and self.pool == "mean":
            raise ValueError("moments are found by the pool max or vcs: the mean of a video has none")
        if not 0 <= self.level <= 1:
            raise ValueError(f"level must be between 0 and 1, got {self.level}")


@dataclass(frozen=True)
class Result:
    """One result of a query."""

    video: int
    """Position in the cache."""
    score: float
    moment: Moment | None = None


def text_query_list(texts: TextEmbeddings) -> list[Query]:
    """Return the queries of texts, by their sentence embeddings."""
    return [Query(text, "text", texts.sentence[i]) for i, text in enumerate(texts.phrases)]


def join_queries(queries: Sequence[Query]) -> Query:
    """Return one query in the place of several: the mean of their directions, and the videos that none of them is."""
    directions = l2_normalize(np.stack([query.embedding for query in queries]))
    return Query(" + ".join(query.name for query in queries), "mean", directions.mean(axis=0))


def find_results(
    source: FeatureSource,
    queries: Sequence[Query],
    settings: SearchSettings | None = None,
    *,
    texts: TextEmbeddings | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
    index: CompressedIndex | None = None,
    background: np.ndarray | None = None,
    device: str = "auto",
) -> list[list[Result]]:
    """Return the results of each query, best first, exactly, in one pass over the features; or those that an index finds.

    source     a cache, or features in memory, which have no moments
    texts      for the pool `vcs`: the words of the queries, which are all texts then
    indices    the videos among which is searched; None: all
    index      of the cache, and of the pool; with it all videos are searched
    background    `mean_frame` of the cache, where it is known; an index knows it

    The best moments of a query are those of its best videos: a video's score by `max` is that of its best moment.
    Raises SearchError for no queries, no videos, or `vcs` without texts; EncoderError for moments and `vcs` of a clip
    encoder that gives each video one embedding.
    """
    settings = settings or SearchSettings()
    if not queries:
        raise SearchError("there is nothing to search for: give a text, or a video.")
    if isinstance(source, FeatureCache):
        for wanted, what in ((settings.moments, "Moments"), (settings.pool == "vcs", "Concept spotting")):
            if wanted:
                check_has_time(source.identity, source.shape[2], what)
    more = any(query.own is not None for query in queries)
    if index is not None:
        if index.pool != settings.pool or indices is not None:
            raise SearchError(f"this index searches all videos by the pool {index.pool}, and nothing else.")
        ranking = index.search(
            np.stack([query.embedding for query in queries]), settings.top + more, device=device
        )
        background = index.background if background is None else background
        return results_of(source, queries, ranking, settings, background=background, device=device)
    if settings.pool == "vcs":
        if texts is None or any(query.kind != "text" for query in queries):
            raise SearchError("concept spotting needs the words of a text: search for texts alone.")
        scorer = text_scorer(texts, "vcs", spotting=settings.spotting, device=device)
    else:
        embeddings = np.stack([query.embedding for query in queries])
        scorer = QueryScorer(embeddings, settings.pool, device=device)
    ranking = search_videos(source, scorer, settings.top + more, indices=indices)
    return results_of(source, queries, ranking, settings, texts=texts, background=background, device=device)


def results_of(
    source: FeatureSource,
    queries: Sequence[Query],
    ranking: Ranking,
    settings: SearchSettings,
    *,
    texts: TextEmbeddings | None = None,
    background: np.ndarray | None = None,
    device: str = "auto",
) -> list[list[Result]]:
    """Return the results of queries whose best videos are known: these, or the moments in them.

    background    `mean_frame` of the cache, where it is known
    """
    moments_in = _moment_finder(source, settings, texts, background, device) if settings.moments else None
    found = []
    for place, query in enumerate(queries):
        keep = ranking.videos[place] != (-1 if query.own is None else query.own)
        videos = ranking.videos[place][keep][: settings.top].tolist()
        scores = ranking.scores[place][keep][: settings.top].tolist()
        if moments_in is None:
            own = [Result(video, score) for video, score in zip(videos, scores, strict=True)]
        else:
            moments = moments_in(place, query, videos)[: settings.top]
            own = [Result(moment.video, moment.score, moment) for moment in moments]
        found.append(own)
    return found


def _moment_finder(
    cache: FeatureSource,
    settings: SearchSettings,
    texts: TextEmbeddings | None,
    background: np.ndarray | None,
    device: str,
) -> Callable[[int, Query, list[int]], list[Moment]]:
    """Return what finds the moments of (which query, the query, videos)."""
    if not isinstance(cache, FeatureCache):
        raise SearchError("features in memory have no times: search for moments in a cache.")
    if settings.pool == "vcs" and texts is not None:
        spotter = ConceptSpotter(texts, settings.spotting, device=choose_device(device))
        return lambda place, _, videos: spotted_moments(cache, videos, spotter, place, level=settings.level)
    rest = mean_frame(cache) if background is None else background

    def by_cosine(_: int, query: Query, videos: list[int]) -> list[Moment]:
        direction = l2_normalize(query.embedding)
        return moments_of(cache, videos, direction, float(direction @ rest), level=settings.level)

    return by_cosine
