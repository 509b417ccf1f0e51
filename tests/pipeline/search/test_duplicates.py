"""Near-duplicates: copies by another program are found, and nothing else is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from helpers import vidclip
from vidclip.cache import FeatureCache
from vidclip.pipeline.scoring import ArrayFeatures
from vidclip.pipeline.search import Duplicates, find_duplicates, groups_of


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_similarities_are_those_of_whitened_means_and_nearest_frames(rng):
    frames = rng.standard_normal((12, 2, 3, 8)).astype(np.float16)
    rows = unit(frames.reshape(12, 6, 8).astype(np.float64))
    means = unit(frames.reshape(12, 6, 8).astype(np.float64).mean(axis=1))
    covariance = np.cov(means.T, bias=True)
    inverse = np.linalg.inv(covariance + 0.01 * np.linalg.eigvalsh(covariance)[-1] * np.eye(8))
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


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def encode(
    path: Path, frames: list[np.ndarray], *, fps: float = 10, codec: str = "libx264", crf: int = 23
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(100))
        stream.options = {"crf": str(crf)} if codec == "libx264" else {"qscale": "5"}
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Test videos of all classes, three of four, and six copies of four of them."""
    from vidclip.demo.actions import ACTIONS
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
        frames = decode(folder / clip.path)
        height, width = frames[0].shape[:2]
        copy = folder / "videos" / "copies" / clip.label
        encode(copy / "crf.mp4", frames, crf=35)
        smaller = (width * 3 // 8 * 2, height * 3 // 8 * 2)
        encode(
            copy / "scale.mp4", [cv2.resize(frame, smaller, interpolation=cv2.INTER_AREA) for frame in frames]
        )
        encode(copy / "rate.mp4", [frames[int(i / 1.5)] for i in range(int(1.5 * len(frames)))], fps=15)
        encode(copy / "codec.mp4", frames, codec="mpeg4")
        tenth = round(len(frames) / 10)
        encode(copy / "start.mp4", frames[tenth:])
        encode(copy / "end.mp4", frames[:-tenth])
    done = vidclip("extract", "videos", "--model", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_copies_are_found_and_no_other_pair(world):
    """So few videos tell little of their covariance, and copies look less alike: most are found, and nothing else."""
    cache = FeatureCache(world / "features")
    groups = groups_of(find_duplicates(cache, device="cpu"))
    labels = [{cache.ids[video].split("/")[-2].replace("_", " ") for video in members} for members in groups]
    assert all(len(own) == 1 for own in labels), labels
    found = [cache.ids[video] for members in groups for video in members]
    assert all(id.startswith("copies/") or id.endswith("trimmed_20000.mp4") for id in found), found
    assert len(found) >= 20, "of 28"


def test_the_command_shows_pairs_and_groups(world):
    import csv
    import io
    import json

    done = vidclip("search", "--duplicates", "--json", "-", cwd=world)
    document = json.loads(done.stdout)
    videos = sum(map(len, document["groups"]))
    assert videos == len({id for pair in document["pairs"] for id in pair["videos"]}) >= 20
    table = vidclip("search", "--duplicates", "--csv", "-", cwd=world).stdout
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["path"], row["other_path"]) for row in rows] == [
        tuple(pair["paths"]) for pair in document["pairs"]
    ]
    assert all(Path(row["path"]).is_file() for row in rows)
    shown = vidclip("search", "--duplicates", cwd=world).stdout
    n_groups = len(document["groups"])
    assert f"of near-duplicates, {videos} videos in {n_groups} groups" in shown
    none = vidclip("search", "--duplicates", "--threshold", "1", "--split", "train", cwd=world)
    assert none.returncode == 2
    assert "its videos have no splits" in none.stderr
    refused = vidclip("search", "a dog", "--duplicates", cwd=world)
    assert "--duplicates compares the videos of the cache with each other: give no TEXT" in refused.stderr
