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

import numpy as np
import torch
import torch.nn.functional as F

from ...cache import TextEmbeddings
from .spotting_config import ConceptSpottingConfig
from .temperature import TEMPERATURE, check_temperature

_BLOCK_VIDEOS = 256


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
        # Classes of as many queries stand together: their mean over queries is then the mean of a plain axis.
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._groups = [
            (int(count), members, queries[_rows_of(starts[members], int(count))].to(self.device))
            for count in np.unique(counts)
            for members in [np.flatnonzero(counts == count)]
        ]
        targets = sentence
        if self.spotting.recognition == "words":
            owner = torch.from_numpy(np.repeat(np.arange(len(sentence)), np.diff(texts.offsets)))
            targets = torch.zeros_like(sentence).index_add_(0, owner, words)
        self._targets = _normalize(targets).to(self.device)
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
        scores = np.empty((len(videos), self.n_classes), np.float32)
        for rows, block, normalized in self._blocks(videos):
            gram = (
                torch.bmm(normalized, normalized.transpose(1, 2)).permute(1, 2, 0).contiguous()
            )  # [T, T, n]
            for members, saliency in self._saliency(block):
                dots = self._room("targets", (len(block), len(members), block.shape[2]))
                torch.matmul(self._targets[members], block, out=dots)
                score = dots.mul_(saliency).sum(dim=0)  # [c, n]
                if self.spotting.renormalize:
                    score /= _squared_lengths(saliency, gram).clamp_min_(1e-12).sqrt_()
                scores[rows, members] = score.T.cpu().numpy()
        return scores

    def saliency(self, frames: np.ndarray | torch.Tensor) -> np.ndarray:
        """Return the share of attention that each class gives each frame: [N, C, T] float32, sums to 1 over T.

        frames    [N, T, D], as the encoder gave them or L2-normalized
        """
        videos = self._checked(frames)
        shares = np.empty((len(videos), self.n_classes, videos.shape[1]), np.float32)
        for rows, block, _ in self._blocks(videos):
            for members, saliency in self._saliency(block):
                shares[rows, members] = saliency.permute(2, 1, 0).cpu().numpy()
        return shares

    def _saliency(self, block: torch.Tensor) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield (classes, saliency [T, c, n]) of a block [T, D, n] of L2-normalized frames, classes of equal word count."""
        times, _, n = block.shape
        per_query = 4 * times * n
        for count, all_members, all_queries in self._groups:
            step = max(1, self._block_bytes // (per_query * count))
            for start in range(0, len(all_members), step):
                members = all_members[start : start + step]
                queries = all_queries[start * count : (start + step) * count]
                # The softmax over frames, step by step in one buffer: memory that is fresh every time costs
                # more than the arithmetic.
                shares = self._room("shares", (times, len(queries), n))
                torch.matmul(queries, block, out=shares)
                over_frames = self._room("frames", (len(queries), n))
                torch.amax(shares, 0, out=over_frames)
                shares.sub_(over_frames).mul_(1 / self.spotting.temperature).exp_()
                torch.sum(shares, 0, out=over_frames)
                shares.div_(over_frames.mul_(count))
                if count > 1:
                    words = shares.view(times, len(members), count, n)
                    shares = self._room("saliency", (times, len(members), n))
                    torch.sum(words, 2, out=shares)
                yield members, shares

    def _blocks(self, videos: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Yield (slice of videos, L2-normalized frames [T, D, n], the same [n, T, D]): most steps run along n."""
        for start in range(0, len(videos), _BLOCK_VIDEOS):
            rows = slice(start, min(len(videos), start + _BLOCK_VIDEOS))
            normalized = _normalize(videos[rows].to(self.device, torch.float32))
            yield rows, normalized.permute(1, 2, 0).contiguous(), normalized

    @property
    def _block_bytes(self) -> int:
        return (4 if self.device.type == "cpu" else 256) * 2**20  # what a cache keeps near

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


def _squared_lengths(saliency: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Return saliency^T G saliency, [c, n], of saliency [T, c, n] and G [T, T, n]."""
    total = torch.zeros_like(saliency[0])
    for t, own in enumerate(saliency):
        inner = own * gram[t, t]
        for s in range(t + 1, len(saliency)):
            inner.addcmul_(saliency[s], gram[t, s], value=2)  # G is symmetric
        total.addcmul_(inner, own)
    return total


def _rows_of(starts: np.ndarray, count: int) -> torch.Tensor:
    return torch.from_numpy((starts[:, None] + np.arange(count)).reshape(-1))


def _normalize(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors, dim=-1)
