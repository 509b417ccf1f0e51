"""When the frames of a video are shown, as its packets and time stamps tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .packets import Packets

DEFAULT_RATE = 25.0
"""Frames a second where neither time stamps nor the header tell."""


def frame_seconds(packets: Packets, stamps: Sequence[int | None]) -> np.ndarray:
    """Return when frames are shown, counted from the first; [n] seconds. `stamps` are in the order of showing.

    AVI keeps times of decoding alone, and PyAV's guesses are then out of order: sorted, they are right,
    and where even that leaves two frames at one time, the frame rate tells.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == len(stamps) == len(set(known)):
        times = np.array(sorted(known), dtype=np.float64)
        return (times - times[0]) * packets.time_base
    return np.arange(len(stamps)) / (packets.rate or DEFAULT_RATE)


def end_seconds(packets: Packets, seconds: np.ndarray) -> float:
    """Return when the last frame has been shown; frames are shown at `seconds` [n], in order."""
    last = packets.last_duration * packets.time_base or 1 / (packets.rate or DEFAULT_RATE)
    return float(seconds[-1] + last)


def late_start_seconds(packets: Packets, stamps: Sequence[int | None], *, named: bool) -> float:
    """Return the seconds from the first frame to show to the first that the decoder gives.

    stamps  [n] of the frames that the decoder gives, in the order of showing
    named   whether the stamps are those of the packets; guesses otherwise, and the video then starts at most as
            late as the frames that did not come
    """
    if stamps[0] is None or not packets.display_pts:
        return 0.0
    late = max(0, stamps[0] - packets.display_pts[0]) * packets.time_base
    missing = max(0, len(packets.display_pts) - len(stamps))
    return late if named else min(late, missing / (packets.rate or DEFAULT_RATE))


def format_seconds(seconds: float) -> str:
    """Return seconds for a person, to the millisecond: 30.0, 2.36."""
    short = f"{seconds:.3f}".rstrip("0")
    return f"{short}0" if short.endswith(".") else short
