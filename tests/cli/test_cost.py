"""`vidclip cost` as its user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from helpers import save_video, vidclip
from vidclip.cache import Identity
from vidclip.pipeline.heads import HeadConfig, StoredHead, VideoHead, save_head


def test_it_prints_a_row_for_each_model(tmp_path: Path):
    figures = tmp_path / "cost.json"
    models = ("--model", "ViT-B-32", "--model", "ViT-B-16")
    done = vidclip("cost", *models, "--temporal", "transformer", "--json", figures)
    assert done.returncode == 0, done.stderr
    assert re.search(r"ViT-B-32 +transformer +106\.8 M +35\.4 G +0\.15 G +71\.\d M +23\.7 G", done.stdout)
    assert re.search(r"ViT-B-16 .* 90\.3 G", done.stdout)
    rows = json.loads(figures.read_text())
    assert [row["model"] for row in rows] == ["ViT-B-32", "ViT-B-16"]
    assert rows[0]["multiply_adds"] == rows[0]["encoder_multiply_adds"] + rows[0]["head_multiply_adds"]


def test_a_head_is_counted_with_its_classes(tmp_path: Path):
    file = tmp_path / "head.safetensors"
    config = HeadConfig("text", "mean", "mean", projection=False)
    head = VideoHead(config, np.ones((7, 512), np.float32), 512, 8)
    save_head(file, StoredHead(head, Identity({"architecture": {}}, {}, "test"), tuple("abcdefg"), {}))
    done = vidclip("cost", "--model", "ViT-B-32", "--head", file, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["head_multiply_adds"] == 7 * 512
    done = vidclip("cost", "--model", "ViT-B-32", "--model", "ViT-L-14", "--head", file)
    assert done.returncode == 2
    assert "2 --model and 1 --head: give one for each" in done.stderr
    done = vidclip("cost", "--model", "ViT-L-14", "--head", file)
    assert done.returncode == 2
    assert "ViT-L-14: the head reads embeddings of 512 dimensions" in done.stderr


def test_towers_that_take_nothing_inside_are_named():
    done = vidclip("cost", "--model", "RN50", "--tower", "cross-frame")
    assert done.returncode == 2
    assert "RN50: cross-frame cannot be put inside a ModifiedResNet" in done.stderr


def test_prompts_are_counted_as_asked(tmp_path: Path):
    def parameters(*options: object) -> int:
        done = vidclip("cost", "--model", "demo-vit", *options, "--json", "-")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)[0]["encoder_parameters"]

    plain, prompted = parameters(), ("--tower", "temporal-prompts")
    width, layers = 128, 4
    assert parameters(*prompted, "--parts", "G", "--global-prompts", 3, "--reparameterization", "none") == (
        plain + layers * 3 * width
    )
    last = parameters(*prompted, "--prompt-layers", "last:1")
    assert parameters(*prompted) - plain == layers * (last - plain)
    refused = vidclip("cost", "--model", "demo-vit", "--parts", "G")
    assert "--parts goes with --tower temporal-prompts alone" in refused.stderr
    refused = vidclip("cost", "--model", "demo-vit", *prompted, "--prompt-layers", "last:5")
    assert "demo-vit: layers last:5: the tower has 4." in refused.stderr


@pytest.mark.long
def test_speed_and_memory_are_measured_here(tmp_path: Path, tiny_model: str):
    for number in range(3):
        save_video(tmp_path / "videos" / f"{number}.mp4", frames=8, seed=number)
    place = ("--frames", "3", "--device", "cpu", "--precision", "fp32", "--videos", tmp_path / "videos")
    done = vidclip("cost", "--model", tiny_model, "--tower", "tsm", "--measure", *place, "--json", "-")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)[0]["measured"]
    assert measured["device"] == "cpu"
    assert measured["encode_clips_per_second"] > measured["extract_clips_per_second"] > 0
    assert 50e6 < measured["memory_bytes"] < 10e9, "more than torch alone"
