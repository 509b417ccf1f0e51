"""Strips and timelines say what the numbers say, in one scale."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.signal import find_peaks as scipy_peaks

from vidclip.pipeline.report import (
    VideoSaliency,
    find_peaks,
    line_style,
    saliency_strip,
    saliency_timeline,
    save_figure,
)

BLUE = tuple(round(255 * part) for part in to_rgb(line_style(0)["color"]))
SVG = "{http://www.w3.org/2000/svg}"


def video(shares, name="v", *, side=20, seconds=None):
    shares = np.asarray(shares, float)
    count = shares.shape[1]
    frames = np.zeros((count, side, side, 3), np.uint8)
    frames[1:] = (200, 10, 10)
    times = np.arange(count, dtype=float) if seconds is None else np.asarray(seconds, float)
    return VideoSaliency(name, frames, shares, times, np.arange(count) * 7)


def bars(figure):
    """The heights of all bars, in the order in which they are drawn."""
    return [patch.get_height() for patch in figure.axes[0].patches if patch.get_gid() == "share"]


def texts(figure):
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def test_all_bars_of_a_picture_share_one_scale():
    one = video([[0.5, 0.25, 0.25], [0, 1, 0]])
    other = video([[0.2, 0.2, 0.2, 0.4], [0.25] * 4], "w")
    figure = saliency_strip([one, other], ["first", "second"])
    drawn = np.array(bars(figure))
    expected = np.array([0.5, 0.25, 0.25, 0, 1, 0, 0.2, 0.2, 0.2, 0.4, *[0.25] * 4])
    np.testing.assert_allclose(drawn / drawn.max(), expected)
    assert {"v", "w", "first", "second", "50 %", "100 %", "0.0 s", "3.0 s"} <= set(texts(figure))
    assert any("a full one is 100 %" in text for text in texts(figure))


def test_a_picture_has_the_frames_above_their_bars(tmp_path):
    figure = saliency_strip([video([[0.25, 0.75, 0]])], ["a phrase"])
    save_figure(figure, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)
    red, blue = ((np.abs(picture - color).max(axis=2) <= 2) for color in ((200, 10, 10), BLUE))
    assert red.any()
    assert np.flatnonzero(red.any(axis=1)).max() < np.flatnonzero(blue.any(axis=1)).min()
    columns = np.flatnonzero(blue.any(axis=0))
    low, high = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    tall = [blue[:, part].any(axis=1).sum() for part in (low, high)]
    # The dashed line of 1/3 crosses the higher bar.
    assert tall[1] == pytest.approx(3 * tall[0], abs=4)


@pytest.mark.parametrize(("count", "rows"), [(8, [8]), (9, [5, 4]), (20, [7, 7, 6])])
def test_many_frames_stand_in_rows(count, rows):
    figure = saliency_strip([video([np.full(count, 1 / count)])], ["a"])
    tops = [image.get_extent()[3] for image in figure.axes[0].images]
    assert len(tops) == count
    assert [tops.count(top) for top in sorted(set(tops))] == rows
    width, height = figure.get_size_inches()
    lefts, rights, bottoms, _ = zip(*(image.get_extent() for image in figure.axes[0].images), strict=True)
    assert min(lefts) >= 0
    assert max(rights) <= width
    assert max(bottoms) <= height


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 phrases, but shares"):
        saliency_strip([video([[0.5, 0.5]])], ["one", "two"])
    with pytest.raises(ValueError, match="no video"):
        saliency_strip([], ["one"])
    with pytest.raises(ValueError, match="3 frames, but shares"):
        VideoSaliency("v", np.zeros((3, 4, 4, 3), np.uint8), np.ones((1, 2)), np.arange(3), np.arange(3))
    with pytest.raises(ValueError, match="no times: a timeline needs them"):
        saliency_timeline([video([[0.5, 0.5]], seconds=[np.nan, np.nan])], ["a"])


def test_frames_without_times_are_called_by_their_numbers():
    figure = saliency_strip([video([[0.5, 0.5]], seconds=[np.nan, np.nan])], ["a"])
    assert {"frame 0", "frame 7"} <= set(texts(figure))


def test_names_stand_in_an_svg_as_they_are(tmp_path):
    named = video([[0.5, 0.5]], "a $x_1$ <b>/打太极拳.mp4")
    for draw in (saliency_strip, saliency_timeline):
        save_figure(draw([named], ["under_score & $"]), tmp_path / "s.svg")
        shown = {element.text for element in ET.parse(tmp_path / "s.svg").iter(f"{SVG}text")}
        assert {"a $x_1$ <b>/打太极拳.mp4", "under_score & $"} <= shown


# --- timelines


def softmax(values):
    shares = np.exp(values - values.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def test_peaks_are_those_of_scipy(rng):
    for _ in range(20):
        shares = softmax(2 * rng.standard_normal((1, 60)))
        lowest = max(1 / 60, 0.2 * shares.max())
        expected, _ = scipy_peaks(np.pad(shares[0], 1), height=lowest)
        assert [t for _, t in find_peaks(shares, most=60)] == (expected - 1).tolist()


def test_peaks_are_the_highest_and_apart(rng):
    shares = softmax(2 * rng.standard_normal((3, 80)))
    every = sorted(find_peaks(shares, most=1000), key=lambda peak: -shares[peak])
    kept = []
    for peak in every:
        if all(abs(peak[1] - other[1]) >= 6 for other in kept):
            kept.append(peak)
    assert find_peaks(shares, most=5, apart=6) == sorted(kept[:5], key=lambda peak: peak[1])
    assert find_peaks(np.full((1, 10), 0.1)) == [], "nothing stands out"


def test_timelines_share_one_scale_and_show_the_frames_at_the_peaks(rng):
    seconds = np.arange(100) * 1.5
    one, other = (softmax(k * rng.standard_normal((2, 100))) for k in (3, 0.5))
    videos = [video(one, "one", seconds=seconds), video(other, "other", seconds=seconds)]
    figure = saliency_timeline(videos, ["first", "second"])
    panels = [panel for panel in figure.axes if panel.get_ylabel() == "% of attention"]
    assert len(panels) == 2
    for panel, shares in zip(panels, (one, other), strict=True):
        for line, row in zip(panel.lines, shares, strict=False):
            np.testing.assert_allclose(line.get_xydata(), np.stack([seconds, 100 * row], axis=1))
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[0].get_ylim()[1] >= 100 * one.max()
    pictures = [panel for panel in figure.axes if panel.images]
    marked = [t for panel in panels for line in panel.lines[:2] for t in line.get_markevery()]
    assert len(pictures) == len(marked) > 4
    boxes = sorted((panel.get_position() for panel in pictures), key=lambda box: (box.y0, box.x0))
    assert all(a.x1 <= b.x0 + 1e-9 for a, b in pairwise(boxes) if a.y0 == b.y0)
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= 1
