"""`vidclip extract --position random`: clips drawn at random, and the same ones wherever they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import save_video, vidclip
from vidclip.cache import FeatureCache

LENGTHS = {"a/0": 50, "a/1": 33, "b/0": 3, "b/1": 41}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, (name, frames) in enumerate(LENGTHS.items()):
        save_video(tmp_path / "videos" / f"{name}.mp4", frames=frames, seed=seed)
    return tmp_path


def drawn(
    folder: Path, model: str, cache: str, *options: object, source: str = "videos"
) -> dict[str, np.ndarray]:
    """{video: its frame numbers [V, T]} of an extraction of 4 frames a clip."""
    done = vidclip(
        *("extract", source, "--model", model, "--device", "cpu", "--frames", 4, "--position", "random"),
        *("--cache", cache, *options),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    found = FeatureCache(folder / cache)
    return {id: found.frame_indices([found.index(id)])[0] for id in found.ids}


def test_the_same_frames_in_any_order_part_and_place(folder: Path, tiny_model: str):
    once = drawn(folder, tiny_model, "once", "--clips", 4, "--crops", 3, "--workers", 2)
    assert {id.removesuffix(".mp4") for id in once} == set(LENGTHS)
    for name, frames in LENGTHS.items():
        views = once[f"{name}.mp4"]
        assert views.shape == (12, 4)
        clips = views[::3]
        assert np.array_equal(views, clips.repeat(3, axis=0)), "the crops of a clip are of its frames"
        segment = frames // 4
        if segment:
            assert np.array_equal(clips // segment, [range(4)] * 4)
            assert len(np.unique(clips, axis=0)) > 1
        else:
            assert clips.tolist() == [[0, 1, 2, 2]] * 4
    for i in (1, 0):
        parted = drawn(
            folder, tiny_model, "parted", "--clips", 4, "--crops", 3, "--part", f"{i}/2", "--workers", 1
        )
    (folder / "elsewhere").mkdir()
    (folder / "videos").rename(folder / "elsewhere" / "moved")
    moved = drawn(folder, tiny_model, "moved", "--workers", 1, source="elsewhere/moved")
    for id, views in once.items():
        assert np.array_equal(parted[id], views)
        assert np.array_equal(moved[id], views[:1]), "a single clip is the first of four"


def test_the_seed_is_part_of_the_identity_of_random_frames_alone(folder: Path, tiny_model: str):
    first = drawn(folder, tiny_model, "first")
    identity = FeatureCache(folder / "first").identity
    assert identity.sampling["seed"] == 0
    assert str(identity).endswith("4 frames, random of segment, seed 0")
    again = ("extract", "videos", "--model", tiny_model, "--device", "cpu", "--frames", 4, "--cache", "first")
    refused = vidclip(*again, "--position", "random", "--clip-seed", 7, cwd=folder)
    assert refused.returncode == 2
    assert "seed 0; this" in refused.stderr
    other = drawn(folder, tiny_model, "other", "--clip-seed", 7)
    assert any(not np.array_equal(first[id], other[id]) for id in first)
    done = vidclip(*again[:-1], "plain", "--position", "middle", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "seed" not in FeatureCache(folder / "plain").identity.sampling
    for options in ((), ("--position", "middle"), ("--position", "random", "--mode", "dense")):
        refused = vidclip(*again[:-1], "none", *options, "--clip-seed", 7, cwd=folder)
        assert refused.returncode == 2
        assert "has no part here" in refused.stderr


def test_random_frames_are_found_again(folder: Path, tiny_model: str):
    """`saliency --output` reads the frames of the cache again; a head that was trained on them reads others so."""
    drawn(folder, tiny_model, "c", "--clips", 2)
    model = ("--model", tiny_model, "--device", "cpu")
    done = vidclip("saliency", "a/0.mp4", "a dog", "--cache", "c", *model, "--output", "s.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = vidclip("fit", "--cache", "c", *model, "--epochs", 1, "--held-out", 0, "--output", "h", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = vidclip("predict", "videos", "--head", "h", *model, "--workers", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
