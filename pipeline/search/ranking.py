"""Exact search: one pass over the features, batch by batch, with the best so far.

N videos, n of a batch, V views, T frames, D dimensions, Q queries, K results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...cache import TextEmbeddings
from ..choices import SEARCH_POOLS
from ..devices import choose_device
from ..scoring import (
    ConceptSpotter,
    ConceptSpottingConfig,
    FeatureSource,
    Scorer,
    SpottingScorer,
    ViewsScorer,
    not_finite,
    scan_scores,
)
from .ahead import ahead, features_ahead
from .errors import SearchError
from .top import RunningTop

_CPU_BLOCK = 1 << 18
"""Numbers that are compared at once on a CPU: their float32 copy stays in its cache."""


@dataclass(frozen=True)
class Ranking:
    """The videos that are most like each query."""

    videos: np.ndarray
    """[Q, K] int64 positions in the source, best first; K is smaller than asked for where there are fewer videos."""
    scores: np.ndarray
    """[Q, K] float32."""


class QueryScorer(ViewsScorer):
    """Cosine of videos with queries [Q, D], computed on a device.

    pool    `mean`: of the mean embedding over frames and views; `max`: of the best frame of all views
    """

    def __init__(self, queries: np.ndarray, pool: str = "mean", *, device: str = "auto") -> None:
        if pool not in ("mean", "max"):
            raise ValueError(f"pool must be mean or max, got {pool!r}")
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite")
        self.name = self.pool = pool
        self._device = choose_device(device)
        self._queries = F.normalize(torch.from_numpy(np.array(queries, np.float32)), dim=1).to(self._device)

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:  # noqa: ARG002 (one signature for all scorers)
        """Return [n, 1, Q] float32 of frames [n, V, T, D]; NaN for a video whose features are not all finite."""
        n, dimensions = len(frames), frames.shape[3]
        if dimensions != self._queries.shape[1]:
            raise SearchError(
                f"the features have {dimensions} dimensions, the queries {self._queries.shape[1]}: they are of "
                "different encoders"
            )
        stored = torch.from_numpy(np.ascontiguousarray(frames)).reshape(n, -1, dimensions)
        if self._device.type != "cpu":
            stored = stored.to(self._device)
        if self.pool == "mean":
            found = self._cosines(_means(stored))
        else:
            found = torch.empty(n, len(self._queries), device=self._device)
            for first, vectors in _float_blocks(stored):
                found[first : first + len(vectors)] = self._cosines(vectors)
        return found.cpu().numpy()[:, None]

    def _cosines(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return [n, Q], the largest cosine of vectors [n, E, D] float32 with each query."""
        # The products are divided, not the vectors: what is not finite in a vector makes its quotients NaN.
        lengths = torch.linalg.vector_norm(vectors, dim=2, keepdim=True)
        products = vectors @ self._queries.T  # [n, E, Q]
        return products.div_(lengths.masked_fill_(lengths == 0, 1)).amax(dim=1)


def _means(stored: torch.Tensor) -> torch.Tensor:
    """Return the mean [n, 1, D] float32 of vectors [n, E, D] float16."""
    n, each, dimensions = stored.shape
    means = torch.empty(n, 1, dimensions, device=stored.device)
    shares = torch.full((1, 1, each), 1 / each, device=stored.device)
    for first, vectors in _float_blocks(stored):
        # A matrix product reads a vector once; `mean` is slower by half.
        torch.bmm(shares.expand(len(vectors), 1, each), vectors, out=means[first : first + len(vectors)])
    return means


def _float_blocks(stored: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first, float32 vectors [n, E, D]) of float16 vectors [N, E, D]; on a CPU block by block, each in the place of
    the one before."""
    if stored.device.type != "cpu":
        yield 0, stored.float()
        return
    step = max(1, _CPU_BLOCK // max(1, stored[:1].numel()))
    block = torch.empty(min(step, len(stored)), *stored.shape[1:])
    for first in range(0, len(stored), step):
        piece = stored[first : first + step]
        yield first, block[: len(piece)].copy_(piece)


def text_scorer(
    texts: TextEmbeddings,
    pool: str = "mean",
    *,
    spotting: ConceptSpottingConfig | None = None,
    device: str = "auto",
) -> Scorer:
    """Return what scores videos for texts: cosines of `QueryScorer`, or concept spotting for the pool `vcs`.

    Raises ValueError for another pool; SearchError where `vcs` finds no word in a text.
    """
    if pool not in SEARCH_POOLS:
        raise ValueError(f"pool must be one of {', '.join(SEARCH_POOLS)}, got {pool!r}")
    if pool != "vcs":
        return QueryScorer(texts.sentence, pool, device=device)
    try:
        return SpottingScorer(ConceptSpotter(texts, spotting, device=choose_device(device)))
    except ValueError as error:
        raise SearchError(f"{error}.") from error


def search_videos(
    source: FeatureSource,
    scorer: Scorer,
    top: int = 20,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
) -> Ranking:
    """Return the `top` videos of each query of the scorer, exactly, in one pass over the features.

    source     a cache, a view of one, or features in memory
    indices    the videos among which is searched; None: all

    Several views of a video count with the mean of their scores. Memory is that of two batches, whatever N.
    Raises NotFinite for damaged features, SearchError where there is no video, or of another D.
    """
    candidates = None if indices is None else np.asarray(indices, np.int64)
    if source.shape[0] == 0 or (candidates is not None and not len(candidates)):
        raise SearchError("there are no videos to search in; run `vidclip extract` first.")
    best = RunningTop(top)
    for batch, similarities in _scored(source, scorer, candidates):
        best.add(similarities.mean(axis=1), batch)
    return Ranking(best.candidates, best.scores)


def _scored(
    source: FeatureSource, scorer: Scorer, candidates: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (indices [n], similarities [n, V or 1, Q]) in one pass, in which features are read ahead."""
    if not isinstance(scorer, QueryScorer):
        for places, (similarities,) in ahead(scan_scores(source, [scorer], candidates)):
            yield places if candidates is None else candidates[places], similarities
        return
    for batch, frames in features_ahead(source, candidates):
        similarities = scorer.similarities(batch, frames)
        finite = np.isfinite(similarities[:, 0]).all(axis=1)
        if not finite.all():
            raise not_finite(source, int(batch[finite.argmin()]))
        yield batch, similarities
