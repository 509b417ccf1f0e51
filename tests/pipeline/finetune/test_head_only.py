"""A recipe that trains the head alone does what `vidclip fit` does, where its clips are what a cache would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import save_video
from vidclip.pipeline import load_head
from vidclip.pipeline.finetune import Finetuning
from vidclip.pipeline.heads import ClassTexts, HeadConfig, TrainSettings, fit_head
from vidclip.pipeline.video import ClipSpec, Sampling, VideoRequest, decode_video

FRAMES = 4
AS_A_CACHE = {
    "train": "head", "frames": FRAMES, "crop": False, "flip": 0.0, "gray": 0.0, "rand_augment": (0, 0),
}  # fmt: skip
AS_FIT = {
    "betas": (0.9, 0.999),
    "decay": "matrices",
    "clip_gradient": 0.0,
    "temperature": 0.01,
    "held_out": 0.0,
}


@pytest.fixture(scope="module")
def videos_of_t_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every draw of T frames is the same: all of them."""
    folder = tmp_path_factory.mktemp("short")
    for c, name in enumerate(["rowing", "yoga", "juggling"]):
        for number in range(4):
            save_video(folder / name / f"{number}.mp4", frames=FRAMES, seed=10 * c + number)
    return folder


@pytest.mark.parametrize(
    ("temporal", "pool", "loss"),
    [
        ("transformer", "mean", "cross-entropy"),
        ("conv", "vcs", "released"),
        pytest.param("mit", "mean", "paper", marks=pytest.mark.long),
    ],
)
def test_a_head_alone_is_trained_as_fit_trains_it(
    begin: Callable[..., Finetuning],
    videos_of_t_frames: Path,
    tmp_path: Path,
    temporal: str,
    pool: str,
    loss: str,
):
    """Steps of all videos: which of them a smaller step has is drawn by other generators."""
    same: dict[str, Any] = {"epochs": 4, "batch_size": 12, "learning_rate": 3e-4, "seed": 3, "loss": loss}
    parts = {"temporal": temporal, "pool": pool}
    training = begin(tmp_path, source=videos_of_t_frames, **AS_A_CACHE, **AS_FIT, **parts, **same)
    begun = {name: tensor.clone() for name, tensor in training.loop.model.head.state_dict().items()}
    encoder, videos = training.encoder, training.videos
    done = training.run()

    clip_spec = ClipSpec(Sampling(FRAMES), encoder.preprocess)
    clips = [decode_video(VideoRequest(video.path), clip_spec).pixels[0] for video in videos.train]
    frames = np.stack([encoder.encode_frames(torch.from_numpy(clip)).numpy()[None] for clip in clips])
    texts = encoder.encode_text(videos.lexicon.phrases, training.recipe.prompts)
    classes = ClassTexts(videos.lexicon.labels, texts)
    settings = TrainSettings(**same, held_out=0.0)
    fitted = fit_head(frames, videos.train_labels, classes, HeadConfig(**parts), settings)

    for report, epoch in zip(done.epochs, fitted.epochs, strict=True):
        assert report.epoch.loss == pytest.approx(epoch.loss, abs=1e-5)
    finetuned = load_head(tmp_path / "head.safetensors").module.state_dict()
    expected = fitted.head.state_dict()
    assert finetuned.keys() == expected.keys()
    assert max(float((expected[name] - begun[name]).abs().max()) for name in expected) > 5e-4
    for name, tensor in expected.items():
        left, right = finetuned[name].numpy(), tensor.numpy()
        if name.endswith("attention_in.bias"):
            # A softmax does not see the bias of its keys: the gradient is rounding, which AdamW makes a whole step.
            keys = np.s_[len(left) // 3 : 2 * len(left) // 3]
            left, right = np.delete(left, keys), np.delete(right, keys)
        np.testing.assert_allclose(left, right, atol=1e-5, err_msg=name)
