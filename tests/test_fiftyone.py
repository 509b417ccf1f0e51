"""The program of docs/fiftyone.md runs, with a stand-in for FiftyOne that has the same names and arguments."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from helpers import vidclip
from vidclip.demo.videos import first_clips, write_world

PAGE = (Path(__file__).parents[1] / "docs" / "fiftyone.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Label:
    """What takes keyword arguments and keeps them: the labels of FiftyOne have any attributes beside their own."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


class Sample:
    def __init__(self, *, filepath: str, tags: list[str]) -> None:
        self.filepath, self.tags, self.fields, self.saved = filepath, tags, {}, 0

    def __setitem__(self, name: str, value: Any) -> None:
        assert name.isidentifier(), "names of fields are such"
        self.fields[name] = value

    def save(self) -> None:
        self.saved += 1


class Dataset:
    def __init__(self, name: str, overwrite: bool = False) -> None:
        self.name, self.overwritten, self.samples = name, overwrite, []

    def add_samples(self, samples: list[Sample]) -> None:
        self.samples += samples


def stand_in() -> ModuleType:
    made = ModuleType("fiftyone")
    made.Dataset, made.Sample = Dataset, Sample
    for name in ("Classification", "Classifications", "TemporalDetection", "TemporalDetections"):
        setattr(made, name, type(name, (Label,), {}))
    return made


def test_the_program_of_the_page_runs(tmp_path, monkeypatch):
    for _ in write_world(tmp_path, first_clips(6)):
        pass
    monkeypatch.chdir(tmp_path)
    assert (
        vidclip("extract", "videos.csv", "--model", "demo", "--frames", "4", "--workers", "1").returncode == 0
    )
    given = [
        "--split",
        "all",
        "--predictions",
        "predictions.csv",
        "--predictions-top",
        "3",
        "--json",
        "e.json",
    ]
    assert vidclip("eval", *given).returncode == 0
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in())
    names: dict = {}
    for block in BLOCKS:
        exec(block, names)
    cache, samples = names["cache"], names["dataset"].samples
    assert [each.fields["vidclip_id"] for each in samples] == cache.ids
    means = cache.frames().astype(np.float64).mean(axis=(1, 2))
    for i, sample in enumerate(samples):
        assert sample.filepath == cache.videos[i].path
        assert sample.tags == cache.splits[i].split()
        assert (sample.fields["ground_truth"].label,) == cache.labels[i]
        mean = means[i] / np.linalg.norm(means[i])
        np.testing.assert_allclose(sample.fields["vidclip_embedding"], mean, atol=1e-5)
        right = sample.fields["vidclip_mean"].label == cache.labels[i][0]
        assert (sample.fields["vidclip_mean_rank"] == 1) == right
        assert len(sample.fields["vidclip_mean_next"].classifications) == 2
        assert sample.saved >= 1
    assert len(samples) == 6
    found = [
        (sample, each)
        for sample in samples
        for each in getattr(sample.fields.get("vidclip_moments"), "detections", ())
    ]
    assert {each.label for _, each in found} == {"kicking a ball", "a dog"}
    for sample, each in found:
        video = cache.videos[cache.index(sample.fields["vidclip_id"])]
        first, last = each.support
        assert 1 <= first <= last <= video.n_frames
    assert max(each.support[1] - each.support[0] for _, each in found) > 0
    (tmp_path / "gone").mkdir()
    Path(samples[0].filepath).rename(tmp_path / "gone" / "x.mp4")
    assert len(names["add_videos"](Dataset("again"), cache)) == 5, "a file that is gone has no sample"
