"""Features, wherever they lie, and the one loop from features to similarities.

n videos of a batch, V views, T frames, D dimensions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from .scorers import JointScorer, Scorer

BATCH_VIDEOS = 256
"""Features of so many videos (2 MB of 8 x 512) stay near the processor while they are checked, converted and multiplied."""


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
        if not _all_finite(frames):
            finite = np.isfinite(frames.reshape(len(frames), -1)).all(axis=1)
            raise not_finite(source, int(batch[finite.argmin()]))
        yield places, batch, frames


def _all_finite(numbers: np.ndarray) -> bool:
    if numbers.dtype != np.float16 or not numbers.flags.c_contiguous:
        return bool(np.isfinite(numbers).all())
    exponents = (
        numbers.view(np.uint16) & 0x7C00
    )  # several times as fast as isfinite, which asks one number at a time
    return not (exponents == 0x7C00).any()


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
    buffer = np.empty(0, np.float32)
    for places, batch, frames in scan_finite(source, indices):
        if buffer.size < frames.size:
            buffer = np.empty(frames.size, np.float32)
        frames = _to_float32(frames, buffer[: frames.size].reshape(frames.shape))
        known: dict[int, Any] = {}
        yield places, [_similarities(scorer, batch, frames, known) for scorer in scorers]


def _to_float32(frames: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Convert once for all scorers: by torch where a scorer has imported it, which converts float16 six times as fast as numpy."""
    torch = sys.modules.get("torch")
    if torch is None:
        np.copyto(out, frames)
    else:
        torch.from_numpy(out).copy_(torch.from_numpy(frames))
    return out


def _similarities(scorer: Scorer, indices: np.ndarray, frames: np.ndarray, known: dict[int, Any]) -> Any:
    if id(scorer) not in known:
        if isinstance(scorer, JointScorer):
            parts = (_similarities(part, indices, frames, known) for part in scorer.parts)
            known[id(scorer)] = scorer.join(*parts)
        else:
            known[id(scorer)] = scorer.similarities(indices, frames)
    return known[id(scorer)]
