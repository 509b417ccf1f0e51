"""The program of docs/python.md runs, and its names are there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import vidclip.pipeline
from vidclip.demo.videos import first_clips, write_world

BLOCKS = re.findall(
    r"```python\n(.*?)```",
    (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


def test_the_program_of_the_page_runs(tmp_path, monkeypatch):
    for _ in write_world(tmp_path, first_clips(12)):
        pass
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in BLOCKS:
        if find_spec("pandas") or "pandas" not in block:
            exec(block, names)
    assert names["summary"].progress.encoded == 12
    assert names["mean"].n_videos == 12
    assert (tmp_path / "head.safetensors").exists()
    guesses = names["predictions"][0].best
    assert len(guesses) == 3
    assert [guess.score for guess in guesses] == sorted((guess.score for guess in guesses), reverse=True)
    assert 0 < sum(guess.probability for guess in guesses) <= 1 + 1e-9
    assert names["prediction"].id == names["cache"].ids[-1]
    cache, indices = names["cache"], names["labeled"].indices
    dataset = names["FeatureDataset"](cache, indices[::-1])
    frames, target = dataset[1]
    assert target == indices[-2]
    np.testing.assert_array_equal(frames, cache.frames([indices[-2]])[0].astype(np.float32))


def test_every_name_of_the_face_is_there():
    for name in vidclip.pipeline.__all__:
        assert getattr(vidclip.pipeline, name) is not None, name
