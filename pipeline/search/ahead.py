"""Reading ahead: the next batch is read and checked while this one is computed on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..scoring import FeatureSource

_Item = TypeVar("_Item")
_END = object()
_BATCH_BYTES, _MOST_VIDEOS = 1 << 24, 2048
"""What is read at once, about, however many frames a video has."""


def ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield what `items` yields, each made in another thread while the one before is in use; so two are in memory.

    An error of `items` is raised where its item would have come.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, items, _END)
            yield item  # pyright: ignore[reportReturnType]


def features_ahead(
    source: FeatureSource, indices: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions [n], frames [n, V, T, D]) of the videos at `indices`, of all for None, read ahead, in the order in
    which they are stored.

    What is not finite is not looked for: who computes with it finds it in the result.
    """
    row_bytes = 2 * max(1, math.prod(source.shape[1:]))
    size = min(_MOST_VIDEOS, max(1, _BATCH_BYTES // row_bytes))
    return ahead((batch, frames) for _, batch, frames in source.scan(size, indices))
