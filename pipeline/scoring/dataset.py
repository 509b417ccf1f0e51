"""Cached features for PyTorch's data loaders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from .source import FeatureSource, read_frames


class FeatureDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """(frames [V, T, D] float32, target) of n videos; a batch is read at once, and nothing is kept in memory.

    indices    [n] positions in the source; None: all videos
    targets    [n] or [n, C]; None: the positions themselves

    Raises NotFinite, when they are read, for features with NaN or infinities.
    """

    def __init__(
        self, source: FeatureSource, indices: np.ndarray | None = None, targets: np.ndarray | None = None
    ) -> None:
        self._source = source
        self._indices = np.arange(source.shape[0]) if indices is None else np.asarray(indices, np.int64)
        self._targets = torch.from_numpy(np.array(self._indices if targets is None else targets))
        if len(self._targets) != len(self._indices):
            raise ValueError(f"{len(self._targets)} targets do not fit {len(self._indices)} videos")

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.__getitems__([n])[0]

    def __getitems__(self, places: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Read a batch: data loaders call this where a dataset has it."""
        frames = torch.from_numpy(read_frames(self._source, self._indices[list(places)]).astype(np.float32))
        return list(zip(frames, self._targets[list(places)], strict=True))
