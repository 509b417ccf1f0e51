"""The packaged vision transformer, and the parts of its distillation."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from open_clip.transformer import VisionTransformer

import vidclip.demo
from helpers import save_video
from vidclip.cache import FeatureCache
from vidclip.demo.actions import ACTIONS
from vidclip.demo.distill import distill, distillation_loss, save_student
from vidclip.demo.render import render_still
from vidclip.demo.train import as_input
from vidclip.demo.world import video_scene
from vidclip.pipeline.datasets import Video, VideoList
from vidclip.pipeline.encoders import (
    EncoderRequest,
    TowerConfig,
    files_of,
    is_known_encoder,
    load_encoder,
    remember_encoder,
)
from vidclip.pipeline.evaluation import classification_metrics
from vidclip.pipeline.extraction import extract
from vidclip.pipeline.scoring import cosine_scores, l2_normalize, mean_embeddings
from vidclip.pipeline.video import Sampling

FOLDER = Path(vidclip.demo.__file__).parent / "vit"


@pytest.fixture(scope="module")
def encoder():
    torch.set_num_threads(1)
    return load_encoder("demo-vit", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def teacher():
    return load_encoder("demo", device="cpu", precision="fp32")


def test_it_stays_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2.5e6


def test_its_texts_are_those_of_the_packaged_encoder(encoder, teacher):
    texts = ["kicking a ball", "a person in a red shirt"]
    for prompt in ("{}", "This is a video about {}"):
        mine, theirs = (each.encode_text(texts, [prompt], words="name") for each in (encoder, teacher))
        assert_array_equal(mine.sentence, theirs.sentence)
        assert_array_equal(mine.words, theirs.words)
    assert encoder.identity["weights_sha256"] != teacher.identity["weights_sha256"]


def test_it_recognizes_what_its_teacher_does(encoder, teacher):
    """Four frames of one validation video a class; the model card has the numbers of many videos."""
    texts = encoder.encode_text([action.name for action in ACTIONS], ["This is a video about {}"])
    pictures = []
    for action in ACTIONS:
        scene, moments = video_scene(action, 10_000, "trimmed")
        pictures += [render_still(scene, moments[i * len(moments) // 4]) for i in range(4)]
    pixels = torch.from_numpy(np.concatenate([encoder.preprocess.pixels(picture) for picture in pictures]))
    frames, target = (each.encode_frames(pixels).numpy() for each in (encoder, teacher))
    cosine = (l2_normalize(frames) * l2_normalize(target)).sum(-1)
    assert cosine.mean() > 0.85
    lengths = np.log(np.linalg.norm(frames, axis=-1)), np.log(np.linalg.norm(target, axis=-1))
    assert np.corrcoef(*lengths)[0, 1] > 0.7  # mean pooling weighs frames by them
    scores = cosine_scores(mean_embeddings(frames.reshape(len(ACTIONS), 1, 4, -1)), texts.sentence)
    assert classification_metrics(scores, np.arange(len(ACTIONS))).top1 >= 75


def test_what_the_papers_put_inside_a_tower_fits():
    changed = load_encoder("demo-vit", device="cpu", precision="fp32")
    assert type(changed.network.visual) is VisionTransformer
    changed.change_tower(TowerConfig("token-t1d", 4))
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    assert changed.encode_frames(pixels).shape == (4, 128)


def test_a_cache_knows_it_without_loading_it(tmp_path, encoder):
    save_video(tmp_path / "a.mp4", frames=4)
    extract(VideoList([Video("a", tmp_path / "a.mp4")]), encoder, tmp_path / "cache", Sampling(2))
    cache, files = FeatureCache(tmp_path / "cache"), files_of(encoder)
    assert {path.name for path in files} > {"visual.safetensors", "open_clip_model.safetensors"}
    remember_encoder(
        tmp_path / "cache", cache.identity, EncoderRequest("demo-vit"), files, time.time_ns() + 10**10
    )
    assert is_known_encoder(tmp_path / "cache", cache.identity, EncoderRequest("demo-vit"))
    assert not is_known_encoder(tmp_path / "cache", cache.identity, EncoderRequest("demo"))


def test_the_loss_is_zero_for_the_teachers_own_embeddings():
    teacher = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distillation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)


def test_the_loss_against_numpy():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 4))
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher))
    cosine = 3 * np.mean([1 - s[i] @ t[i] for i in range(5)])
    lengths = 5 * np.mean(np.log(np.linalg.norm(student, axis=1) / np.linalg.norm(teacher, axis=1)) ** 2)
    p, q = (np.exp(20 * x @ x.T) / np.exp(20 * x @ x.T).sum(1, keepdims=True) for x in (t, s))
    divergence = (p * np.log(p / q)).sum(1).mean()
    loss = distillation_loss(torch.from_numpy(student), torch.from_numpy(teacher))
    assert loss.item() == pytest.approx(cosine + lengths + divergence, rel=1e-9)


@pytest.mark.long
def test_training_writes_a_folder_that_open_clip_loads(tmp_path, teacher):
    tower = distill(0, 1, "cpu", 1)
    save_student(tower, tmp_path, visual_only=False)
    saved = load_encoder(f"local-dir:{tmp_path}", device="cpu", precision="fp32")
    assert_array_equal(saved.encode_text(["a dog"]).sentence, teacher.encode_text(["a dog"]).sentence)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        wanted = tower(as_input(pixels.numpy(), "cpu"))
    torch.testing.assert_close(saved.encode_frames(pixels), wanted, atol=2e-2, rtol=1e-2)  # float16 on disk
