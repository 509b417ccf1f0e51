"""The K best of whatever comes by, for several queries at once.

Q queries, K results, n candidates of a batch.
"""

from __future__ import annotations

import numpy as np


class RunningTop:
    """The K best candidates of each query so far; memory is that of the result and of a batch.

    Of equal scores the candidate of the smaller number stands first, whatever the batches were.
    """

    def __init__(self, top: int) -> None:
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        self.top = top
        self.scores = np.zeros((0, 0), np.float32)
        """[Q, K] float32, best first; fewer columns while there were fewer candidates."""
        self.candidates = np.zeros((0, 0), np.int64)
        """[Q, K] int64."""

    def add(self, scores: np.ndarray, candidates: np.ndarray) -> None:
        """Take in the scores [n, Q] of new candidates [n], each of which comes by once."""
        scores = np.ascontiguousarray(scores.T, np.float32)
        candidates = np.broadcast_to(np.asarray(candidates, np.int64), scores.shape)
        if not len(self.scores):  # how many queries there are, the first batch says
            self.scores, self.candidates = scores[:, :0], candidates[:, :0]
        if self.scores.shape[1] == self.top:
            # Most batches bring nothing better: what cannot come in is not sorted.
            keep = (scores >= self.scores[:, -1:]).any(axis=0)
            if not keep.any():
                return
            scores, candidates = scores[:, keep], candidates[:, keep]
        scores = np.concatenate([self.scores, scores], axis=1)
        candidates = np.concatenate([self.candidates, candidates], axis=1)
        order = np.stack(
            [np.lexsort((own, -score))[: self.top] for score, own in zip(scores, candidates, strict=True)]
        )
        self.scores = np.take_along_axis(scores, order, axis=1)
        self.candidates = np.take_along_axis(candidates, order, axis=1)
