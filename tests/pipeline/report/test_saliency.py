"""Pictures say what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from vidclip.pipeline.report import saliency_strip

BAR = (26, 115, 232)
CAPTIONS = ["0.0 s", "1.0 s", "2.0 s"]


def test_bars_are_as_tall_as_their_shares():
    frames = np.zeros((3, 20, 20, 3), np.uint8)
    frames[1] = (200, 10, 10)
    shares = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    picture = np.asarray(saliency_strip(frames, shares, ["one", "two"], CAPTIONS))
    blue = (picture == BAR).all(axis=2)
    halves = np.array_split(np.arange(picture.shape[0]), 2)
    columns = np.array_split(np.arange(picture.shape[1]), 3)
    rows_of_two = blue[-120:]  # the second phrase stands at the bottom
    assert [rows_of_two[:, c].any() for c in columns] == [False, True, False]
    first = blue[: picture.shape[0] - 120]
    tall = [first[:, c].any(axis=1).sum() for c in columns]
    assert tall[1] == tall[2]
    assert tall[0] == pytest.approx(2 * tall[1], abs=2)
    assert (picture[halves[0]] == (200, 10, 10)).all(axis=2).any(), "the frames are shown"
    with pytest.raises(ValueError, match="3 frames, but shares"):
        saliency_strip(frames, shares[:, :2], ["one", "two"], CAPTIONS)
