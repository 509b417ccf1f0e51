"""`vidclip finetune` with a second language of the class names."""

from __future__ import annotations

import json

import pytest
import torch

from helpers import vidclip as run
from vidclip.demo.videos import list_clips, write_world
from vidclip.pipeline.heads import load_head


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four videos of each of five classes, as a list of their own."""
    folder = tmp_path_factory.mktemp("world")
    clips = [clip for clip in list_clips({"trimmed": {"train": 4}}) if clip.label in LABELS]
    for _ in write_world(folder, clips):
        pass
    (folder / "names.txt").write_text("".join(f"{label}\n" for label in LABELS))
    chinese = ("踢球", "爬梯子", "打鼓", "推箱子", "举起圆木")
    lines = (f"{label}\t{phrase}\n" for label, phrase in zip(LABELS, chinese, strict=True))
    (folder / "names-zh.txt").write_text("".join(lines), encoding="utf-8")
    return folder


LABELS = ("kicking a ball", "climbing a ladder", "playing a drum", "pushing a box", "lifting a log")
SETTINGS = (
    "--model", "demo-vit", "--frames", 2, "--epochs", 1, "--batch-size", 4, "--no-crop", "--flip", 0, "--workers", 1,
    "--train", "head", "--temporal", "mit",
)  # fmt: skip


def finetune(world, output, *arguments):
    return run("finetune", world / "videos.csv", "--lexicon", world / "names.txt", "--output", output, *SETTINGS,
               "--second-text", "demo-zh", "--second-prompt", "关于{}的视频", *arguments)  # fmt: skip


def test_a_model_is_trained_in_two_languages_and_used(world, tmp_path):
    done = finetune(world, tmp_path / "model", "--second-lexicon", world / "names-zh.txt", "--fusion-weight", "auto",
                    "--held-out", 0.25)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "was chosen on the held-out videos" in done.stderr
    stored = load_head(tmp_path / "model" / "head.safetensors")
    assert stored.module.config.second == "names-zh"
    assert 0 <= stored.module.config.second_weight <= 1
    recipe = json.loads((tmp_path / "model" / "training.json").read_text())["recipe"]
    assert recipe["second"]["second_tower"] == "demo-zh"
    assert recipe["second_loss_weight"] == 1.0
    model = f"local-dir:{tmp_path / 'model'}"
    cache = tmp_path / "features"
    extracted = run(
        "extract", world / "videos.csv", "--model", model, "--frames", 2, "--cache", cache, "--workers", 1
    )
    assert extracted.returncode == 0, extracted.stderr
    evaluated = run("eval", "--cache", cache, "--model", model, "--lexicon", world / "names.txt", "--split", "train",
                    "--head", tmp_path / "model" / "head.safetensors", "--json", "-")  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    (document,) = json.loads(evaluated.stdout)
    assert any("names-zh" in result["scorer"] for result in document["results"])


@pytest.mark.long
def test_the_second_loss_changes_what_is_trained(world, tmp_path):
    heads = []
    for weight in ("1", "0"):
        done = finetune(world, tmp_path / weight, "--second-lexicon", world / "names-zh.txt", "--held-out", 0,
                        "--second-loss-weight", weight, "--seed", 1)  # fmt: skip
        assert done.returncode == 0, done.stderr
        heads.append(load_head(tmp_path / weight / "head.safetensors").module.temporal.state_dict())
    assert any(not torch.equal(heads[0][name], tensor) for name, tensor in heads[1].items())


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("There is no lexicon names-zh", []),
        ("is chosen on videos that are held out, and none are", ["--second-lexicon", "demo-classes-zh",
                                                                "--fusion-weight", "auto", "--held-out", 0]),
        ("--second-text goes with --classifier text", ["--second-lexicon", "demo-classes-zh", "--classifier", "linear"]),
        ("has no class 'kicking a ball'", ["--second-lexicon", "ucf101-zh"]),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(world, tmp_path, message, arguments):
    done = finetune(world, tmp_path / "model", *arguments)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "fault of vidclip" not in done.stderr
    assert not (tmp_path / "model" / "head.safetensors").exists()
