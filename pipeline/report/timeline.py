"""The saliency of long videos, as a picture: a curve over time for each phrase, and frames at its peaks."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from .figures import line_style, style
from .saliency import VideoSaliency, check_phrases, clock, cut_to, highest_share

_WIDTH, _LEFT, _RIGHT = 11.0, 0.75, 0.15
_THUMB, _LINES, _CURVE, _BELOW, _TITLE = 1.1, 0.38, 1.9, 0.5, 0.36
"""Inches."""
MOST_PEAKS = 8
"""Frames that are shown of a video."""
_LOWEST = 0.2
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
"""Seconds between marks of the axis of time."""


def find_peaks(shares: np.ndarray, most: int = MOST_PEAKS, *, apart: int = 1) -> list[tuple[int, int]]:
    """Return (phrase, frame) of the highest peaks of curves [P, T], in the order of the frames.

    A peak is a frame whose share no neighbor exceeds, of neighbors that are equal the first, and that is above that of an
    even curve, 1/T, and a fifth of the highest of its phrase. Of peaks less than `apart` frames from a higher one, of any
    phrase, none is kept.
    """
    count = shares.shape[1]
    before = np.pad(shares, ((0, 0), (1, 0)), constant_values=-np.inf)[:, :count]
    after = np.pad(shares, ((0, 0), (0, 1)), constant_values=-np.inf)[:, 1:]
    enough = np.maximum(1 / count, _LOWEST * shares.max(axis=1, keepdims=True))
    candidates = np.argwhere((shares > before) & (shares >= after) & (shares > enough))
    order = np.argsort(-shares[tuple(candidates.T)], kind="stable")
    kept: list[tuple[int, int]] = []
    for phrase, t in candidates[order].tolist():
        if len(kept) < most and all(abs(t - other) >= apart for _, other in kept):
            kept.append((phrase, t))
    return sorted(kept, key=lambda peak: peak[1])


def saliency_timeline(videos: Sequence[VideoSaliency], phrases: Sequence[str]) -> Figure:
    """Draw, for each video, the share of each frame over time as a curve for each phrase, and above it the frames at the
    highest peaks.

    phrases    P

    All curves of the picture share one scale. Raises ValueError where there is no video, where shares and phrases do not
    fit, and for a video whose frames have no times.
    """
    check_phrases(videos, phrases)
    for video in videos:
        if np.isnan(video.seconds).any():
            raise ValueError(f"the frames of {video.name} have no times: a timeline needs them")
    scale = highest_share(videos)
    own = [_TITLE + _thumb_height(video) + _LINES + _CURVE + _BELOW for video in videos]
    legend = 0.25 * -(-(len(phrases) + 1) // 3) + 0.1
    height = sum(own) + legend
    with mpl.rc_context(style()):
        figure = Figure(figsize=(_WIDTH, height))
        top, panel = 0.0, None
        for video, tall in zip(videos, own, strict=True):
            panel = _draw_video(figure, video, height, top, scale)
            top += tall
        assert panel is not None  # there is a video
        named = [*(cut_to(phrase, 3) for phrase in phrases), "all frames alike"]
        figure.legend(panel.get_lines(), named, loc="lower center", ncols=3, frameon=False, handlelength=4)
    return figure


def _thumb_height(video: VideoSaliency) -> float:
    return _THUMB * video.frames.shape[1] / video.frames.shape[2]


def _draw_video(figure: Figure, video: VideoSaliency, height: float, top: float, scale: float) -> Axes:
    """Draw a video `top` inches below the upper edge; return its panel, whose lines are the P curves and that
    of all frames alike."""
    high, wide = _thumb_height(video), _WIDTH - _LEFT - _RIGHT
    floor = top + _TITLE + high + _LINES + _CURVE
    panel = figure.add_axes((_LEFT / _WIDTH, 1 - floor / height, wide / _WIDTH, _CURVE / height))
    seconds = video.seconds
    peaks = find_peaks(video.shares, apart=max(1, len(seconds) // (4 * MOST_PEAKS)))
    for phrase, row in enumerate(video.shares):
        marked = [t for own, t in peaks if own == phrase]
        panel.plot(seconds, 100 * row, markevery=marked, markersize=7, linewidth=1.3, **line_style(phrase))
    panel.axhline(100 / len(seconds), color="#80868b", linewidth=0.8, linestyle=":")
    end = float(seconds[-1]) if seconds[-1] > seconds[0] else float(seconds[0]) + 1
    panel.set(xlim=(float(seconds[0]), end), ylim=(0, 105 * scale), ylabel="% of attention")
    step = next((step for step in _STEPS if end - seconds[0] <= 11 * step), (end - seconds[0]) / 10)
    panel.xaxis.set_major_locator(MultipleLocator(step))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _mark(value, long=end > 60)))
    title = figure.add_axes((0, 1 - (top + _TITLE) / height, 1, _TITLE / height))
    title.axis("off")
    title.text(_LEFT / _WIDTH, 0.3, cut_to(video.name, wide), size=11, weight="bold")
    _draw_peaks(figure, panel, video, peaks, height, top + _TITLE)
    return panel


def _mark(seconds: float, *, long: bool) -> str:
    """Return `0:30` on the axis of a video of more than a minute, `30.0 s` on that of a shorter one."""
    return f"0:{round(seconds):02}" if long and seconds < 59.5 else clock(seconds)


def _draw_peaks(
    figure: Figure,
    panel: Axes,
    video: VideoSaliency,
    peaks: Sequence[tuple[int, int]],
    height: float,
    top: float,
) -> None:
    """Draw the frames of the peaks, each near its time and none over another, with a line to its curve."""
    high, wide = _thumb_height(video), _WIDTH - _LEFT - _RIGHT
    (first, last), step = panel.get_xlim(), _THUMB + 0.12
    wished = [(video.seconds[t] - first) / (last - first) * wide - _THUMB / 2 for _, t in peaks]
    for (phrase, t), left in zip(peaks, _spread(wished, step, wide - _THUMB), strict=True):
        box = ((_LEFT + left) / _WIDTH, 1 - (top + high) / height, _THUMB / _WIDTH, high / height)
        frame = figure.add_axes(box)
        frame.imshow(video.frames[t], aspect="auto")
        frame.set(xticks=[], yticks=[])
        look = line_style(phrase)
        for spine in frame.spines.values():
            spine.set(visible=True, color=look["color"], linestyle=look["linestyle"], linewidth=2)
        frame.set_xlabel(video.caption(t), size=8, labelpad=2)
        panel.annotate(
            "", xy=(video.seconds[t], 100 * video.shares[phrase, t]), xycoords="data",
            xytext=((left + _THUMB / 2) / wide, 1 + (_LINES - 0.2) / _CURVE), textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": look["color"], "linewidth": 0.8, "shrinkB": 4},
        )  # fmt: skip


def _spread(wished: Sequence[float], step: float, last: float) -> list[float]:
    """Return places in ascending order, at least `step` apart and within 0..last, near those that are wished."""
    places: list[float] = []
    for number, wish in enumerate(wished):
        latest = last - step * (len(wished) - 1 - number)
        earliest = places[-1] + step if places else 0.0
        places.append(min(max(wish, earliest), max(latest, earliest)))
    return places
