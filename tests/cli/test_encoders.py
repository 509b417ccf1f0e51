"""The commands with encoders of transformers: what they do, and what they refuse, by which name and for which reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder_folders import save_encoder
from helpers import save_video, vidclip
from vidclip.cache import FeatureCache
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.video import ClipSpec, Sampling, VideoRequest, decode_video

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Six videos of 24 frames, 10 a second, of two labels."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(6):
        label = ("a ball", "a video")[i % 2]
        save_video(folder / label / f"{i}.mp4", frames=24, seed=i, widths=1 + i % 2)
    return folder


def extracted(folder: Path, videos: Path, kind: str, frames: int) -> list[str]:
    """Extract the videos with an encoder of this kind; return the options that name it."""
    model = f"hf:{save_encoder(folder / 'encoder', kind)}"
    done = vidclip(
        "extract",
        videos,
        "--model",
        model,
        "--frames",
        frames,
        "--precision",
        "fp32",
        "--workers",
        1,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return ["--model", model]


def run(folder: Path, *command: object) -> str:
    done = vidclip(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(folder: Path, *command: object) -> str:
    done = vidclip(*command, cwd=folder)
    assert done.returncode == 2, done.stdout
    return done.stderr


def test_a_frame_encoder_goes_through_all_commands(tmp_path, videos):
    named = extracted(tmp_path, videos, "siglip", 4)
    cache = FeatureCache(tmp_path / "features")
    assert cache.shape == (6, 1, 4, 24)
    assert "Use --cache" not in refused(tmp_path, "eval")
    assert "is loaded only where you name it too" in refused(tmp_path, "eval")
    run(tmp_path, "eval", "--pool", "mean", "--pool", "vcs", "--json", "eval.json", *named)
    document = json.loads((tmp_path / "eval.json").read_text())
    assert {"mean", "vcs"} <= {result["scorer"].split()[0] for result in document[0]["results"]}
    run(tmp_path, "attributes", "--lexicon", "demo", "--top", 2, *named)
    assert "0.mp4" in run(tmp_path, "search", "a ball", *named)
    assert "%" in run(tmp_path, "saliency", "a ball/0.mp4", "a ball", "--output", "s.png", *named)
    run(tmp_path, "fit", "--epochs", 1, "--temporal", "conv", *named)
    run(
        tmp_path, "predict", videos / "a ball" / "0.mp4", "--head", "head.safetensors", "--workers", 1, *named
    )
    run(tmp_path, "predict", "--lexicon", "demo", *named)
    # With nothing to read, the encoder is not loaded: no torch is needed to know its folder.
    assert "6 done before" in run(tmp_path, "extract", videos, "--frames", 4, "--workers", 1, *named)
    run(tmp_path, "verify")


def test_embeddings_of_tubelets_and_their_times(tmp_path, videos):
    named = extracted(tmp_path, videos, "vjepa2", 8)
    cache = FeatureCache(tmp_path / "features")
    assert cache.shape == (6, 1, 4, 24)
    # Frames 0, 3, 6, ... at 10 a second, two to an embedding.
    np.testing.assert_array_equal(cache.frame_indices()[:, 0], [[0, 6, 12, 18]] * 6)
    np.testing.assert_allclose(cache.timestamps()[:, 0], [[0.15, 0.75, 1.35, 1.95]] * 6, atol=1e-6)
    encoder = load_encoder(named[1], device="cpu", precision="fp32", frames=8)
    spec = ClipSpec(Sampling(8), encoder.preprocess)
    decoded = decode_video(VideoRequest(cache.videos[3].path), spec)
    expected = encoder.encode_frames(torch.from_numpy(decoded.pixels[0])).numpy()
    np.testing.assert_allclose(cache.frames([3])[0, 0], expected, rtol=2e-3, atol=2e-3)


def test_an_encoder_without_texts(tmp_path, videos):
    named = extracted(tmp_path, videos, "vjepa2", 4)
    (tmp_path / "classes.txt").write_text("a ball\na video\n")
    for command in (
        ["eval", *named],
        ["attributes", "--lexicon", "demo", *named],
        ["search", "a ball", *named],
        ["saliency", "a ball/0.mp4", "a ball", *named],
        ["fit", *named],
        ["predict", "--lexicon", "classes.txt", *named],
        ["fit", "--classifier", "linear", "--pool", "vcs", *named],
        ["fit", "--classifier", "text", "--prompt-context", "2", *named],
    ):
        said = refused(tmp_path, *command)
        assert f"{named[1]} embeds no texts: it has no text tower" in said, command
    run(tmp_path, "fit", "--classifier", "linear", "--temporal", "conv", "--epochs", 2, *named)
    assert "embeds no texts: no row is without training" in vidclip(
        "eval", "--head", "head.safetensors", "--split", "all", cwd=tmp_path
    ).stderr  # fmt: skip
    assert "embeds no texts" in refused(tmp_path, "eval", "--head", "head.safetensors", "--pool", "mean")
    clip = videos / "a ball" / "0.mp4"
    assert "a ball" in run(tmp_path, "predict", clip, "--head", "head.safetensors", "--workers", 1, *named)
    assert "1.mp4" in run(tmp_path, "search", "--like", "a video/1.mp4")
    assert "1.mp4" in run(tmp_path, "search", "--like", "a video/1.mp4", "--index", "compressed")
    run(tmp_path, "eval", "--protocol", "few-shot", "--classifier", "random", "--shots", 1, "--seeds", 1)


def test_an_encoder_of_whole_clips(tmp_path, videos):
    named = extracted(tmp_path, videos, "videoprism", 4)
    assert FeatureCache(tmp_path / "features").shape == (6, 1, 1, 24)
    for command, what in (
        (["eval", "--pool", "vcs"], "Concept spotting (--pool vcs)"),
        (["saliency", "a ball/0.mp4", "a ball"], "Saliency"),
        (["search", "a ball", "--moments"], "Moments"),
        (["fit", "--temporal", "transformer"], "The temporal module transformer"),
    ):
        said = refused(tmp_path, *command, *named)
        assert f"{what} needs several embeddings of each video" in said
        assert "Extract with a multiple of --frames 4" in said
    run(tmp_path, "eval", *named)
    extract = ["extract", videos, *named, "--cache", "longer", "--workers", 1, "--precision", "fp32"]
    assert "Use --frames 4, or a multiple of it" in refused(tmp_path, *extract, "--frames", 6)
    run(tmp_path, *extract, "--frames", 8)
    cache = FeatureCache(tmp_path / "longer")
    assert cache.shape == (6, 1, 2, 24)
    np.testing.assert_array_equal(cache.frame_indices()[:, 0], [[3, 15]] * 6)
    first = ["--cache", "longer", *named]
    run(tmp_path, "eval", "--pool", "vcs", *first)
    assert "frame    15" in run(tmp_path, "saliency", "a ball/0.mp4", "a ball", "--output", "s.png", *first)
    assert "0.mp4" in run(tmp_path, "search", "a ball", "--moments", *first)
    run(tmp_path, "report", "--output", "page.html", "--workers", 1, *first)
    run(tmp_path, "fit", "--temporal", "transformer", "--epochs", 1, *first)
    clip = videos / "a ball" / "0.mp4"
    run(tmp_path, "predict", clip, "--head", "head.safetensors", "--workers", 1, *named)


def test_what_takes_models_of_open_clip_alone(tmp_path, videos):
    named = ["--model", f"hf:{save_encoder(tmp_path / 'encoder', 'clip')}"]
    for command in (
        ["finetune", videos, "--recipe", "text4vis", "--output", "out", "--workers", 1],
        ["cost"],
    ):
        assert "is a model of transformers" in refused(tmp_path, *command, *named)
    extract = ["extract", videos, "--frames", 2, "--workers", 1]
    assert "leave --pretrained openai out" in refused(tmp_path, *extract, *named, "--pretrained", "openai")
    assert "leave --size out" in refused(tmp_path, *extract, *named, "--size", 64)
    run(tmp_path, *extract, *named, "--precision", "fp32")
    said = refused(tmp_path, "fit", "--prompt-context", 2, *named)
    assert "a learned prompt is put into text towers of open_clip" in said
