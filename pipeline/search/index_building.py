"""Building inverted lists: centers, the list of each vector, and how many lists a query has to read.

N videos, n vectors, D dimensions, L lists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import faiss
import numpy as np

from ...cache import FeatureCache
from ...cache.files import whole_file
from ..scoring import l2_normalize, mean_embeddings, read_frames
from .index_file import IndexFacts, IndexFile, IndexWriter, index_path
from .inverted_lists import KINDS, InvertedLists, index_key, near_videos
from .ranking import QueryScorer
from .top import RunningTop

RECALL_TOP = 10
AIM = 0.97
"""The recall on the sample that the number of probes is chosen for."""
SAMPLE_VECTORS = 131_072
"""Vectors of k-means, at most."""
_BATCH = 1024


def build_index(
    cache: FeatureCache,
    pool: str,
    queries: Mapping[str, np.ndarray] | None = None,
    *,
    lists: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> InvertedLists:
    """Build the index that a pool searches, keep it in the cache, and return it.

    queries    {kind: [q, D]}: on which the recall is measured; 64 videos of the cache are asked too, as `video`
    lists      L; None: twice the square root of the number of vectors
    device     where the exact search runs that it is compared with

    The features are read three times: a sample, to find the centers; all, to find the list of each vector; all, to write
    them where they belong. Memory is that of the sample. Raises OSError where the index cannot be kept.
    """
    kind = KINDS[pool]
    rng = np.random.default_rng(seed)
    n, views, times, dimension = cache.shape
    each = 1 if kind == "videos" else views * times
    lists = lists or max(1, min(int(2 * math.sqrt(n * each)), n * each // 39, 4096))
    centers = _centers(cache, kind, lists, rng, seed)
    lists = len(centers)  # a small cache has fewer
    sample = {name: vectors for name, vectors in (queries or {}).items() if len(vectors)}
    own = np.sort(rng.permutation(n)[:64])
    sample["video"] = mean_embeddings(read_frames(cache, own))
    asked = np.concatenate(list(sample.values())).astype(np.float32)
    scorer, exact = QueryScorer(asked, pool, device=device), RunningTop(RECALL_TOP)
    assigned = np.empty(n * each, np.int32)
    for batch, frames in _batches(cache):
        vectors = _vectors(frames, kind)
        rows = slice(batch[0] * each, (batch[-1] + 1) * each)
        assigned[rows] = (vectors @ centers.T).argmax(axis=1)
        exact.add(scorer.similarities(batch, frames)[:, 0], batch)
    borders = np.concatenate([[0], np.cumsum(np.bincount(assigned, minlength=lists))])
    row_of = np.empty(len(assigned), np.int64)
    row_of[np.argsort(assigned, kind="stable")] = np.arange(len(assigned))
    path = index_path(cache.folder, kind)

    def facts(probes: int, recall: Mapping[str, float]) -> IndexFacts:
        counts = {name: len(vectors) for name, vectors in sample.items()}
        key = index_key(cache, kind)
        return IndexFacts(key, kind, len(assigned), dimension, n, probes, dict(recall), counts)

    with whole_file(path) as (temporary, file):
        writer = IndexWriter(file, borders, dimension)
        for batch, frames in _batches(cache):
            rows = row_of[batch[0] * each : (batch[-1] + 1) * each]
            writer.put(rows, _vectors(frames, kind), np.repeat(batch, each))
        writer.finish(facts(1, {}), centers)
        trial = IndexFile(temporary)
        try:
            probes, recall = _enough_probes(trial, sample, exact.candidates)
        finally:
            trial.close()
        writer.finish(facts(probes, recall), centers)
    return InvertedLists(cache, pool)


def _batches(cache: FeatureCache) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(cache), _BATCH):
        batch = np.arange(start, min(len(cache), start + _BATCH))
        yield batch, read_frames(cache, batch)


def _vectors(frames: np.ndarray, kind: str) -> np.ndarray:
    """Return what the index holds of videos [n, V, T, D]: [n, D] or [n * V * T, D] float32, L2-normalized."""
    if kind == "videos":
        return mean_embeddings(frames)
    return l2_normalize(frames.reshape(-1, frames.shape[-1]))


def _centers(cache: FeatureCache, kind: str, lists: int, rng: np.random.Generator, seed: int) -> np.ndarray:
    """Return [L, D] float32, L2-normalized, by k-means on a random sample of the videos."""
    each = 1 if kind == "videos" else cache.shape[1] * cache.shape[2]
    some = np.sort(rng.permutation(len(cache))[: max(1, SAMPLE_VECTORS // each)])
    parts = [_vectors(read_frames(cache, some[i : i + _BATCH]), kind) for i in range(0, len(some), _BATCH)]
    sample = np.concatenate(parts)
    kmeans = faiss.Kmeans(
        sample.shape[1],
        min(lists, len(sample)),
        niter=10,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=10**9,
        gpu=bool(getattr(faiss, "get_num_gpus", lambda: 0)()),
    )
    kmeans.train(sample)
    return l2_normalize(np.asarray(kmeans.centroids, np.float32))


def _enough_probes(
    file: IndexFile, sample: Mapping[str, np.ndarray], exact: np.ndarray
) -> tuple[int, dict[str, float]]:
    """Return the least number of probes, a power of two and half of the lists at most, that finds the exact best ten
    [q, 10] of each kind of query, and its recall by kind."""
    probes, most = 1, max(1, len(file.centers) // 2)
    while True:
        recall, start = {}, 0
        for name, queries in sample.items():
            found = near_videos(file, queries, exact.shape[1], probes).videos
            own = exact[start : start + len(queries)]
            start += len(queries)
            hits = [len(np.intersect1d(a, b)) for a, b in zip(found, own, strict=True)]
            recall[name] = float(np.mean(hits) / own.shape[1])
        if min(recall.values()) >= AIM or probes == most:
            return probes, recall
        probes = min(most, 2 * probes)
