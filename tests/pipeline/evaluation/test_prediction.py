"""A trained head on video files: the same numbers as over a cache of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers import save_video
from vidclip.cache import FeatureCache
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.evaluation import Prediction, predict
from vidclip.pipeline.extraction import extract
from vidclip.pipeline.heads import HeadConfig, HeadError, StoredHead, VideoHead, load_head, save_head
from vidclip.pipeline.video import ClipSpec, Sampling


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for number in range(2):
        for folder in ("a", "b"):
            save_video(root / folder / f"{number}.mp4", frames=9, size=64, seed=7 * number + ord(folder))
    return root


@pytest.fixture(scope="module")
def stored(tmp_path_factory, videos, encoder):
    """(a head with weights drawn at random, as its file has it; the cache it belongs to): 2 clips of 4 frames, resize 40."""
    folder = tmp_path_factory.mktemp("predict")
    preprocess = replace(encoder.preprocess, resize=40)
    extract(read_videos(videos), encoder, folder / "features", ClipSpec(Sampling(4, clips=2), preprocess))
    cache = FeatureCache(folder / "features")
    assert cache.shape == (4, 2, 4, 32)
    weights = np.random.default_rng(0).standard_normal((3, 32))
    head = VideoHead(HeadConfig("linear", "conv"), weights, 32, 4)
    head.temporal.weight.data.normal_()
    save_head(
        folder / "h", StoredHead(head, cache.identity, ("x", "y", "z"), {"temperature": 0.5, "prompts": []})
    )
    return load_head(folder / "h"), cache


def u(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(head, frames):
    """Probabilities [C] of frames [V, T, D]: a convolution over time, its mean, cosines, softmax, mean over views."""
    before, own, after = head.temporal.weight.detach().numpy().astype(np.float64)
    rows, found = u(head.class_embeddings.detach().numpy().astype(np.float64)), []
    for clip in frames.astype(np.float64):
        video = np.zeros(clip.shape[1])
        for t in range(len(clip)):
            video += clip[t] * (1 + own)
            video += clip[t - 1] * before if t > 0 else 0
            video += clip[t + 1] * after if t + 1 < len(clip) else 0
        logits = np.exp((rows @ u(video) - 1) / 0.5)
        found.append(logits / logits.sum())
    return np.mean(found, axis=0)


def test_probabilities_are_those_of_the_cached_features(stored, videos, encoder):
    head, cache = stored
    found, failures = predict(read_videos(videos), head, head.module, encoder)
    assert failures == []
    assert [prediction.id for prediction in found] == ["a/0.mp4", "a/1.mp4", "b/0.mp4", "b/1.mp4"]
    for prediction in found:
        expected = by_hand(head.module, cache.frames([cache.index(prediction.id)])[0])
        np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert len({round(float(prediction.probabilities[0]), 4) for prediction in found}) == 4, (
        "the videos differ"
    )


def test_videos_that_cannot_be_read_are_reported_and_the_order_is_the_lists(
    stored, videos, encoder, tmp_path
):
    head, _ = stored
    (tmp_path / "empty.mp4").write_bytes(b"")
    listed = read_videos([videos / "b" / "1.mp4", tmp_path / "empty.mp4", videos / "a" / "0.mp4"])
    told = []
    found, failures = predict(listed, head, head.module, encoder, on_progress=told.append)
    assert [prediction.id for prediction in found] == [
        video.id for video in listed if video.path.name != "empty.mp4"
    ]
    assert [failure.id.rpartition("/")[2] for failure in failures] == ["empty.mp4"]
    assert (told[-1].done, told[-1].listed) == (3, 3)
    none, failures = predict(read_videos(tmp_path / "empty.mp4"), head, head.module, encoder)
    assert (none, len(failures)) == ([], 1)


def test_another_encoder_is_refused(stored, videos, other_tiny_model):
    head, _ = stored
    other = load_encoder(other_tiny_model, device="cpu")
    with pytest.raises(HeadError, match="trained on another encoder"):
        predict(read_videos(videos), head, head.module, other)


def test_a_damaged_sampling_is_said(stored, videos, encoder):
    head, _ = stored
    for sampling in (
        {"frames": 4},
        {**head.identity.sampling, "frames": 0},
        {**head.identity.sampling, "odd": 1},
    ):
        damaged = replace(head, identity=replace(head.identity, sampling=sampling))
        with pytest.raises(
            HeadError, match="The stored sampling is damaged: (.*missing resize|frames must be|.*unknown odd)"
        ):
            predict(read_videos(videos), damaged, head.module, encoder)


def test_best_first_and_of_equals_the_first():
    prediction = Prediction("v", np.array([0.2, 0.3, 0.2, 0.3]))
    assert prediction.best(3) == [1, 3, 0]
    assert prediction.best(9) == [1, 3, 0, 2]
