"""The videos of a cache with all that it keeps of them, as a writer takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .features import FeatureCache
from .layout import VideoRecord


def stored_records(
    cache: FeatureCache, indices: Sequence[int] | np.ndarray | None = None, *, batch: int = 256
) -> Iterator[tuple[int, VideoRecord]]:
    """Yield (place in `indices`, what is stored of that video), in the order in which they are stored: each byte is read once.

    indices    positions in the cache; None: all
    batch      videos whose features are in memory at once
    """
    wanted = np.arange(len(cache)) if indices is None else np.asarray(indices, np.int64)
    order = cache.storage_order(wanted)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        piece = wanted[places]
        arrays = zip(
            places.tolist(),
            piece.tolist(),
            cache.frames(piece),
            cache.frame_indices(piece),
            cache.timestamps(piece),
            cache.patches(piece) if cache.patch_shape else [None] * len(piece),
            strict=True,
        )
        for place, index, frames, frame_indices, timestamps, patches in arrays:
            yield (
                place,
                VideoRecord(
                    **vars(cache.videos[index]),
                    frames=frames,
                    frame_indices=frame_indices,
                    timestamps=timestamps,
                    patches=patches,
                ),
            )
