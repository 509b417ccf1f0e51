"""Attributes heads that are trained, kept and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import an_identity
from vidclip.pipeline.heads import (
    AttributesHead,
    FitError,
    HeadError,
    StoredHead,
    TrainSettings,
    fit_attributes,
    load_head,
    save_head,
)


def u(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def learnable(rng):
    """Sentences that say their class in another language than the class sentences: only a trained head can tell."""
    classes = rng.standard_normal((6, 16)).astype(np.float32)
    spoken = rng.standard_normal((6, 16)).astype(np.float32)
    labels = np.arange(180) % 6
    sentences = spoken[labels] + 0.5 * rng.standard_normal((180, 16)).astype(np.float32)
    return sentences.astype(np.float32), labels, classes


def accuracy(head, sentences, labels, classes):
    a, b = head.apply_to(sentences, classes)
    return 100 * ((a @ b.T).argmax(axis=1) == labels).mean()


def test_training_finds_what_the_cosine_cannot_see(learnable):
    sentences, labels, classes = learnable
    untrained = 100 * ((u(sentences) @ u(classes).T).argmax(axis=1) == labels).mean()
    fitted = fit_attributes(
        sentences[:120],
        labels[:120],
        classes,
        TrainSettings(loss="released", batch_size=32, epochs=60, patience=60),
    )
    assert untrained < 50
    assert accuracy(fitted.head, sentences[120:], labels[120:], classes) > 90
    assert fitted.epochs[-1].loss < fitted.epochs[0].loss / 2
    held = [epoch.held_out_top1 for epoch in fitted.epochs]
    assert held[fitted.best_epoch - 1] == max(held)


def test_validation_videos_are_not_trained_on(rng):
    """Labels drawn at random can be learned by heart, but not foretold."""
    sentences = rng.standard_normal((120, 64)).astype(np.float32)
    labels, classes = rng.integers(4, size=120), rng.standard_normal((4, 64)).astype(np.float32)
    settings = TrainSettings(loss="released", epochs=150, batch_size=32, held_out=0.5, patience=150)
    fitted = fit_attributes(sentences, labels, classes, settings)
    assert fitted.epochs[-1].loss < 0.1, "its own half by heart"
    assert fitted.epochs[-1].held_out_top1 < 50, "of the other it knows nothing: chance is 25"


def test_one_seed_makes_one_file_and_another_seed_another(learnable, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        fitted = fit_attributes(*learnable, TrainSettings(epochs=3, seed=seed))
        save_head(tmp_path / name, StoredHead(fitted.head, an_identity(), ("x",), {"seed": 0}))
    files = [(tmp_path / name).read_bytes() for name in "abc"]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_loading_returns_what_was_saved(learnable, tmp_path):
    fitted = fit_attributes(*learnable, TrainSettings(epochs=2))
    stored = StoredHead(fitted.head, an_identity(), ("one", "zwei ü"), {"epochs": 2})
    save_head(tmp_path / "h", stored)
    loaded = load_head(tmp_path / "h")
    assert (loaded.kind, loaded.identity, loaded.classes) == ("attributes", an_identity(), ("one", "zwei ü"))
    assert loaded.settings == {"epochs": 2}
    sentences, _labels, classes = learnable
    for mine, theirs in zip(
        fitted.head.apply_to(sentences, classes), loaded.module.apply_to(sentences, classes), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    loaded.check_encoder(an_identity().encoder_digest, "features")
    with pytest.raises(HeadError, match=r"another encoder \(ViT-B-16 \(openai\)\) than that of features"):
        loaded.check_encoder("abd", "features")


def test_rejects_files_that_are_no_heads(tmp_path):
    with pytest.raises(HeadError, match="does not exist; `vidclip fit`"):
        load_head(tmp_path / "none")
    (tmp_path / "rubbish").write_bytes(b"rubbish" * 30)
    with pytest.raises(HeadError, match="rubbish is no head of vidclip, or is damaged"):
        load_head(tmp_path / "rubbish")
    save_file({"x": torch.ones(1)}, tmp_path / "foreign")
    with pytest.raises(HeadError, match="foreign is no head of vidclip"):
        load_head(tmp_path / "foreign")
    save_head(tmp_path / "h", StoredHead(AttributesHead(4), an_identity(), ("x",), {}))
    weights = load_file(tmp_path / "h")
    metadata = {"format": "vidclip-head", "version": "9", "kind": "attributes"}
    save_file(weights, tmp_path / "newer", {"vidclip": json.dumps(metadata)})
    with pytest.raises(HeadError, match="of version 9"):
        load_head(tmp_path / "newer")


def test_rejects_data_that_cannot_be_trained_on(learnable):
    sentences, labels, classes = learnable
    bad = sentences.copy()
    bad[3, 3] = np.nan
    with pytest.raises(FitError, match="not finite"):
        fit_attributes(bad, labels, classes)
    with pytest.raises(FitError, match="all of one class"):
        fit_attributes(sentences, np.zeros_like(labels), classes)
    with pytest.raises(FitError, match="180 sentences, but labels"):
        fit_attributes(sentences, labels[:-1], classes)
    with pytest.raises(FitError, match="do not fit"):
        fit_attributes(sentences, labels, classes[:, :3])
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        TrainSettings(epochs=0)


def test_classes_with_a_single_video_are_trained_on(learnable):
    sentences, _, classes = learnable
    fitted = fit_attributes(sentences[:6], np.arange(6), classes, TrainSettings(epochs=2, held_out=0.5))
    assert [epoch.held_out_top1 for epoch in fitted.epochs] == [None, None]
    assert fitted.best_epoch == 2
