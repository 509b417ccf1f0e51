"""Near-duplicates: copies by another program are found, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import vidclip
from vidclip.cache import FeatureCache
from vidclip.pipeline.extraction import ExtractSettings
from vidclip.pipeline.scoring import ArrayFeatures
from vidclip.pipeline.search import (
    PIXELS_THRESHOLD,
    THRESHOLD,
    Duplicates,
    candidates_threshold,
    compare_pixels,
    find_duplicates,
    groups_of,
    picture_similarity,
)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_similarities_are_those_of_whitened_means_and_nearest_frames(rng):
    frames = rng.standard_normal((12, 2, 3, 8)).astype(np.float16)
    rows = unit(frames.reshape(12, 6, 8).astype(np.float64))
    means = unit(frames.reshape(12, 6, 8).astype(np.float64).mean(axis=1))
    covariance = np.cov(means.T, bias=True)
    inverse = np.linalg.inv(covariance + 0.1 * np.linalg.eigvalsh(covariance)[-1] * np.eye(8))
    root = np.linalg.cholesky(inverse)  # any root gives the same products
    rows, means = (unit((each - means.mean(axis=0)) @ root) for each in (rows, means))
    pairs = find_duplicates(ArrayFeatures(frames), -1, device="cpu")
    assert len(pairs) == 12 * 11 / 2
    for pair in pairs:
        cosines = rows[pair.first] @ rows[pair.second].T
        nearest = (np.mean([max(row) for row in cosines]) + np.mean([max(row) for row in cosines.T])) / 2
        expected = (means[pair.first] @ means[pair.second] + nearest) / 2
        assert pair.similarity == pytest.approx(expected, abs=5e-3)  # means are kept in float16
    assert [pair.similarity for pair in pairs] == sorted((pair.similarity for pair in pairs), reverse=True)


def test_every_pair_of_all_blocks_is_found(rng):
    frames = rng.standard_normal((4500, 1, 2, 32)).astype(np.float16)
    copies = [(0, 1), (3, 4400), (100, 4499), (2047, 2048)]
    for one, other in copies:
        frames[other] = frames[one] * np.float16(0.5)
    pairs = find_duplicates(ArrayFeatures(frames), 0.99, device="cpu")
    assert sorted((pair.first, pair.second) for pair in pairs) == copies
    among = find_duplicates(ArrayFeatures(frames), 0.99, indices=[4400, 3, *range(200, 300)], device="cpu")
    assert [(pair.first, pair.second) for pair in among] == [(3, 4400)]
    assert find_duplicates(ArrayFeatures(frames), indices=[7], device="cpu") == []


def test_groups_hold_what_pairs_hold_together():
    pairs = [Duplicates(1, 5, 1), Duplicates(2, 3, 1), Duplicates(5, 9, 1), Duplicates(0, 9, 1)]
    assert groups_of(pairs) == [[0, 1, 5, 9], [2, 3]]
    assert groups_of([]) == []


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Test videos of all classes, three of four, and six copies of four of them."""
    from vidclip.demo.actions import ACTIONS
    from vidclip.demo.copies import write_copies
    from vidclip.demo.videos import Clip, write_world

    folder = tmp_path_factory.mktemp("copies")
    labels = ["kicking a ball", "climbing a ladder", "carrying a box", "playing a drum"]
    clips = [Clip(label, 20_000 + i) for label in labels for i in range(3)]
    clips += [
        Clip(action.name, 20_000) for action in ACTIONS if action.name not in labels
    ]  # what others show
    for _ in write_world(folder, clips, workers=1):
        pass
    for clip in clips[:12:3]:
        write_copies(folder / clip.path, folder / "videos" / "copies" / clip.label)
    done = vidclip("extract", "videos", "--model", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def name_of(id: str) -> str:
    """The label of the video that a video is a copy of; its own id for all others."""
    path = Path(id)
    copied = path.parts[0] == "copies" or (path.stem == "trimmed_20000" and path.parent.name in COPIED)
    return path.parent.name.replace(" ", "_") if copied else id


COPIED = ("kicking_a_ball", "climbing_a_ladder", "carrying_a_box", "playing_a_drum")


def test_all_copies_are_found_and_no_other_pair(world):
    """By pixels, in a cache of so few videos that features alone find most copies only."""
    cache = FeatureCache(world / "features")
    candidates = find_duplicates(cache, candidates_threshold(len(cache)), device="cpu")
    pairs, unread = compare_pixels(cache, candidates, reading=ExtractSettings(1))
    assert not unread
    assert {pair.by for pair in pairs} == {"pixels"}
    names = {(name_of(cache.ids[pair.first]), name_of(cache.ids[pair.second])) for pair in pairs}
    assert names == {(name, name) for name in COPIED}
    assert len(pairs) == 4 * 7 * 6 / 2
    every, _ = compare_pixels(cache, candidates, -1, reading=ExtractSettings(1))
    assert len(every) == len(candidates)
    others = [pair.similarity for pair in every if pair not in pairs]
    assert max(others, default=-1) < PIXELS_THRESHOLD - 0.05
    assert min(pair.similarity for pair in pairs) > PIXELS_THRESHOLD + 0.05
    by_features = find_duplicates(cache, device="cpu")
    assert all(name_of(cache.ids[pair.first]) == name_of(cache.ids[pair.second]) for pair in by_features)


def test_a_copy_is_found_among_three_videos(world):
    """Of three videos next to no covariance is known: a copy may have other features."""
    cache = FeatureCache(world / "features")
    for label, other in zip(COPIED, (*COPIED[1:], COPIED[0]), strict=True):
        own = [i for i, id in enumerate(cache.ids) if name_of(id) == label]
        else_ = next(i for i, id in enumerate(cache.ids) if name_of(id) == other)
        few = [own[0], own[1], else_]
        candidates = find_duplicates(cache, candidates_threshold(3), indices=few, device="cpu")
        assert len(candidates) == 3
        pairs, _ = compare_pixels(cache, candidates, reading=ExtractSettings(1))
        assert [(pair.first, pair.second) for pair in pairs] == [tuple(sorted(own[:2]))]


def test_of_few_videos_every_pair_is_a_candidate(rng):
    opposite = rng.standard_normal((2, 1, 2, 8)).astype(np.float16)
    opposite[1] = -opposite[0]
    assert len(find_duplicates(ArrayFeatures(opposite), candidates_threshold(2), device="cpu")) == 1
    for n, expected in ((64, 64 * 63 // 2), (65, 0), (256, 0)):
        frames = rng.standard_normal((n, 1, 1, 300)).astype(np.float16)
        assert len(find_duplicates(ArrayFeatures(frames), candidates_threshold(n), device="cpu")) == expected
    assert -1 < candidates_threshold(65) < candidates_threshold(256) < THRESHOLD


def test_where_files_are_gone_features_decide(world, tmp_path):
    import shutil

    gone = tmp_path / "features"
    shutil.copytree(world / "features", gone)
    copied = world / "videos" / "copies"
    copied.rename(world / "elsewhere")
    try:
        cache = FeatureCache(gone)
        candidates = find_duplicates(cache, candidates_threshold(len(cache)), device="cpu")
        pairs, unread = compare_pixels(cache, candidates, reading=ExtractSettings(1))
    finally:
        (world / "elsewhere").rename(copied)
    assert set(unread.values()) == {"the file is gone"}
    assert all(cache.ids[video].startswith("copies/") for video in unread)
    expected = [pair for pair in candidates if pair.similarity >= THRESHOLD]
    assert 0 < len(pairs) == len(expected) < len(candidates), "each pair of copies has one whose file is gone"
    assert pairs == expected


def test_pictures_are_compared_by_their_edges_each_frame_with_the_nearest(rng):
    frames = rng.integers(60, 180, (6, 8, 8)).astype(np.uint8)

    def edges(frame: np.ndarray) -> np.ndarray:
        gray = frame.astype(np.float64)
        return unit(np.array([*(gray[:, 1:] - gray[:, :-1]).ravel(), *(gray[1:] - gray[:-1]).ravel(), 20.0]))

    other = rng.integers(60, 180, (6, 8, 8)).astype(np.uint8)
    cosines = np.array([[edges(a) @ edges(b) for b in other] for a in frames])
    expected = (cosines.max(axis=0).mean() + cosines.max(axis=1).mean()) / 2
    assert picture_similarity(frames, other) == pytest.approx(expected, abs=1e-5)
    assert picture_similarity(frames, frames[::-1] + np.uint8(40)) == pytest.approx(1, abs=1e-5), (
        "brighter, backwards"
    )
    flat = np.full((6, 8, 8), 16, np.uint8)
    assert picture_similarity(flat, flat + np.uint8(3)) == pytest.approx(1, abs=1e-5)
    assert picture_similarity(flat, frames) < 0.2


def test_inverted_lists_find_the_copies_that_all_pairs_find(rng):
    centers = rng.standard_normal((40, 24))
    own = centers[rng.integers(40, size=3000)] + 0.7 * rng.standard_normal((3000, 24))
    frames = (own[:, None, None] + 0.2 * rng.standard_normal((3000, 1, 2, 24))).astype(np.float16)
    for one, other in [(0, 1), (5, 2900), (2047, 2048), (70, 71), (71, 72)]:
        frames[other] = (frames[one] + 0.03 * rng.standard_normal(frames[one].shape)).astype(np.float16)
    exact = find_duplicates(ArrayFeatures(frames), 0.9, device="cpu")
    in_lists = find_duplicates(ArrayFeatures(frames), 0.9, device="cpu", exact_below=0)
    assert len(exact) >= 6
    assert in_lists == exact


def test_the_command_shows_pairs_and_groups(world):
    import csv
    import io
    import json

    done = vidclip("search", "--duplicates", "--json", "-", cwd=world)
    document = json.loads(done.stdout)
    videos = sum(map(len, document["groups"]))
    assert videos == len({id for pair in document["pairs"] for id in pair["videos"]}) == 28
    table = vidclip("search", "--duplicates", "--csv", "-", cwd=world).stdout
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["path"], row["other_path"]) for row in rows] == [
        tuple(pair["paths"]) for pair in document["pairs"]
    ]
    assert all(Path(row["path"]).is_file() for row in rows)
    shown = vidclip("search", "--duplicates", cwd=world).stdout
    n_groups = len(document["groups"])
    assert f"of near-duplicates, {videos} videos in {n_groups} groups" in shown
    assert [(row["by"], float(row["score"])) for row in rows] == [
        ("pixels", pytest.approx(pair["score"], abs=1e-6)) for pair in document["pairs"]
    ]
    features = vidclip("search", "--duplicates", "--by", "features", "--json", "-", cwd=world)
    settings = json.loads(features.stdout)["settings"]
    assert (settings["by"], settings["threshold"]) == ("features", THRESHOLD)
    none = vidclip("search", "--duplicates", "--threshold", "1", "--split", "train", cwd=world)
    assert none.returncode == 2
    assert "its videos have no splits" in none.stderr
    refused = vidclip("search", "a dog", "--duplicates", cwd=world)
    assert "--duplicates compares the videos of the cache with each other: give no TEXT" in refused.stderr
