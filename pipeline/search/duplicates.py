"""Near-duplicates: videos of a cache that show the same, however they were encoded.

What embeddings differ in most is what videos are about; what tells two videos of one matter apart lies in the rest. So
vectors are whitened first, by the mean and covariance of the cache's videos. Two videos are then near-duplicates where
their means are alike, and each frame of one, on average, is like the nearest of the other: a copy at another frame
rate, or without its beginning, has other frames of the same scene.

    similarity    (m + s) / 2
    m             cosine of the mean embeddings
    s             (mean over i of max over j of f_i . g_j  +  mean over j of max over i of f_i . g_j) / 2

N videos, V views, T frames, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import torch

from ..devices import choose_device
from ..scoring import FeatureSource, l2_normalize, mean_embeddings, read_frames

THRESHOLD = 0.93
"""Where features alone decide: above all other pairs of 660 validation videos of the demo's world and copies of them; one
copy of thirty lies below."""
CANDIDATES = 0.75
"""Where pixels decide: below all copies there, and in caches of 320 of these videos."""
FEW, CANDIDATES_OF_FEW = 256, 0.65
"""Of fewer videos the covariance is known less well, and copies look less alike: this is below all copies in 20 caches of 100
and 20 of 160."""
EVERY_PAIR = 64
"""Of so few videos all pairs are candidates: 0.65 loses copies in caches of six, and their files are soon read."""
FLOOR = 0.1
"""Of whitening: the less, the more copies of one video differ, and the more caches of few videos from those of many."""
EXACT_BELOW = 65_536
"""From how many videos on their means are searched with inverted lists."""
_BLOCK = 2048
_PROBES = 16
_SLACK = 2e-3
"""What float16 rounds of a cosine, at most."""


@dataclass(frozen=True)
class Duplicates:
    """Two videos that show the same."""

    first: int
    """Position in the source."""
    second: int
    """Position in the source, the larger."""
    similarity: float
    """At most 1."""
    by: str = "features"
    """What was compared: `features` or `pixels`."""


def find_duplicates(
    source: FeatureSource,
    threshold: float = THRESHOLD,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    device: str = "auto",
    exact_below: int = EXACT_BELOW,
) -> list[Duplicates]:
    """Return all pairs that are at least `threshold` alike by their features, the most alike first.

    threshold      THRESHOLD where features decide alone, `candidates_threshold` where pixels will
    indices        the videos that are compared; None: all. The whitening is by these too
    exact_below    of fewer videos, every pair of means is looked at: N^2 / 2 products of D numbers. Of more, each mean is
                   compared with those in the 16 nearest of some sqrt(N) inverted lists, which may miss a pair

    Memory is that of the mean embeddings [N, D] in float16, and with inverted lists twice that. Raises NotFinite for
    damaged features.
    """
    wanted = np.arange(source.shape[0]) if indices is None else np.unique(np.asarray(indices, np.int64))
    if len(wanted) < 2:
        return []
    means = np.empty((len(wanted), source.shape[3]), np.float16)
    for start in range(0, len(wanted), 1024):
        means[start : start + 1024] = mean_embeddings(read_frames(source, wanted[start : start + 1024]))
    whitening = Whitening.of(means)
    for start in range(0, len(means), 1024):
        means[start : start + 1024] = whitening.directions(means[start : start + 1024])
    found: dict[tuple[int, int], float] = {}
    # Frames are 1 alike at most: means below 2 t - 1 are never enough.
    least = 2 * threshold - 1
    if len(means) < exact_below:
        near = _alike(torch.from_numpy(means), least, choose_device(device))
    else:
        near = _alike_in_lists(means, least)
    for firsts, seconds in near:
        for start in range(0, len(firsts), 512):
            pairs = wanted[np.stack([firsts[start : start + 512], seconds[start : start + 512]])]
            for first, second, similarity in zip(
                *pairs.tolist(), similarities(source, pairs, whitening), strict=True
            ):
                if similarity >= threshold:
                    found[first, second] = float(similarity)
    pairs = [Duplicates(*pair, similarity) for pair, similarity in found.items()]
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def candidates_threshold(n_videos: int) -> float:
    """Return how alike the features of two among so many videos must be for their pixels to be looked at; of few, all are."""
    if n_videos <= EVERY_PAIR:
        return -math.inf
    return CANDIDATES_OF_FEW if n_videos < FEW else CANDIDATES


@dataclass(frozen=True)
class Whitening:
    """x -> (x - mean) times the inverse root of the covariance."""

    mean: np.ndarray
    """[D]."""
    root: np.ndarray
    """[D, D]."""

    @classmethod
    def of(cls, videos: np.ndarray) -> Whitening:
        """Return the whitening by the mean and covariance of video embeddings [N, D].

        FLOOR of the largest variance is added to each: what hardly varies is noise.
        """
        mean = videos.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((len(mean), len(mean)))
        for start in range(0, len(videos), 4096):
            centered = videos[start : start + 4096] - mean
            covariance += centered.T @ centered / len(videos)
        variances, axes = np.linalg.eigh(covariance)
        floor = max(FLOOR * float(variances[-1]), float(np.finfo(np.float32).tiny))
        return cls(
            mean.astype(np.float32), (axes / np.sqrt(np.maximum(variances, 0) + floor)).astype(np.float32)
        )

    def directions(self, vectors: np.ndarray) -> np.ndarray:
        """Return the L2-normalized whitened vectors, float32, of [..., D]."""
        return l2_normalize((l2_normalize(vectors) - self.mean) @ self.root)


def similarities(source: FeatureSource, pairs: np.ndarray, whitening: Whitening) -> np.ndarray:
    """Return the similarity [n] float32 of pairs [2, n] of videos, over frames and views alike."""
    different, places = np.unique(pairs, return_inverse=True)
    stored = read_frames(source, different)
    means = whitening.directions(mean_embeddings(stored))
    frames = whitening.directions(stored.reshape(len(different), -1, stored.shape[-1]))
    one, other = places.reshape(pairs.shape)
    cosines = frames[one] @ frames[other].transpose(0, 2, 1)  # [n, V * T, V * T]
    by_frames = (cosines.max(axis=2).mean(axis=1) + cosines.max(axis=1).mean(axis=1)) / 2
    return (by_frames + (means[one] * means[other]).sum(axis=1)) / 2


def groups_of(pairs: Sequence[Duplicates]) -> list[list[int]]:
    """Return the videos that pairs hold together, each group in the order of the cache."""
    group: dict[int, list[int]] = {}
    for pair in pairs:
        one, other = group.get(pair.first, [pair.first]), group.get(pair.second, [pair.second])
        if one is not other:
            one = one + other
            group.update(dict.fromkeys(one, one))
    different = {id(members): sorted(members) for members in group.values()}
    return sorted(different.values())


def _alike(
    means: torch.Tensor, threshold: float, device: torch.device
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (firsts, seconds) of the pairs of rows [N, D] whose cosine is at least the threshold, block by block."""
    for start in range(0, len(means), _BLOCK):
        rows = means[start : start + _BLOCK].to(device).float()
        for other in range(start, len(means), _BLOCK):
            columns = means[other : other + _BLOCK].to(device).float()
            hits = (rows @ columns.T >= threshold - _SLACK).nonzero().cpu().numpy()
            firsts, seconds = hits[:, 0] + start, hits[:, 1] + other
            yield firsts[firsts < seconds], seconds[firsts < seconds]


def _alike_in_lists(means: np.ndarray, threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what `_alike` does of [N, D] float16, of the pairs that lie in neighboring inverted lists."""
    n, dimension = means.shape
    lists = max(1, int(np.sqrt(n)))
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dimension, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    rng = np.random.default_rng(0)
    index.cp.niter, index.cp.spherical, index.cp.min_points_per_centroid = 10, True, 1
    index.train(means[np.sort(rng.permutation(n)[: 64 * lists])].astype(np.float32))
    for start in range(0, n, _BLOCK):
        index.add(means[start : start + _BLOCK].astype(np.float32))
    index.nprobe = min(_PROBES, lists)
    for start in range(0, n, _BLOCK):
        rows = means[start : start + _BLOCK].astype(np.float32)
        limits, _, seconds = index.range_search(rows, threshold - _SLACK)
        firsts = np.repeat(np.arange(start, start + len(rows)), np.diff(limits.astype(np.int64)))
        # A pair may be found from one side alone: the other's lists are not the same.
        pairs = np.stack([np.minimum(firsts, seconds), np.maximum(firsts, seconds)], axis=1)[
            firsts != seconds
        ]
        if len(pairs):
            pairs = np.unique(pairs, axis=0)
            yield pairs[:, 0], pairs[:, 1]
