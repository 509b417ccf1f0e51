"""Inverted lists: a search that reads the part of the features that lies near the query.

Vectors are put into L lists, each by the center it is nearest to (k-means on a sample). A query reads the lists of the
`probes` nearest centers, and what is found there is compared exactly. How many lists suffice is measured when the index
is built, against the exact search, on a sample of queries.

N videos, n vectors, D dimensions, L lists, Q queries, K results.
Source: Sivic and Zisserman 2003, *Video Google*; Jegou et al. 2011, section IV (IVFADC), here without quantization.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ...cache import FeatureCache
from ..scoring import l2_normalize
from .errors import SearchError
from .index_file import IndexFacts, IndexFile, index_path
from .ranking import QueryScorer, Ranking, search_videos

KINDS = {"mean": "videos", "max": "frames"}
"""Which index a pool searches."""


def index_key(cache: FeatureCache, kind: str) -> str:
    """Return the digest of all that shapes an index: features, the files they are in, which videos count, in order."""
    sha = hashlib.sha256(f"{kind}|{cache.identity.digest}|{cache.view}|{cache.shape}".encode())
    for shard in cache.shards:
        content = shard.contents.image_sha256.encode() or shard.contents.stamp
        sha.update(shard.path.name.encode("utf-8", "surrogateescape") + b"\0" + content)
    for id in cache.ids:
        sha.update(id.encode("utf-8", "surrogateescape") + b"\0")
    return sha.hexdigest()


class InvertedLists:
    """The kept index of a cache; `build_index` builds it.

    measured    kinds of queries that its recall must be known of

    Raises SearchError where the file is damaged or of other features than the cache has now, FileNotFoundError where there
    is none.
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

    def search(self, queries: np.ndarray, top: int, *, device: str = "auto") -> Ranking:
        """Return the `top` videos of each query, their scores computed from the features themselves."""
        rough = near_videos(self._file, queries, top + min(top, 20))
        some = np.unique(rough.videos[rough.videos >= 0])
        return search_videos(self._cache, QueryScorer(queries, self.pool, device=device), top, indices=some)

    def close(self) -> None:
        self._file.close()


class StaleIndex(SearchError):
    """An index of features that have changed since."""


def near_videos(file: IndexFile, queries: np.ndarray, top: int, probes: int | None = None) -> Ranking:
    """Return the `top` videos of each query [Q, D] among the lists that are probed, by their vectors in float16; -1 stands
    where there are fewer. Memory is that of a list.

    probes    None: as many as the index says
    """
    queries = l2_normalize(queries)
    if queries.shape[1] != file.facts.dimension:
        raise SearchError(
            f"the index has {file.facts.dimension} dimensions, the queries {queries.shape[1]}: they are of "
            "different encoders"
        )
    probes = min(probes or file.facts.probes, len(file.centers))
    near = np.argsort(-(queries @ file.centers.T), axis=1, kind="stable")[:, :probes]
    wanted: dict[int, list[int]] = {}
    for query, lists in enumerate(near.tolist()):
        for number in lists:
            wanted.setdefault(number, []).append(query)
    best = [_BestOfVideos(top) for _ in queries]
    for number in sorted(wanted):
        vectors, members = file.read(number)
        if len(members):
            scores = vectors.astype(np.float32) @ queries[wanted[number]].T  # [m, q]
            for query, own in zip(wanted[number], scores.T, strict=True):
                best[query].add(own, members)
    videos = np.full((len(queries), top), -1, np.int64)
    found = np.full((len(queries), top), -np.inf, np.float32)
    for query, each in enumerate(best):
        videos[query, : len(each.videos)], found[query, : len(each.videos)] = each.videos, each.scores
    return Ranking(videos, found)


class _BestOfVideos:
    """The best videos of one query, each by its best vector."""

    def __init__(self, top: int) -> None:
        self._top = top
        self.videos = np.zeros(0, np.int64)
        self.scores = np.zeros(0, np.float32)

    def add(self, scores: np.ndarray, videos: np.ndarray) -> None:
        if len(self.scores) == self._top:
            keep = scores > self.scores[-1]
            scores, videos = scores[keep], videos[keep]
        videos = np.concatenate([self.videos, videos])
        scores = np.concatenate([self.scores, scores])
        order = np.lexsort((videos, -scores))
        _, first = np.unique(videos[order], return_index=True)
        order = order[np.sort(first)[: self._top]]
        self.videos, self.scores = videos[order], scores[order]
