"""`vidclip predict` on a cache and on several paths, as its user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import save_video, vidclip, write_noisy_world
from vidclip.lexicons import load_lexicon

NAMES = load_lexicon("demo-classes").labels[:6]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    videos = [(f"{split}{c}{i}", name, split) for split in ("val", "test") for c, name in enumerate(NAMES) for i in range(10)]  # fmt: skip
    videos.append(("new", "", ""))
    write_noisy_world(folder / "features", videos, noise=3.0)
    (folder / "vidclip.toml").write_text('model = "demo"\n')
    (folder / "three.txt").write_text("".join(f"{name}\n" for name in NAMES[:3]))
    return folder


def predicted(*arguments, cwd):
    done = vidclip("predict", *arguments, "--json", "p.json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done, json.loads((cwd / "p.json").read_text())


def test_the_accuracy_of_a_cache_is_that_of_eval(world):
    for pool in ("mean", "vcs"):
        _, document = predicted("--split", "test", "--pool", pool, cwd=world)
        right = [each["classes"][0]["label"] in each["labels"] for each in document["predictions"]]
        done = vidclip("eval", "--split", "test", "--pool", pool, "--json", "e.json", cwd=world)
        assert done.returncode == 0, done.stderr
        (found,) = json.loads((world / "e.json").read_text())[0]["results"]
        assert found["figures"]["top1"]["mean"] == pytest.approx(100 * sum(right) / len(right))
        assert 20 < found["figures"]["top1"]["mean"] < 100


def test_it_says_whether_probabilities_are_calibrated(world):
    done, document = predicted("--top", 2, cwd=world)
    assert len(document["predictions"]) == 121, "with the one that has no label"
    assert "not calibrated. --calibrate SPLIT" in done.stdout
    assert document["calibration"] is None
    done, document = predicted("--split", "test", "--calibrate", "val", cwd=world)
    assert "%: calibrated on 60 videos of val" in done.stdout
    assert document["calibration"]["n_videos"] == 60


def test_none_of_these(world):
    done, document = predicted("--split", "test", "--threshold", 0.9, cwd=world)
    none = [each for each in document["predictions"] if each["none_of_these"]]
    assert none == [each for each in document["predictions"] if each["classes"][0]["probability"] <= 0.9]
    assert f"None of these: {len(none)} of 60 videos." in done.stdout
    assert done.stdout.count("none of these; the nearest:") == len(none) > 0
    outside = ("--split", "test", "--lexicon", "three.txt", "--none-of-these", "val")
    done, document = predicted(*outside, "--false-positive-rate", 0.2, cwd=world)
    rejection = document["rejection"]
    assert (rejection["rule"], rejection["n_outside"], rejection["rate"]) == ("outside", 30, 0.2)
    assert (
        "at most 20 % of videos like the 30 videos of val whose labels are not in the lexicon" in done.stdout
    )
    named = [each for each in document["predictions"] if not each["none_of_these"]]
    assert all(each["classes"][0]["probability"] > rejection["threshold"] for each in named)
    done, _ = predicted("--none-of-these", "val", cwd=world)
    assert "60 videos of val each with its own class left out" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibrate", "nope"], "has test, val, not 'nope'"),
        (["--lexicon", "three.txt", "--none-of-these", "val", "--false-positive-rate", "0.01"], "99 are needed"),
        (["--none-of-these", "val", "--threshold", "0.5"], "--threshold goes with calls without --none-of-these"),
        (["--cache", "elsewhere"], "Make one with `vidclip extract`"),
        (["clip.mp4", "--split", "val"], "--split goes with calls without VIDEOS alone"),
        (["clip.mp4", "--cache", "features", "--head", "h"], "--cache goes with calls without VIDEOS, or"),
        (["missing.mp4"], "There is no file or folder missing.mp4"),
    ],
)  # fmt: skip
def test_wrong_requests_are_answered(world, arguments, message):
    done = vidclip("predict", *arguments, cwd=world)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr


def test_a_threshold_near_one_is_not_rounded_to_all(world):
    done, _ = predicted("--split", "test", "--threshold", 0.999999, cwd=world)
    assert "no class above 99.9999 %, as asked" in done.stdout


def test_a_language_that_the_tower_does_not_know_is_said(world):
    (world / "foreign.txt").write_text("abseiling\nassembling computer\n")
    done, _ = predicted("--lexicon", "foreign.txt", cwd=world)
    assert "2 of 2 phrases share their embedding with another" in done.stderr
    assert "does not know their words" in done.stderr


def test_several_paths_and_folders_at_once(world, tmp_path):
    for name in ("one/a.mp4", "one/deep/b.mp4", "two/a.mp4", "c.mp4", "other.mp4"):
        save_video(tmp_path / name, frames=9, size=64, seed=len(name))
    paths = [tmp_path / name for name in ("c.mp4", "two", "one")]
    done, document = predicted(*paths, "--workers", 1, "--top", 1, cwd=world)
    assert [each["video"] for each in document["predictions"]] == [
        "one/a.mp4",
        "one/deep/b.mp4",
        f"{tmp_path.name}/c.mp4",
        "two/a.mp4",
    ]
    assert "one/deep/b.mp4" in done.stdout
    twice = vidclip("predict", tmp_path / "one", tmp_path / "one" / "a.mp4", cwd=world)
    assert "Videos listed twice" in twice.stderr
