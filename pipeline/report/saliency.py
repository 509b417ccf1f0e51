"""The saliency of the frames of videos, as a picture: strips of frames with bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .figures import COLORS, style
from .fonts import drawable

_THUMB, _BAR, _GAP, _MARGIN = 0.96, 0.48, 0.06, 0.15
_TITLE, _CAPTION, _HEADING, _NUMBER, _BETWEEN, _NOTE = 0.27, 0.2, 0.26, 0.18, 0.22, 0.3
"""Inches."""
_TRACK, _INK, _PALE = "#eceef1", "#202124", "#5f6368"
_CHARACTERS_AN_INCH = 12.5
"""Of the size that phrases have, about."""


@dataclass(frozen=True, eq=False)
class VideoSaliency:
    """How much attention each phrase gives each frame of a video, and its frames: T frames, P phrases."""

    name: str
    frames: np.ndarray
    """[T, h, w, 3] uint8."""
    shares: np.ndarray
    """[P, T] saliency; each row sums to 1."""
    seconds: np.ndarray
    """[T] when each frame is shown; nan where that is unknown, as of a folder of images."""
    indices: np.ndarray
    """[T] which frames of the file they are."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        if (
            self.shares.ndim != 2
            or not self.shares.shape[1] == len(self.seconds) == len(self.indices) == count
        ):
            raise ValueError(
                f"{count} frames, but shares {self.shares.shape}, {len(self.seconds)} times and "
                f"{len(self.indices)} frame numbers"
            )

    def caption(self, t: int) -> str:
        """`3.2 s`, `1:02:03`, or `frame 7` where times are unknown."""
        return clock(float(self.seconds[t])) if not np.isnan(self.seconds[t]) else f"frame {self.indices[t]}"


def clock(seconds: float) -> str:
    """Return a time in a video as people read it: `3.2 s`, `1:02`, `1:02:03`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def saliency_strip(videos: Sequence[VideoSaliency], phrases: Sequence[str], *, columns: int = 8) -> Figure:
    """Draw the frames of videos in rows, and under them, for each phrase, the share of each frame as a bar.

    phrases    P
    columns    frames of a row, at most

    All bars of the picture share one scale: the tallest is the highest share of any frame, phrase and video. A dashed line
    is the share that each frame of its video would have if all had the same. Raises ValueError where there is no video,
    and where shares and phrases do not fit.
    """
    check_phrases(videos, phrases)
    scale = highest_share(videos)
    widest = max(_columns(len(video.frames), columns) for video in videos)
    width = max(2 * _MARGIN + widest * (_THUMB + _GAP) - _GAP, 4.5)
    heights = [_height(video, len(phrases), columns) for video in videos]
    height = 2 * _MARGIN + sum(heights) + _BETWEEN * (len(videos) - 1) + _NOTE
    with mpl.rc_context(style()):
        figure = Figure(figsize=(width, height))
        panel = figure.add_axes((0, 0, 1, 1))
        top = _MARGIN
        for video, own in zip(videos, heights, strict=True):
            _draw_video(panel, video, phrases, columns, top, width, scale)
            top += own + _BETWEEN
        note = f"One scale for all bars: a full one is {percent(scale)}. Dashed: the share of each frame if all had the same."
        panel.text(_MARGIN, height - _MARGIN, note, size=8, color=_PALE, va="bottom")
        panel.set(xlim=(0, width), ylim=(height, 0))
        panel.axis("off")
    return figure


def check_phrases(videos: Sequence[VideoSaliency], phrases: Sequence[str]) -> None:
    """Raise ValueError where there is no video, and where shares and phrases do not fit."""
    if not videos:
        raise ValueError("there is no video to draw")
    for video in videos:
        if len(video.shares) != len(phrases):
            raise ValueError(f"{len(phrases)} phrases, but shares {video.shares.shape} of {video.name}")


def highest_share(videos: Sequence[VideoSaliency]) -> float:
    """Return the highest share of any frame, phrase and video: the scale of a picture."""
    return max(float(video.shares.max()) for video in videos)


def percent(share: float) -> str:
    """`32 %`, `3.2 %`, `0.32 %`: two digits at least."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %" if value >= 0.95 else f"{value:.2g} %"


def cut_to(text: str, inches: float) -> str:
    """Return a text that takes about so many inches at most, fit to be drawn."""
    text, most = drawable(text), max(4, int(_CHARACTERS_AN_INCH * inches))
    return text if len(text) <= most else text[: most - 1] + "…"


def _columns(count: int, most: int) -> int:
    """Return the frames of a row: rows are as even as can be."""
    return math.ceil(count / math.ceil(count / most))


def _height(video: VideoSaliency, n_phrases: int, columns: int) -> float:
    rows = math.ceil(len(video.frames) / columns)
    return _TITLE + rows * _row_height(video, n_phrases) + (rows - 1) * _BETWEEN


def _thumb_height(video: VideoSaliency) -> float:
    return _THUMB * video.frames.shape[1] / video.frames.shape[2]


def _row_height(video: VideoSaliency, n_phrases: int) -> float:
    return _thumb_height(video) + _CAPTION + n_phrases * (_HEADING + _BAR + _NUMBER)


def _draw_video(
    panel: Axes,
    video: VideoSaliency,
    phrases: Sequence[str],
    columns: int,
    top: float,
    width: float,
    scale: float,
) -> None:
    panel.text(_MARGIN, top, cut_to(video.name, width - 2 * _MARGIN), size=11, weight="bold", va="top")
    top += _TITLE
    count, per_row, high = len(video.frames), _columns(len(video.frames), columns), _thumb_height(video)
    for start in range(0, count, per_row):
        times = range(start, min(start + per_row, count))
        lefts = [_MARGIN + (t - start) * (_THUMB + _GAP) for t in times]
        for t, left in zip(times, lefts, strict=True):
            panel.imshow(video.frames[t], extent=(left, left + _THUMB, top + high, top), aspect="auto")
            caption = video.caption(t)
            panel.text(
                left + _THUMB / 2, top + high + 0.03, caption, size=8, color=_INK, ha="center", va="top"
            )
        floor = top + high + _CAPTION
        for phrase, row in zip(phrases, video.shares, strict=True):
            panel.text(_MARGIN, floor + 0.05, cut_to(phrase, width - 2 * _MARGIN), size=9, va="top")
            floor += _HEADING + _BAR
            _draw_bars(panel, row[times.start : times.stop], lefts, floor, scale, best=float(row.max()))
            even = floor - _BAR / (count * scale)
            panel.plot(
                [lefts[0], lefts[-1] + _THUMB],
                [even, even],
                color=_PALE,
                linewidth=0.8,
                linestyle=(0, (4, 3)),
            )
            floor += _NUMBER
        top = floor + _BETWEEN


def _draw_bars(
    panel: Axes, shares: np.ndarray, lefts: Sequence[float], floor: float, scale: float, best: float
) -> None:
    """Draw bars up from `floor`, and under them their shares; the highest of the phrase in bold."""
    for share, left in zip(map(float, shares), lefts, strict=True):
        height, inset = _BAR * share / scale, _THUMB / 4
        panel.add_patch(Rectangle((left + inset, floor - _BAR), _THUMB / 2, _BAR, color=_TRACK, linewidth=0))
        bar = Rectangle((left + inset, floor - height), _THUMB / 2, height, color=COLORS[0], linewidth=0)
        bar.set_gid("share")
        panel.add_patch(bar)
        weight = "bold" if share == best else "normal"
        panel.text(
            left + _THUMB / 2, floor + 0.03, percent(share), size=8, ha="center", va="top", weight=weight
        )
