"""What an export holds, whatever its form: the features of a cache, and what is known of its videos.

N videos, V views, T frames, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ...cache import FeatureCache, VideoInfo
from ..scoring import mean_embeddings

EXPORT_FORMAT = "vidclip-export"
EXPORT_VERSION = 1
BATCH = 256
"""Videos in memory at once."""
DETAILS = tuple(field.name for field in fields(VideoInfo) if field.name != "generation")
"""What is written of each video; how often it was read is the cache's own matter."""
_TYPES = {float: np.float64, int: np.int64, bool: np.bool_}


@dataclass(frozen=True)
class Content:
    """The content of a cache, in batches."""

    cache: FeatureCache
    features: str
    """frames: as the cache has them, [N, V, T, D] float16. mean: of frames and views, L2-normalized, [N, D] float32."""

    @property
    def arrays(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of each array, by name."""
        n, views, times, dimensions = self.cache.shape
        shape = (n, views, times, dimensions) if self.features == "frames" else (n, dimensions)
        dtype = np.float16 if self.features == "frames" else np.float32
        return {
            self.features: (np.dtype(dtype), shape),
            "frame_indices": (np.dtype(np.int64), (n, views, times)),
            "timestamps": (np.dtype(np.float64), (n, views, times)),
        }

    def batches(self, name: str) -> Iterator[np.ndarray]:
        """Yield an array in pieces, C-ordered and little-endian."""
        for start in range(0, len(self.cache), BATCH):
            yield self.read(name, np.arange(start, min(start + BATCH, len(self.cache))))

    def read(self, name: str, indices: np.ndarray) -> np.ndarray:
        """Return the rows of an array."""
        if name == "mean":
            rows = mean_embeddings(self.cache.frames(indices))
        else:
            rows = {"frames": self.cache.frames, "frame_indices": self.cache.frame_indices}.get(
                name, self.cache.timestamps
            )(indices)
        return np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))

    def numbers(self) -> dict[str, np.ndarray]:
        """Return what is known of all videos in numbers, by name: [N]."""
        columns: dict[str, np.ndarray] = {}
        for name in DETAILS:
            values = [getattr(video, name) for video in self.cache.videos]
            if values and type(values[0]) in _TYPES:
                columns[name] = np.array(values, _TYPES[type(values[0])])
        return columns

    def details(self, index: int) -> dict[str, Any]:
        """Return what is known of a video, for JSON: a number that is not finite is None."""
        video = self.cache.videos[index]
        values = {name: getattr(video, name) for name in DETAILS}
        values["labels"] = list(video.labels)
        seconds = values["duration_seconds"]
        return {**values, "duration_seconds": seconds if np.isfinite(seconds) else None}

    def metadata(self) -> Mapping[str, Any]:
        """Return what shaped the features; JSON-able."""
        return {
            "format": EXPORT_FORMAT,
            "version": EXPORT_VERSION,
            "features": self.features,
            "shape": list(self.arrays[self.features][1]),
            "precisions": self.cache.precisions,
            "digest": self.cache.identity.digest,
            "identity": self.cache.identity.to_dict(),
        }
