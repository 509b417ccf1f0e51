"""Video Concept Spotting: which frames speak of a class, and the score of the video made of them.

    saliency[n, c, t] = mean over words w of class c of  softmax over t of ( u(f[n, t]) . u(w) / tau )
    e[n, c]           = sum over t of saliency[n, c, t] * u(f[n, t])
    score[n, c]       = u(e[n, c]) . u(c)

No [N, C, D] array is made: the score of a saliency-weighted mean is the saliency-weighted mean of the
frame scores, and its length follows from the T x T Gram matrix of the frames,

    e . u(c) = sum_t saliency_t (u(f_t) . u(c)),      |e|^2 = saliency^T G saliency,  G[t, s] = u(f_t) . u(f_s).

N videos, T frames, C classes, W words of all classes, D dimensions.
Source: Wu et al. 2023 (BIKE), section 2.3, equations 5 and 6; Table 6b compares the queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from ...cache import TextEmbeddings
from .spotting_config import ConceptSpottingConfig
from .temperature import TEMPERATURE, check_temperature

_BLOCK_FRAMES = 2048


def spotting_scores(
    frames: torch.Tensor,
    queries: torch.Tensor,
    owners: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float = TEMPERATURE,
    renormalize: bool = True,
    pooled: torch.Tensor | None = None,
) -> torch.Tensor:
    """Score videos by Video Concept Spotting: the definition, to be read beside the paper.

    frames       [B, T, D]; L2-normalized here, as are queries and targets
    queries      [Q, D] queries of the saliency softmax: the words of all classes, or their sentences
    owners       [Q] int64, the class of each query, in any order
    targets      [C, D] what the weighted videos are compared with
    temperature  of the softmax over frames, dimensionless
    renormalize  the paper's cosine; False: the released code's product with a pooled video that is not normalized
    pooled       [B, T, D'] what is weighted by the saliency in the place of the L2-normalized frames, as it is: the frames
                 in the space of another text tower, whose targets are [C, D']

    Returns scores [B, C], with gradient to everything that has one. The largest arrays are [B, T, Q].
    `ConceptSpotter` gives the same values in blocks, without gradient, many times faster.
    Raises ValueError for shapes that do not fit, owners beyond the classes, or a class without a query.
    Source: Wu et al. 2023 (BIKE), section 2.3, equations 5 and 6.
    """
    classes, dimension = len(targets), queries.shape[-1]
    if frames.ndim != 3 or frames.shape[1] < 1:
        raise ValueError(f"frames must be [B, T, D] with T at least 1, got shape {tuple(frames.shape)}")
    if frames.shape[2] != dimension:
        raise ValueError(
            f"the frames have {frames.shape[2]} dimensions, but {dimension} were expected: another encoder made them"
        )
    if queries.shape != (len(owners), dimension) or (pooled is None and targets.shape[1] != dimension):
        raise ValueError(
            f"queries {tuple(queries.shape)}, owners {tuple(owners.shape)} and targets {tuple(targets.shape)} do not fit"
        )
    check_temperature(temperature)
    share_of = _averaging(owners.to(frames.device), classes, frames.dtype)
    frames, queries, targets = (F.normalize(x, dim=-1) for x in (frames, queries, targets))
    shares = torch.softmax(frames @ (queries / temperature).T, dim=1)  # [B, T, Q]
    saliency = shares @ share_of  # [B, T, C]
    values = frames if pooled is None else pooled
    scores = (saliency * (values @ targets.T)).sum(dim=1)
    if not renormalize:
        return scores
    gram = values @ values.transpose(1, 2)  # [B, T, T]
    squared_lengths = (saliency * (gram @ saliency)).sum(dim=1)
    return scores / squared_lengths.clamp_min(1e-12).sqrt()


def _averaging(owners: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Return [Q, C]: the product with it is the mean over the queries of each class. Sums by index would run in another
    order every time on a GPU."""
    counts = check_owners(owners, classes)
    return F.one_hot(owners, classes).to(dtype) / counts.to(dtype)


def check_owners(owners: torch.Tensor, classes: int) -> torch.Tensor:
    """Return how many queries each class has, [C]. Raises ValueError for owners beyond the classes, or a class without a
    query."""
    if len(owners) and (int(owners.min()) < 0 or int(owners.max()) >= classes):
        raise ValueError(f"owners must be between 0 and {classes - 1}, the last of the {classes} targets")
    counts = torch.bincount(owners, minlength=classes)
    if not bool(counts.all()):
        raise ValueError(f"class {int(counts.argmin())} has no query; give each class a word or its sentence")
    return counts


@dataclass(frozen=True, eq=False)
class _Part:
    """Some classes, and what frames are multiplied with for them."""

    members: np.ndarray
    """[c] the classes, those of fewer queries first."""
    matrix: torch.Tensor
    """[q + c, D] their queries over the temperature, and their targets."""
    n_queries: int
    groups: list[tuple[int, slice, slice]]
    """(queries of each class, classes in `members`, queries in `matrix`)."""


class ConceptSpotter:
    """Spot C classes in videos: the fast equal of `spotting_scores`, computed in blocks.

    texts     their sentence and word embeddings
    device    where it is computed

    Raises ValueError where words are asked for and a class has none.
    """

    def __init__(
        self,
        texts: TextEmbeddings,
        spotting: ConceptSpottingConfig | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        self.spotting = spotting or ConceptSpottingConfig()
        self.device = torch.device(device)
        counts = np.diff(texts.offsets)
        if "words" in (self.spotting.saliency, self.spotting.recognition) and (counts == 0).any():
            phrase = texts.phrases[int(np.argmin(counts))]
            raise ValueError(
                f"the class {phrase!r} has no word embeddings (word mode {texts.word_mode!r}); use saliency and "
                "recognition by sentence, or texts with words"
            )
        sentence = _normalize(torch.from_numpy(np.ascontiguousarray(texts.sentence, np.float32)))
        words = _normalize(torch.from_numpy(np.ascontiguousarray(texts.words, np.float32)))
        if self.spotting.saliency == "sentence":
            counts, queries = np.ones(len(sentence), np.int64), sentence
        else:
            queries = words
        targets = sentence
        if self.spotting.recognition == "words":
            owner = torch.from_numpy(np.repeat(np.arange(len(sentence)), np.diff(texts.offsets)))
            targets = torch.zeros_like(sentence).index_add_(0, owner, words)
        self._targets = _normalize(targets).to(self.device)
        # Classes of as many queries stand together: their mean over queries is then the mean of a plain axis.
        self._order, self._counts = np.argsort(counts, kind="stable"), counts
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._queries = (queries / self.spotting.temperature).to(self.device)
        self._parts: dict[int, list[_Part]] = {}
        self._workspace: dict[str, torch.Tensor] = {}

    @property
    def n_classes(self) -> int:
        return len(self._targets)

    def scores(self, frames: np.ndarray | torch.Tensor) -> np.ndarray:
        """Return scores [N, C] float32 of videos, one view each.

        frames    [N, T, D], as the encoder gave them or L2-normalized
        Memory is that of the result and of a block, whatever N.
        """
        videos = self._checked(frames)
        scores = np.empty((self.n_classes, len(videos)), np.float32)
        for rows, block in self._blocks(videos):
            times, n, _ = block.shape
            by_video = block.permute(1, 0, 2)
            gram = torch.bmm(by_video, by_video.transpose(1, 2)).permute(1, 2, 0).contiguous()  # [T, T, n]
            for part in self._parts_of(times * n):
                products = self._products(part.matrix, block)
                saliency = self._saliency(part, products[: part.n_queries])
                score = self._room("score", (len(part.members), n))
                torch.sum(products[part.n_queries :].mul_(saliency), 1, out=score)
                if self.spotting.renormalize:
                    score.mul_(self._squared_lengths(saliency, gram).clamp_min_(1e-12).rsqrt_())
                scores[part.members, rows] = score.cpu().numpy()
        return np.ascontiguousarray(scores.T)

    def saliency(self, frames: np.ndarray | torch.Tensor) -> np.ndarray:
        """Return the share of attention that each class gives each frame: [N, C, T] float32, sums to 1 over T.

        frames    [N, T, D], as the encoder gave them or L2-normalized
        """
        videos = self._checked(frames)
        shares = np.empty((len(videos), self.n_classes, videos.shape[1]), np.float32)
        for rows, block in self._blocks(videos):
            for part in self._parts_of(block.shape[0] * block.shape[1]):
                products = self._products(part.matrix[: part.n_queries], block)
                saliency = self._saliency(part, products)
                shares[rows, part.members] = saliency.permute(2, 0, 1).cpu().numpy()
        return shares

    def _products(self, matrix: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """Return the products [m, T, n] of a matrix [m, D] and a block [T, n, D], in one multiplication."""
        times, n, dimensions = block.shape
        products = self._room("products", (len(matrix), times, n))
        torch.mm(matrix, block.view(times * n, dimensions).T, out=products.view(len(matrix), times * n))
        return products

    def _saliency(self, part: _Part, products: torch.Tensor) -> torch.Tensor:
        """Return the saliency [c, T, n] of the classes of a part, from the products [q, T, n] with its queries.

        The softmax over frames goes step by step in one buffer: memory that is fresh every time costs more than the arithmetic.
        """
        _, times, n = products.shape
        saliency = self._room("saliency", (len(part.members), times, n))
        over_frames = self._room("over frames", (part.n_queries, n))
        torch.amax(products, 1, out=over_frames)
        products.sub_(over_frames[:, None]).exp_()
        torch.sum(products, 1, out=over_frames)
        for count, classes, queries in part.groups:
            shares = products[queries].view(-1, count, times, n)
            weights = over_frames[queries].mul_(count).reciprocal_().view(-1, count, 1, n)
            torch.mul(shares[:, 0], weights[:, 0], out=saliency[classes])
            for word in range(1, count):
                saliency[classes].addcmul_(shares[:, word], weights[:, word])
        return saliency

    def _squared_lengths(self, saliency: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
        """Return saliency^T G saliency, [c, n], of saliency [c, T, n] and G [T, T, n]."""
        classes, times, n = saliency.shape
        total = self._room("total", (classes, n)).zero_()
        inner = self._room("inner", (classes, n))
        for t in range(times):
            own = saliency[:, t]
            torch.mul(own, gram[t, t], out=inner)
            for s in range(t + 1, times):
                inner.addcmul_(saliency[:, s], gram[t, s], value=2)  # G is symmetric
            total.addcmul_(inner, own)
        return total

    def _blocks(self, videos: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield (slice of videos, their L2-normalized frames [T, n, D]): most steps run along n."""
        _, times, dimensions = videos.shape
        size = min(_BLOCK_FRAMES // 2, max(_BLOCK_FRAMES // 32, _BLOCK_FRAMES // times))
        for start in range(0, len(videos), size):
            rows = slice(start, min(len(videos), start + size))
            block = self._room("block", (times, rows.stop - start, dimensions))
            block.copy_(videos[rows].permute(1, 0, 2))
            block.div_(torch.linalg.vector_norm(block, dim=-1, keepdim=True).clamp_min_(1e-12))
            yield rows, block

    def _parts_of(self, columns: int) -> list[_Part]:
        """Return the classes in parts whose products with so many columns (frames of a block) stay within memory that is
        near."""
        limit = max(1, self._block_bytes // (4 * columns))
        if limit not in self._parts:
            sizes = np.cumsum(self._counts[self._order] + 1)  # a class has its queries, and its target
            ends, at = [0], 0
            while at < len(sizes):
                below = int(np.searchsorted(sizes, (sizes[at - 1] if at else 0) + limit, "right"))
                at = max(at + 1, below)
                ends.append(at)
            self._parts = {limit: [self._part(self._order[a:b]) for a, b in pairwise(ends)]}
        return self._parts[limit]

    @property
    def _block_bytes(self) -> int:
        return (16 if self.device.type == "cpu" else 256) * 2**20

    def _part(self, members: np.ndarray) -> _Part:
        groups, rows, n_classes, n_queries = [], [], 0, 0
        for count in np.unique(self._counts[members]).tolist():
            own = members[self._counts[members] == count]
            queries = slice(n_queries, n_queries + count * len(own))
            groups.append((count, slice(n_classes, n_classes + len(own)), queries))
            rows.append((self._starts[own][:, None] + np.arange(count)).reshape(-1))
            n_classes, n_queries = n_classes + len(own), queries.stop
        queries = self._queries[torch.from_numpy(np.concatenate(rows))]
        matrix = torch.cat([queries, self._targets[torch.from_numpy(members)]])
        return _Part(members, matrix, n_queries, groups)

    def _room(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor of this shape in memory that is used again."""
        size = math.prod(shape)
        if name not in self._workspace or self._workspace[name].numel() < size:
            self._workspace[name] = torch.empty(size, device=self.device)
        return self._workspace[name][:size].view(shape)

    def _checked(self, frames: np.ndarray | torch.Tensor) -> torch.Tensor:
        videos = torch.as_tensor(frames)
        dimensions = self._targets.shape[1]
        if videos.ndim != 3 or videos.shape[1] < 1 or videos.shape[2] != dimensions:
            raise ValueError(
                f"frames must be [N, T, {dimensions}] with T at least 1, got {tuple(videos.shape)}"
            )
        return videos


def _normalize(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors, dim=-1)
