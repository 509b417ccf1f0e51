"""`vidclip finetune`, and what the other commands make of its folder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
import pytest

from helpers import save_video, vidclip
from vidclip.cache import FeatureCache
from vidclip.cli.main import main
from vidclip.pipeline import load_encoder
from vidclip.pipeline.evaluation import LanguageSettings
from vidclip.pipeline.finetune import Recipe

SMALL = ["--frames", 3, "--batch-size", 6, "--temporal", "mean", "--workers", 1, "--device", "cpu"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two classes, eight videos each, two of them for testing."""
    folder = tmp_path_factory.mktemp("videos")
    rows = ["path,label,split"]
    for c, label in enumerate(["rowing", "yoga"]):
        for number in range(8):
            save_video(folder / f"{label}{number}.mp4", frames=8, seed=10 * c + number)
            rows.append(f"{label}{number}.mp4,{label},{'test' if number < 2 else 'train'}")
    (folder / "list.csv").write_text("\n".join(rows))
    return folder / "list.csv"


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory, videos: Path, tiny_model: str) -> tuple[Path, str]:
    """The folder of a training, and what it printed."""
    output = tmp_path_factory.mktemp("finetuned") / "model"
    options = [*SMALL, "--epochs", 2, "--held-out", 0.4, "--recipe", "bike", "--backbone-rate", 1e-3]
    done = vidclip(
        "finetune",
        videos,
        "--model",
        tiny_model,
        *options,
        "--output",
        output,
        "--plot",
        output.with_name("p.png"),
    )
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_it_tells_each_epoch(finetuned: tuple[Path, str]):
    output, told = finetuned
    lines = told.splitlines()
    assert lines[0] == "8 videos of 2 classes, 4 videos held out; 1 step of 6 clips in each of 2 epochs."
    assert [line.split(":")[0] for line in lines[1:3]] == ["epoch 1 of 2", "epoch 2 of 2"]
    for part in ("loss", "held out", "rate", "clips/s", "waiting for clips"):
        assert part in lines[1]
    assert lines[3].startswith(f"{output}: epoch ")
    assert output.with_name("p.png").stat().st_size > 1000
    assert sorted(path.name for path in output.iterdir()) == [
        "head.safetensors", "open_clip_config.json", "open_clip_model.safetensors", "training.json",
    ]  # fmt: skip


def test_its_model_extracts_evaluates_and_predicts(
    finetuned: tuple[Path, str], videos: Path, tiny_model: str, tmp_path: Path
):
    model, head = f"local-dir:{finetuned[0]}", finetuned[0] / "head.safetensors"
    cache = ["--cache", tmp_path / "features"]
    extracted = vidclip(
        "extract", videos, "--model", model, "--frames", 3, *cache, "--workers", 1, "--device", "cpu"
    )
    assert extracted.returncode == 0, extracted.stderr
    features = FeatureCache(tmp_path / "features")
    base = load_encoder(tiny_model, device="cpu", precision="fp32")
    assert features.identity.encoder["weights_sha256"] != base.identity["weights_sha256"]
    mine = load_encoder(model, device="cpu", precision="fp32")
    assert features.identity.encoder == json.loads(json.dumps(mine.identity))
    told = vidclip("eval", *cache, "--model", model, "--head", head, "--json", "-")
    assert told.returncode == 0, told.stderr
    assert [each["n_videos"] for each in json.loads(told.stdout)[0]["results"]] == [4, 4]
    predicted = vidclip(
        "predict", videos.with_name("yoga0.mp4"), "--model", model, "--head", head, "--workers", 1
    )
    assert predicted.returncode == 0, predicted.stderr
    assert "yoga" in predicted.stdout


def test_training_videos_are_not_tested(finetuned: tuple[Path, str], videos: Path, tmp_path: Path):
    """Those of the list without splits, as `eval --head` finds them by their ids."""
    model, head = f"local-dir:{finetuned[0]}", finetuned[0] / "head.safetensors"
    cache = ["--cache", tmp_path / "features"]
    plain = tmp_path / "plain.csv"
    rows = [line.rpartition(",")[0] for line in videos.read_text().splitlines()]
    plain.write_text("\n".join(rows))
    extracted = vidclip(
        "extract", plain, "--root", videos.parent, "--model", model, "--frames", 3, *cache, "--workers", 1
    )
    assert extracted.returncode == 0, extracted.stderr
    told = vidclip("eval", *cache, "--model", model, "--head", head)
    assert told.returncode == 0, told.stderr
    assert "12 of the 16 videos are not tested" in told.stdout + told.stderr


def test_a_dry_run_reads_one_batch_and_writes_nothing(videos: Path, tiny_model: str, tmp_path: Path):
    done = vidclip(
        "finetune",
        videos,
        "--model",
        tiny_model,
        *SMALL,
        "--shots",
        2,
        "--prompt-context",
        2,
        "--output",
        tmp_path / "o",
        "--dry-run",
    )
    assert done.returncode == 0, done.stderr
    values = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if len(line.split()) > 1)
    assert (values["epochs"].strip(), values["held_out"].strip(), values["temperature"].strip()) == (
        "10",
        "0.0",
        "trained",
    )
    network = load_encoder(tiny_model, device="cpu", precision="fp32").network
    count = sum(p.numel() for p in network.visual.parameters()) + 1
    assert values["prompt"].split() == ["context", "1", "64", "5e-05", "0.2"]
    assert values["encoder"].split() == ["33", f"{count:,}", "5e-06", "0.2"]
    assert (
        "4 videos of 2 classes; 2 steps of 6 clips in each of 10 epochs." in done.stdout
    )  # 4 videos, 3 times
    assert "6 clips of 3 x 32 x 32 x 3 read in" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--accumulate", 4], "batch_size 6 cannot be shared among accumulate 4"),
        (["--train", "visual+text", "--classifier", "lda"], "visual+text goes with the text classifier"),
        (["--train-split", "val"], "the list has the splits test, train, not 'val'"),
        (["--shots", 7], "6 training videos, 7 are asked for"),
        (["--words", "all"], "--words goes with --pool vcs, or --recipe bike or temporal-prompts alone"),
        (["--train", "head"], "nothing would be trained"),
        (["--lexicon", "kinetics400"], "lexicon kinetics400 does not have: 'rowing' ("),
        (["--jitter", "0,0,0,1"], "jitter must be four strengths"),
        (["--crop-form", "multi-scale", "--no-crop"], "--crop-form goes with --crop."),
        (["--jitter-probability", 0.5], "--jitter-probability goes with --jitter."),
        (["--rand-augment", "2"], "'2' is not 2 numbers with commas between them"),
    ],
)
def test_bad_settings_are_named(videos: Path, tiny_model: str, tmp_path: Path, options: list, message: str):
    done = vidclip("finetune", videos, "--model", tiny_model, *SMALL, *options, "--output", tmp_path / "o")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "o").exists()


def test_every_value_of_a_recipe_is_an_option():
    command = main.get_command(click.Context(main), "finetune")
    names = {parameter.name for parameter in command.params}
    assert {field.name for field in fields(Recipe)} - names == {"name", "second"}
    # A second language is one value of a recipe, and several options.
    of_language = {
        "tower": "second_text",
        "weight": "fusion_weight",
        "form": "fuse",
        "own_words": "second_words",
    }
    controls = {"controls", "control_prompts", "paraphrases"}
    settings = {field.name for field in fields(LanguageSettings)} - controls
    assert {of_language.get(name, f"second_{name}") for name in settings} <= names


def test_the_program_runs_as_a_module():
    command = [sys.executable, "-m", "vidclip.cli", "finetune", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Usage: vidclip finetune" in done.stdout


def test_predict_refuses_prompts_that_its_head_does_not_have(finetuned: tuple[Path, str], videos: Path):
    head = ("--head", finetuned[0] / "head.safetensors", "--model", f"local-dir:{finetuned[0]}")
    for asked in ("on", "off"):
        done = vidclip("predict", videos, *head, "--video-prompts", asked)
        assert done.returncode == 2
        assert f"--video-prompts {asked} goes with an x-clip head" in done.stderr


def test_learned_embeddings_are_those_of_the_folder(finetuned: tuple[Path, str]):
    head = finetuned[0] / "head.safetensors"
    from vidclip.pipeline import load_head

    stored = load_head(head)
    encoder = load_encoder(f"local-dir:{finetuned[0]}", device="cpu", precision="fp32")
    texts = encoder.encode_text(["rowing", "yoga"], ("This is a video about {}",))
    np.testing.assert_allclose(stored.module.class_embeddings, texts.sentence, atol=1e-6)
    assert stored.classes == ("rowing", "yoga")
