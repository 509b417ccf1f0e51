"""A search that reads a byte of each of a few principal components, and the features themselves of the best alone.

Of every vector the index keeps its d largest principal components in 8 bits. A query is compared with all of them; the
videos that come out best are compared exactly, by their features. How many of them suffice is measured when the index is
built, against the exact search, on a sample of queries.

N videos, E vectors a video, D dimensions, d components, Q queries, K results.
Source: Jegou et al. 2011, *Searching in one billion vectors: re-rank with source coding*, section 2, here with scalar
quantization of principal components.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from ...cache import FeatureCache
from ..scoring import l2_normalize
from .ahead import ahead
from .errors import SearchError
from .index_file import IndexFacts, IndexFile, StaleIndex, index_path
from .ranking import QueryScorer, Ranking, search_videos
from .top import RunningTop

KINDS = {"mean": "videos", "max": "frames"}
"""Which index a pool searches."""
RECALL_TOP = 10
_CPU_BLOCK = 1 << 18
"""Codes that are compared at once: their float32 copy stays in the processor's cache."""


def index_key(cache: FeatureCache, kind: str) -> str:
    """Return the digest of all that shapes an index: features, the files they are in, which videos count, in order."""
    sha = hashlib.sha256(f"{kind}|{cache.identity.digest}|{cache.view}|{cache.shape}".encode())
    for shard in cache.shards:
        content = shard.contents.image_sha256.encode() or shard.contents.stamp
        sha.update(shard.path.name.encode("utf-8", "surrogateescape") + b"\0" + content)
    sha.update("\0".join(cache.ids).encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


class CompressedIndex:
    """The kept index of a cache; `build_index` builds it.

    measured    kinds of queries that its recall must be known of

    Raises SearchError where the file is damaged, StaleIndex where it is of other features than the cache has now,
    FileNotFoundError where there is none.
    """

    def __init__(self, cache: FeatureCache, pool: str, *, measured: Sequence[str] = ()) -> None:
        kind = KINDS[pool]
        self._cache, self.pool = cache, pool
        self._file = IndexFile(index_path(cache.folder, kind))
        stale = ""
        if self._file.facts.key != index_key(cache, kind):
            stale = f"is of other features than {cache.folder} has now"
        elif missing := [name for name in measured if name not in self._file.facts.recall]:
            stale = f"was not measured with queries of the kind {missing[0]}"
        if stale:
            self._file.close()
            raise StaleIndex(f"{self._file.path} {stale}: build it anew.")

    @property
    def facts(self) -> IndexFacts:
        return self._file.facts

    @property
    def background(self) -> np.ndarray:
        """[D] float32, as `mean_frame`, over all videos."""
        return self._file.background

    def search(self, queries: np.ndarray, top: int, *, device: str = "auto") -> Ranking:
        """Return the `top` videos of each query, their scores computed from the features themselves."""
        depth = self.facts.depth * max(1, -(-top // RECALL_TOP))
        some = np.unique(near_videos(self._file, queries, depth).videos)
        return search_videos(self._cache, QueryScorer(queries, self.pool, device=device), top, indices=some)

    def close(self) -> None:
        self._file.close()


def near_videos(file: IndexFile, queries: np.ndarray, top: int) -> Ranking:
    """Return the `top` videos of each query [Q, D] by their codes, of each video the best. Memory is that of two blocks."""
    queries = l2_normalize(queries)
    if queries.shape[1] != file.facts.dimension:
        raise SearchError(
            f"the index has {file.facts.dimension} dimensions, the queries {queries.shape[1]}: they are of "
            "different encoders"
        )
    asked = torch.from_numpy(queries @ file.projection).T.contiguous()  # [d, Q]
    best = RunningTop(top)
    for first, codes in ahead(file.blocks()):
        n, each, components = codes.shape
        found = torch.empty(n, asked.shape[1])
        step = max(1, _CPU_BLOCK // (each * components))
        numbers = torch.empty(min(step, n), each, components)
        stored = torch.from_numpy(codes.copy() if not codes.flags.writeable else codes)
        for start in range(0, n, step):
            piece = stored[start : start + step]
            products = numbers[: len(piece)].copy_(piece).reshape(-1, components) @ asked
            found[start : start + step] = products.reshape(len(piece), each, -1).amax(dim=1)
        best.add(found.numpy(), np.arange(first, first + n))
    return Ranking(best.candidates, best.scores)
