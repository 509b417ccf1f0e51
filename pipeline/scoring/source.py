"""Features, wherever they lie, and the one loop from features to similarities.

n videos of a batch, V views, T frames, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from .scorers import JointScorer, Scorer

BATCH_VIDEOS = 1024


class FeatureSource(Protocol):
    """Frame embeddings of N videos: a `FeatureCache`, one view of one, or `ArrayFeatures`."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, V, T, D)."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The names of the videos, by which errors call them."""
        ...

    def scan(
        self, size: int = ..., indices: Any = ..., /
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (places [n] in `indices`, indices [n], frames [n, V, T, D]) of at most `size` videos, in the order in which
        they are stored."""
        ...


class ArrayFeatures:
    """Features in memory, [N, V, T, D]; `ids` default to the positions."""

    def __init__(self, frames: np.ndarray, ids: Sequence[str] | None = None) -> None:
        if frames.ndim != 4:
            raise ValueError(f"frames must be [N, V, T, D], got shape {frames.shape}")
        self._frames = frames
        self.ids = [str(i) for i in range(len(frames))] if ids is None else ids
        if len(self.ids) != len(frames):
            raise ValueError(f"{len(self.ids)} ids do not fit {len(frames)} videos")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        n, views, times, dimensions = self._frames.shape
        return n, views, times, dimensions

    def scan(
        self, size: int = BATCH_VIDEOS, indices: Any = None, /
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        chosen = np.arange(len(self._frames)) if indices is None else np.asarray(indices, np.int64)
        for start in range(0, len(chosen), size):
            batch = chosen[start : start + size]
            yield np.arange(start, start + len(batch)), batch, self._frames[batch]


class NotFinite(ValueError):
    """Features that no score can be made of, and no head trained on."""


def not_finite(source: FeatureSource, index: int) -> NotFinite:
    """Return the error for the features of a video."""
    where = f" in {source.folder}" if hasattr(source, "folder") else ""  # pyright: ignore[reportAttributeAccessIssue]
    return NotFinite(
        f"the features of the video {source.ids[index]!r}{where} hold numbers that are not finite; `vidclip verify` "
        "names the damaged file of a cache."
    )


def scan_finite(
    source: FeatureSource, indices: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield what `source.scan` does. Raises NotFinite, by the name of the video, for NaN and infinities."""
    for places, batch, frames in source.scan(BATCH_VIDEOS, indices):
        finite = np.isfinite(frames.reshape(len(frames), -1)).all(axis=1)
        if not finite.all():
            raise not_finite(source, int(batch[finite.argmin()]))
        yield places, batch, frames


def read_frames(source: FeatureSource, indices: np.ndarray) -> np.ndarray:
    """Return frames [n, V, T, D] of the videos at `indices`, all in memory. Raises NotFinite."""
    out = None
    for places, _, frames in scan_finite(source, indices):
        out = np.empty((len(indices), *frames.shape[1:]), frames.dtype) if out is None else out
        out[places] = frames
    return np.empty((0, *source.shape[1:]), np.float16) if out is None else out


def scan_scores(
    source: FeatureSource, scorers: Sequence[Scorer], indices: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Yield (places [n], the similarities of each scorer) batch by batch, in one pass over the features, in the order in
    which they are stored.

    places    where the videos of a batch stand in `indices` (None: in the source): results go to ``result[places]``

    What two fusions have in common is computed once. Raises NotFinite.
    """
    for places, batch, frames in scan_finite(source, indices):
        known: dict[int, Any] = {}
        yield places, [_similarities(scorer, batch, frames, known) for scorer in scorers]


def _similarities(scorer: Scorer, indices: np.ndarray, frames: np.ndarray, known: dict[int, Any]) -> Any:
    if id(scorer) not in known:
        if isinstance(scorer, JointScorer):
            parts = (_similarities(part, indices, frames, known) for part in scorer.parts)
            known[id(scorer)] = scorer.join(*parts)
        else:
            known[id(scorer)] = scorer.similarities(indices, frames)
    return known[id(scorer)]
