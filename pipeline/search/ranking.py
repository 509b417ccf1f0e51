"""Exact search: one pass over the features, batch by batch, with the best so far.

N videos, n of a batch, V views, T frames, D dimensions, Q queries, K results.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    scan_scores,
)
from .errors import SearchError
from .top import RunningTop

_CPU_BLOCK = 128
"""Videos that are compared at once on a CPU: their float32 copy stays in its cache."""


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
        self.name = self.pool = pool
        self._device = choose_device(device)
        self._queries = F.normalize(torch.from_numpy(np.array(queries, np.float32)), dim=1).to(self._device)

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:  # noqa: ARG002 (one signature for all scorers)
        """Return [n, 1, Q] float32 of frames [n, V, T, D]."""
        n, dimensions = len(frames), frames.shape[3]
        if dimensions != self._queries.shape[1]:
            raise SearchError(
                f"the features have {dimensions} dimensions, the queries {self._queries.shape[1]}: they are of "
                "different encoders"
            )
        stored = torch.from_numpy(np.ascontiguousarray(frames)).reshape(n, -1, dimensions)
        block = _CPU_BLOCK if self._device.type == "cpu" else max(1, n)
        found = [self._cosines(stored[start : start + block]) for start in range(0, n, block)]
        return torch.cat(found).numpy() if found else np.zeros((0, 1, len(self._queries)), np.float32)

    def _cosines(self, stored: torch.Tensor) -> torch.Tensor:
        """Return [n, 1, Q] on the CPU of stored frames [n, V * T, D]."""
        vectors = stored.to(self._device)
        if self.pool == "mean":
            vectors = vectors.mean(dim=1, keepdim=True, dtype=torch.float32)
        cosines = F.normalize(vectors.float(), dim=2) @ self._queries.T  # [n, 1 or V * T, Q]
        return cosines.amax(dim=1, keepdim=True).cpu()


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

    Several views of a video count with the mean of their scores. Memory is that of a batch, whatever N.
    Raises NotFinite for damaged features, SearchError where there is no video, or of another D.
    """
    candidates = None if indices is None else np.asarray(indices, np.int64)
    if source.shape[0] == 0 or (candidates is not None and not len(candidates)):
        raise SearchError("there are no videos to search in; run `vidclip extract` first.")
    best = RunningTop(top)
    for places, (similarities,) in scan_scores(source, [scorer], candidates):
        best.add(similarities.mean(axis=1), places if candidates is None else candidates[places])
    return Ranking(best.candidates, best.scores)
