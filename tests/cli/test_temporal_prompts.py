"""`vidclip finetune --recipe temporal-prompts`, and what the other commands make of its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from helpers import save_video, vidclip
from vidclip.cache import FeatureCache
from vidclip.pipeline import load_encoder

SMALL = ["--frames", 3, "--batch-size", 6, "--workers", 1, "--device", "cpu", "--global-prompts", 2]
PROMPTS = ["--recipe", "temporal-prompts", "--model", "demo-vit", *SMALL]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two classes that the demo's encoder knows, eight videos each, two of them for testing."""
    folder = tmp_path_factory.mktemp("videos")
    rows = ["path,label,split"]
    for c, label in enumerate(["kicking a ball", "opening an umbrella"]):
        for number in range(8):
            save_video(folder / f"{c}{number}.mp4", frames=8, size=96, seed=10 * c + number)
            rows.append(f"{c}{number}.mp4,{label},{'test' if number < 2 else 'train'}")
    (folder / "list.csv").write_text("\n".join(rows))
    return folder / "list.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> tuple[Path, str]:
    """The folder of a training, and what it printed."""
    output = tmp_path_factory.mktemp("trained") / "model"
    options = [
        "--epochs",
        2,
        "--held-out",
        0.4,
        "--parts",
        "GI",
        "--reparameterization",
        "tada",
        "--keep-pixels",
        2,
    ]
    done = vidclip("finetune", videos, *PROMPTS, *options, "--output", output)
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_its_prompts_extract_evaluate_and_predict(trained: tuple[Path, str], videos: Path, tmp_path: Path):
    folder, told = trained
    model, head, cache = (
        f"local-dir:{folder}",
        folder / "head.safetensors",
        ["--cache", tmp_path / "features"],
    )
    following = told.splitlines()[-2:]
    assert following[0] == f"Next: vidclip extract VIDEOS --model {model} --frames 3 --position middle"
    assert sorted(path.name for path in folder.iterdir()) == [
        "head.safetensors", "open_clip_config.json", "temporal_prompts.safetensors", "training.json",
        "vidclip_model.json",
    ]  # fmt: skip
    extract = [
        "extract",
        videos,
        "--model",
        model,
        "--position",
        "middle",
        *cache,
        "--workers",
        1,
        "--device",
        "cpu",
    ]
    refused = vidclip(*extract, "--frames", 4)
    assert refused.returncode == 2
    assert "reads clips of 3 frames" in refused.stderr
    extracted = vidclip(*extract, "--frames", 3)
    assert extracted.returncode == 0, extracted.stderr
    encoder = load_encoder(model, device="cpu", precision="fp32")
    assert FeatureCache(tmp_path / "features").identity.encoder == json.loads(json.dumps(encoder.identity))
    told = vidclip(
        "eval", *cache, "--model", model, "--head", head, "--prompt", "bike", "--pool", "vcs", "--json", "-"
    )
    assert told.returncode == 0, told.stderr
    results = json.loads(told.stdout)[0]["results"]
    assert [each["n_videos"] for each in results] == [4, 4]
    # Its head trains nothing: it is concept spotting over the prompted frames.
    assert results[0]["figures"] == results[1]["figures"]
    predicted = vidclip(
        "predict", videos.with_name("00.mp4"), "--model", model, "--head", head, "--workers", 1
    )
    assert predicted.returncode == 0, predicted.stderr
    assert "kicking a ball" in predicted.stdout


def test_its_folder_costs_what_is_inside(trained: tuple[Path, str]):
    done = vidclip(
        "cost", "--model", f"local-dir:{trained[0]}", "--model", "demo-vit", "--frames", 3, "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    prompted, plain = (each["encoder_parameters"] for each in json.loads(done.stdout))
    prompts = load_file(trained[0] / "temporal_prompts.safetensors")
    assert prompted - plain == sum(tensor.size for tensor in prompts.values())


def test_a_dry_run_says_what_is_trained_and_what_kept_pixels_take(videos: Path, tmp_path: Path):
    output = ["--output", tmp_path / "o"]
    done = vidclip("finetune", videos, *PROMPTS, "--keep-pixels", 2, "--held-out", 0, "--dry-run", *output)
    assert done.returncode == 0, done.stderr
    values = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if len(line.split()) > 1)
    settings = {
        "parts": "CGI",
        "reparameterization": "r2plus1d",
        "prompt_residual": "True",
        "prompt_init": "1.0",
    }
    assert {name: values[name].strip() for name in settings} == settings
    assert "encoder" not in values, "the towers are frozen"
    width, d = 128, 64
    vectors, maps = 4 * (2 + 3) * width, 4 * (5 * width**2)
    beta = 4 * (2 * width * d + 6 * d**2)
    counts = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["tower"]]
    assert [int(row[2].replace(",", "")) for row in counts if row[1].isdigit()] == [maps + beta]
    assert f"{vectors + 4 * (5 * width + 2 * width) + 4 * (2 * width + 3 * d + width):,}" in done.stdout
    kept = 2 * 3 * 73 * 73 * 3 * 12
    assert f"Memory of kept pixels on each process: about {kept / 1e6:.1f} MB for 12 videos" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_few_shots_have_a_batch_of_their_videos(videos: Path, tmp_path: Path):
    output = ["--shots", 2, "--dry-run", "--output", tmp_path / "o"]
    options = [each for each in PROMPTS if each not in ("--batch-size", 6)]
    done = vidclip("finetune", videos, *options, *output)
    assert done.returncode == 0, done.stderr
    assert "4 videos of 2 classes; 3 steps of 4 clips in each of 30 epochs." in done.stdout
    done = vidclip("finetune", videos, *PROMPTS, *output)
    assert "2 steps of 6 clips in each of 30 epochs." in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt-layers", "first"], "'first' is neither all nor last:K, such as last:4"),
        (["--prompt-layers", "last:5"], "--tower temporal-prompts: layers last:5: the tower has 4"),
        (["--prompt-init", "large"], "'large' is not a valid float range"),
        (
            ["--model", "demo"],
            "--tower temporal-prompts: temporal-prompts cannot be put inside a ModifiedResNet",
        ),
        (["--backbone-rate", 0.1], "--backbone-rate goes with --train visual, visual+text or text, or calls"),
        (
            ["--recipe", "bike", "--parts", "G"],
            "--parts goes with --recipe temporal-prompts, or --tower temporal",
        ),
        (
            ["--mode", "dense", "--keep-pixels", 1],
            "--keep-pixels goes with --mode uniform, or calls without --mode",
        ),
    ],
)
def test_bad_settings_are_named(videos: Path, tmp_path: Path, options: list, message: str):
    given = list(PROMPTS)
    if options[0] in given:
        del given[given.index(options[0]) : given.index(options[0]) + 2]
    if "bike" in options:  # the other recipe has no part for these either
        del given[given.index("--global-prompts") :]
    done = vidclip("finetune", videos, *given, *options, "--output", tmp_path / "o")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "o").exists()


def test_other_recipes_take_prompts_too(videos: Path, tmp_path: Path):
    given = ["--recipe", "text4vis", "--temporal", "mean", "--tower", "temporal-prompts", "--parts", "C"]
    done = vidclip(
        "finetune", videos, "--model", "demo-vit", *given, *SMALL, "--epochs", 1, "--output", tmp_path / "o"
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert "open_clip_model.safetensors" in names, "its tower is trained"
