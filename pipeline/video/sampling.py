"""Which frames and crops of a video are looked at.

L frames in the video, T frames a clip, K clips; frame i, clip k; everything counts from zero.

    uniform, start      |X x x|X x x|X x x|     K = 1, L = 9, T = 3
    uniform, middle     |x X x|x X x|x X x|
    uniform, random     |x x X|X x x|x X x|     another frame of each segment at every draw
    uniform, K = 2      |0 x 1|0 x 1|0 x 1|     clip 1 stands later in each segment
    dense               x x X X X X x x         neighbors at a fixed stride, wherever L allows
    dense, random       x X X X X x x x         from another frame at every draw

Random frames are drawn for training, each epoch anew, or once for a cache, which then has a seed. The segments of
training are those of `start`, |x x x|x x x x|x x x x| for L = 11; the seeded ones are all of L // T frames, and the last
L % T frames of a video are in none: |x x x|x x x|x x x|x x.

Sources: the test-time samplers of BIKE and Text4Vis (`start`, `dense`), mmaction and X-CLIP (`middle`); the
training samplers of TSN (`random`), and of mmaction, whose draws X-CLIP takes as clips of a test (`random`, seeded).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..choices import CROP_POSITIONS, MODES, POSITIONS, check_choice

DENSE_SPAN = 128
"""Frames that a dense clip spans (released BIKE and Text4Vis)."""

CROPS = (1, 3)
MAX_FRAMES = 2**16
"""Frames of all views of a video at most: 65,536 frames of 224 x 224 pixels take 9.2 GiB."""

_LATER = {"crop_positions": "longer-side", "seed": None}
"""Settings that caches did not always have, and what they stood at."""


@dataclass(frozen=True)
class Sampling:
    """Which frames and crops of a video are looked at. Raises ValueError for values that cannot be."""

    frames: int = 8
    """T: frames of a clip."""
    clips: int = 1
    """K: clips of a video."""
    crops: int = 1
    """Crops of a frame: 1 (center), or 3 (start, middle, end of the longer side)."""
    mode: str = "uniform"
    """`uniform`: one frame of each of T equal segments; `dense`: frames at a stride of 128 // T."""
    position: str = "start"
    """Where in its segment a uniform frame stands: `start`, `middle`, or at `random`, which needs a draw
    (`VideoRequest.draw`). Of dense frames, the first stands at random, or where the mode has it."""
    crop_positions: str = "longer-side"
    """Where three crops are: along the `longer-side`, or along the `width` of every frame, as the released BIKE
    and Text4Vis have them (see `preprocess.Preprocess.pixels`). For a single crop, there is no choice."""
    seed: int | None = None
    """Of random frames that are drawn once, as features in a cache are: see `draw_of`. None: each draw is the
    caller's own, as in training."""

    def __post_init__(self) -> None:
        for name in ("frames", "clips"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        check_choice("crops", self.crops, CROPS)
        check_choice("mode", self.mode, MODES)
        check_choice("position", self.position, POSITIONS)
        if self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if self.seed is not None and self.position != "random":
            raise ValueError(f"seed {self.seed} is for the position 'random', not for {self.position!r}")
        check_choice("crop_positions", self.crop_positions, CROP_POSITIONS)
        if self.crops == 1 and self.crop_positions != "longer-side":
            raise ValueError(f"crop_positions {self.crop_positions!r} is for three crops, not for one")
        if self.views * self.frames > MAX_FRAMES:
            raise ValueError(
                f"frames x clips x crops must be at most {MAX_FRAMES:,}, got {self.frames} x {self.clips} x {self.crops}"
            )

    @property
    def views(self) -> int:
        """V = clips x crops; view v is crop v % crops of clip v // crops."""
        return self.clips * self.crops

    def draw_of(self, video: str) -> tuple[int, ...] | None:
        """Return the draw of the clips of a video in a cache (`VideoRequest.draw`): of (seed, id of the video) alone, so
        that any machine, order and part of a list gives the same frames. Clip k does not depend on the number of
        clips. None, where nothing is seeded."""
        if self.seed is None:
            return None
        digest = hashlib.sha256(video.encode("utf-8", "surrogateescape")).digest()
        return self.seed, int.from_bytes(digest[:8], "big")

    def frame_indices(self, n_frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Choose the frames to look at in a video of `n_frames` frames; `rng` is for the position `random` alone.

        Returns [clips, frames] int64 in [0, n_frames). Frames repeat where the video is too short.
        Raises ValueError when n_frames is below 1, or when random frames lack a generator.
        """
        if n_frames < 1:
            raise ValueError(
                f"n_frames must be at least 1, got {n_frames}: a video without frames has nothing to sample"
            )
        if self.position == "random" and rng is None:
            raise ValueError("position 'random' needs a generator")
        if self.mode == "dense":
            return self._dense(n_frames, rng)
        if rng is not None and self.position == "random":
            return self._uniform_random(n_frames, rng)
        if self.position == "middle":
            return self._uniform_middle(n_frames)
        return self._uniform_start(n_frames)

    def _uniform_start(self, n_frames: int) -> np.ndarray:
        # s_k = integer part of linspace(0, L/T - 1, K)[k]; the stop is negative where L < T: s_k = 0.
        last_shift = max(0.0, n_frames / self.frames - 1)
        shifts = np.linspace(0, last_shift, self.clips).astype(np.int64)  # [K]
        starts = np.arange(self.frames, dtype=np.int64) * n_frames // self.frames  # [T]
        return (shifts[:, None] + starts[None, :]) % n_frames

    def _uniform_middle(self, n_frames: int) -> np.ndarray:
        # mmaction has one clip here; with more, each segment is cut into K equal parts, and clip k has
        # the middle of part k: floor((i + (k + 1/2) / K) * L / T), in whole numbers.
        part = np.arange(self.frames, dtype=np.int64)[None, :] * self.clips
        part = part + np.arange(self.clips, dtype=np.int64)[:, None]  # [K, T]
        return (2 * part + 1) * n_frames // (2 * self.clips * self.frames)

    def _uniform_random(self, n_frames: int, rng: np.random.Generator) -> np.ndarray:
        edges = np.arange(self.frames + 1, dtype=np.int64)
        if self.seed is None:
            edges = edges * n_frames // self.frames
        elif n_frames >= self.frames:
            edges *= n_frames // self.frames
        else:  # mmaction draws nothing then, and a frame beyond the last is the first
            short = np.around(edges[:-1] * (n_frames / self.frames)).astype(np.int64) % n_frames
            return np.tile(short, (self.clips, 1))
        # A segment shorter than a frame gives the frame it lies in.
        stops = np.maximum(edges[1:], edges[:-1] + 1)
        return rng.integers(edges[:-1], stops, size=(self.clips, self.frames), dtype=np.int64)

    def _dense(self, n_frames: int, rng: np.random.Generator | None) -> np.ndarray:
        stride = max(1, DENSE_SPAN // self.frames)  # more than 128 frames: one after the other
        rest = max(0, n_frames - DENSE_SPAN)
        if rng is not None and self.position == "random":
            starts = rng.integers(0, max(1, rest), size=self.clips, dtype=np.int64)
        elif self.clips == 1:  # the released code divides by zero here
            starts = np.array([rest // 2], dtype=np.int64)
        else:
            starts = np.arange(self.clips, dtype=np.int64) * (rest // (self.clips - 1))
        steps = np.arange(self.frames, dtype=np.int64) * stride
        return (starts[:, None] + steps[None, :]) % n_frames

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words, for JSON; `from_dict` reads them back.

        `crop_positions` and `seed` are there when they are not the default: older caches have none.
        """
        return {
            name: value for name, value in asdict(self).items() if name not in _LATER or value != _LATER[name]
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sampling:
        """Return the sampling that `to_dict` wrote. Raises ValueError on an unknown or missing name."""
        check_names({**_LATER, **data}, {field.name for field in fields(cls)}, "sampling")
        return cls(**data)


def middle_frames(frames: int, embeddings: int) -> np.ndarray:
    """Return which of the T frames of a view each of its T' embeddings is called by, [T'] int64: T / T' neighbors make
    one, and of these it is the middle one, or the earlier of two. Raises ValueError where T' does not divide T."""
    if embeddings < 1 or frames % embeddings:
        raise ValueError(f"{embeddings} embeddings cannot be made of {frames} frames evenly")
    each = frames // embeddings
    return np.arange(embeddings, dtype=np.int64) * each + (each - 1) // 2


def check_names(data: Mapping[str, Any], expected: set[str], what: str) -> None:
    """Raise ValueError unless `data` has exactly the names `expected`; `what` is for the message."""
    unknown, missing = sorted(set(data) - expected), sorted(expected - set(data))
    if unknown or missing:
        parts = [f"unknown {', '.join(unknown)}"] * bool(unknown)
        parts += [f"missing {', '.join(missing)}"] * bool(missing)
        raise ValueError(f"This is no {what}: {'; '.join(parts)}")
