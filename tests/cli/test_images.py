"""Images as videos of one frame, from folders to predictions: Text4Vis, Table A.1, in miniature."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from helpers import vidclip
from vidclip.cache import FeatureCache

COLORS = {"n01440764": (200, 40, 40), "n01443537": (40, 40, 200)}  # tench, goldfish


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Two classes of ImageNet, four pictures each to train and two to test, a color each."""
    root = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, color in COLORS.items():
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(color, 30, (48, 64, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{label}_{number}.JPEG")
    return root


def run(*arguments, cwd, status=0):
    done = vidclip(*arguments, cwd=cwd)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def extracted(imagenet, tiny_model, tmp_path_factory):
    """A folder with the cache `features` of these images; the model and their classes are named for all commands."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "two.txt").write_text("n01440764\ttench\nn01443537\tgoldfish\n")
    (folder / "vidclip.toml").write_text(f'model = "{tiny_model}"\ndevice = "cpu"\nlexicon = "two.txt"\n')
    done = run("extract", imagenet, "--images", "--workers", 1, cwd=folder)
    assert "12 videos encoded" in done.stdout
    return folder


def test_images_are_extracted_with_one_frame(extracted):
    cache = FeatureCache(extracted / "features")
    assert cache.frames().shape[:3] == (12, 1, 1)
    assert set(cache.labels) == {(label,) for label in COLORS}
    assert cache.ids[0] == "train/n01440764/n01440764_0.JPEG"
    assert [video.split for video in cache.videos].count("val") == 4
    assert not any(video.repeated or video.note for video in cache.videos)


def test_folders_of_images_that_may_be_labels_are_said_to_be_videos(imagenet, extracted):
    note = "2 folders of images directly below"
    settings = ("--workers", 1, "--frames", 1, "--cache", "folders")
    done = run("extract", imagenet / "val", *settings, cwd=extracted)
    assert "2 videos encoded" in done.stdout
    assert note in done.stderr
    assert "--images" in done.stderr
    assert note not in run("extract", imagenet, *settings, cwd=extracted).stderr


def test_few_shot_image_recognition(extracted):
    run(
        *("eval", "--protocol", "few-shot", "--train-split", "train", "--split", "val", "--json", "few.json"),
        *("--classifier", "linear", "--temporal", "mean", "--shots", 1, "--shots", 3, "--epochs", 60),
        cwd=extracted,
    )
    (document,) = json.loads((extracted / "few.json").read_text())
    for shots, result in zip((1, 3), document["results"], strict=True):
        assert (result["settings"]["shots"], result["settings"]["n_train"]) == (shots, 2 * shots)
        assert result["n_videos"] == 4, "the pictures of val"
    assert document["results"][1]["figures"]["top1"]["mean"] == 100


def test_a_head_trained_on_images_predicts_an_image(extracted, imagenet, tmp_path):
    head = tmp_path / "head.safetensors"
    run(
        *("fit", "--train-split", "train", "--classifier", "linear", "--temporal", "mean", "--output", head),
        cwd=extracted,
    )
    pictures = [imagenet / f"val/{label}/{label}_0.JPEG" for label in COLORS]
    run("predict", *pictures, "--head", head, "--json", tmp_path / "p.json", cwd=extracted)
    predictions = json.loads((tmp_path / "p.json").read_text())["predictions"]
    assert [each["classes"][0]["label"] for each in predictions] == list(COLORS)


def test_images_are_asked_for_of_a_folder(imagenet, extracted):
    picture = imagenet / "val/n01440764/n01440764_0.JPEG"
    for arguments in ((picture, "--images"), ("--dataset", "ucf101", "--root", imagenet, "--images")):
        done = run("extract", *arguments, cwd=extracted, status=2)
        assert "--images goes with folders as SOURCE alone: it has no part here." in done.stderr


def test_an_encoder_can_be_trained_on_images(imagenet, extracted):
    settings = ("--frames", 1, "--temporal", "mean", "--shots", 2, "--gray", 0, "--rand-augment", "0,0")
    done = run(
        *("finetune", imagenet, "--images", *settings, "--batch-size", 2, "--output", "model", "--dry-run"),
        cwd=extracted,
    )
    assert "4 videos of 2 classes; 4 steps of 2 clips" in done.stdout
    assert "One batch: 2 clips of 1 x 32 x 32 x 3 read" in done.stdout
