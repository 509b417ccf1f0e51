"""Building an index: principal components, the codes of all vectors, and how many videos a query has to compare exactly.

N videos, E vectors a video, D dimensions, d components, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ...cache import FeatureCache
from ...cache.files import whole_file
from ..scoring import mean_embeddings, not_finite, read_frames
from .ahead import features_ahead
from .compressed_index import KINDS, RECALL_TOP, CompressedIndex, index_key, near_videos
from .errors import SearchError
from .index_file import IndexFacts, IndexFile, IndexWriter, index_path
from .ranking import QueryScorer
from .top import RunningTop

AIM = 0.99
"""The recall on the sample that the depth is chosen for: 0.95 is wanted of other queries, of which some find less. To compare
twice as many exactly costs a query milliseconds."""
DEPTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
COMPONENTS = {"videos": 128, "frames": 64}
"""Bytes that are kept of a vector: there are more frames."""
SAMPLE_VECTORS = 65_536
"""Vectors that the principal components are of, at most."""
OWN_QUERIES = 64
_BATCH = 1024
_CPU_BLOCK = 1 << 18


def build_index(
    cache: FeatureCache,
    pool: str,
    queries: Mapping[str, np.ndarray] | None = None,
    *,
    components: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> CompressedIndex:
    """Build the index that a pool searches, keep it in the cache, and return it.

    queries       {kind: [q, D]}: on which the recall is measured; 64 videos of the cache are asked too, as `video`
    components    d; None: COMPONENTS, D at most
    device        where the exact search runs that it is compared with

    The features are read once, and a sample of them before. Memory is that of the sample. Raises OSError where the index
    cannot be kept, SearchError for a cache without videos, NotFinite for damaged features.
    """
    kind = KINDS[pool]
    rng = np.random.default_rng(seed)
    n, views, times, dimension = cache.shape
    if not n:
        raise SearchError("there are no videos to search in; run `vidclip extract` first.")
    each = 1 if kind == "videos" else views * times
    components = min(components or COMPONENTS[kind], dimension)
    projection, scale = _principal_components(cache, kind, components, rng)
    sample = {name: vectors for name, vectors in (queries or {}).items() if len(vectors)}
    own = np.sort(rng.permutation(n)[:OWN_QUERIES])
    sample["video"] = mean_embeddings(read_frames(cache, own))
    asked = np.concatenate(list(sample.values())).astype(np.float32)
    scorer, exact = QueryScorer(asked, pool, device=device), RunningTop(RECALL_TOP)
    counts = {name: len(vectors) for name, vectors in sample.items()}
    facts = IndexFacts(index_key(cache, kind), kind, n, each, dimension, components, 1, {}, counts)
    background = np.zeros(dimension)
    encode = torch.from_numpy(projection / scale)
    with whole_file(index_path(cache.folder, kind)) as (temporary, file):
        writer = IndexWriter(file, facts)
        for batch, frames in features_ahead(cache):
            scores = scorer.similarities(batch, frames)[:, 0]
            finite = np.isfinite(scores).all(axis=1)
            if not finite.all():
                raise not_finite(cache, int(batch[finite.argmin()]))
            exact.add(scores, batch)
            codes, total = _encode(frames, kind, encode)
            background += total
            writer.put(batch, codes)
        rest = (background / (n * views * times)).astype(np.float32)
        writer.finish(facts, projection * scale, rest)
        trial = IndexFile(temporary)
        try:
            depth, recall = _enough(trial, sample, exact.candidates)
        finally:
            trial.close()
        writer.finish(replace(facts, depth=depth, recall=recall), projection * scale, rest)
    return CompressedIndex(cache, pool)


def _vectors(frames: np.ndarray, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (the vectors [n, E, D] that an index has of frames [n, V, T, D], all their frames [n, V * T, D]), float32,
    L2-normalized."""
    stored = torch.from_numpy(np.ascontiguousarray(frames)).reshape(len(frames), -1, frames.shape[3]).float()
    rows = F.normalize(stored, dim=2)
    return (F.normalize(stored.mean(dim=1, keepdim=True), dim=2) if kind == "videos" else rows), rows


def _encode(frames: np.ndarray, kind: str, encode: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes [n, E, d] int8, the sum [D] of the L2-normalized frames)."""
    codes, total = [], np.zeros(frames.shape[3])
    step = max(1, _CPU_BLOCK // frames[0].size)
    for start in range(0, len(frames), step):
        vectors, rows = _vectors(frames[start : start + step], kind)
        codes.append((vectors @ encode).round_().clamp_(-127, 127).to(torch.int8))
        total += rows.sum(dim=(0, 1)).double().numpy()
    return torch.cat(codes).numpy(), total


def _principal_components(
    cache: FeatureCache, kind: str, components: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (the d largest principal components [D, d], the step [d] of a code), float32, by a random sample of videos.

    They are those of the second moment, not centered: products with a query are to be kept.
    """
    each = cache.shape[1] * cache.shape[2]
    some = np.sort(rng.permutation(len(cache))[: max(1, SAMPLE_VECTORS // each)])
    parts = []
    for start in range(0, len(some), _BATCH):
        vectors, _ = _vectors(read_frames(cache, some[start : start + _BATCH]), kind)
        parts.append(vectors.reshape(-1, vectors.shape[-1]))
    sample = torch.cat(parts)
    _, axes = torch.linalg.eigh((sample.T @ sample).double())
    projection = axes.flip(1)[:, :components].float().contiguous()
    largest = (sample @ projection).abs().amax(dim=0)
    # Few vectors of the cache reach further than the sample; those are cut off.
    scale = (largest / 127).clamp_min(torch.finfo(torch.float32).tiny * 2**20)
    return projection.numpy(), scale.numpy()


def _enough(
    file: IndexFile, sample: Mapping[str, np.ndarray], exact: np.ndarray
) -> tuple[int, dict[str, float]]:
    """Return the least of DEPTHS that finds the exact best ten [q, 10] of each kind of query, and its recall by kind."""
    start, ranks = 0, {}
    for name, queries in sample.items():
        found = near_videos(file, queries, DEPTHS[-1]).videos
        own = exact[start : start + len(queries)]
        start += len(queries)
        # At which rank each of the best ten is found; one that is not found, behind all.
        place = [
            [np.flatnonzero(row == video) for video in best] for row, best in zip(found, own, strict=True)
        ]
        ranks[name] = np.array([[at[0] if len(at) else DEPTHS[-1] for at in row] for row in place])
    recalls = [{name: float((own < depth).mean()) for name, own in ranks.items()} for depth in DEPTHS]
    return next(
        (
            (depth, recall)
            for depth, recall in zip(DEPTHS, recalls, strict=True)
            if min(recall.values()) >= AIM
        ),
        (DEPTHS[-1], recalls[-1]),
    )
