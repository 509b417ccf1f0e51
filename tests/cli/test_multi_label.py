"""Videos with several labels, from training to prediction, as their user types it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score

from helpers import a_record, vidclip
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.heads import MultiLabelScorer, load_head
from vidclip.pipeline.video import Sampling

NAMES = ("cook", "eat", "sit", "walk")


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_model):
    """180 videos of no, one or several classes, and a head that was trained on a third of them."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(3)
    directions = rng.standard_normal((4, 32))
    with CacheWriter(folder / "features", cache_identity(load_encoder(tiny_model), Sampling(4))) as writer:
        for number in range(180):
            has = rng.random(4) < 0.35
            frames = (has @ directions + 1.2 * rng.standard_normal((1, 4, 32))).astype(np.float32)
            split = ("train", "val", "test")[number % 3]
            labels = tuple(name for name, own in zip(NAMES, has, strict=True) if own)
            record = a_record(f"{number:03}", rng, labels=labels, split=split)
            writer.add(replace(record, frames=frames))
    (folder / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')
    fit = (
        "fit",
        "--loss",
        "binary-cross-entropy",
        "--classifier",
        "linear",
        "--epochs",
        8,
        "--held-out",
        0.2,
    )
    done = vidclip(*fit, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def by_hand(folder, split):
    """Ids, probabilities [n, 4] by the file of the head, and labels [n, 4], of a split."""
    cache = FeatureCache(folder / "features")
    rows = [row for row, name in enumerate(cache.splits) if name == split]
    scorer = MultiLabelScorer(load_head(folder / "head.safetensors").module)
    logits = scorer.similarities(np.array(rows), cache.frames(rows))[:, 0].astype(float)
    truth = np.array([[name in cache.labels[row] for name in NAMES] for row in rows])
    return [cache.ids[row] for row in rows], expit(logits), truth


def test_fit_and_eval_print_the_map_of_scikit_learn(world):
    folder, done = world
    assert "linear, multi-label head" in done.stdout
    assert "mean average precision" in done.stdout
    assert "vidclip eval --head head.safetensors --protocol multi-label" in done.stdout
    assert "videos without a label are not trained on" in done.stderr
    _, probabilities, truth = by_hand(folder, "test")
    expected = 100 * average_precision_score(truth, probabilities)
    assert f"{expected:.1f}" in done.stdout
    evaluate = ("eval", "--protocol", "multi-label", "--head", "head.safetensors", "--json", "e.json")
    assert vidclip(*evaluate, cwd=folder).returncode == 0
    (document,) = json.loads((folder / "e.json").read_text())
    results = document["results"]
    (of_head,) = [each for each in results if "multi-label" in each["scorer"]]
    assert of_head["figures"]["map"]["mean"] == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_predict_names_every_class_above_the_threshold(world, threshold):
    folder, _ = world
    given = () if threshold is None else ("--threshold", threshold)
    predict = ("predict", "--head", "head.safetensors", "--split", "test", "--json", "p.json", *given)
    done = vidclip(*predict, cwd=folder)
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / "p.json").read_text())
    assert document["multi_label"]
    ids, probabilities, _ = by_hand(folder, "test")
    for id, own, each in zip(ids, probabilities, document["predictions"], strict=True):
        named = {NAMES[c]: own[c] for c in np.flatnonzero(own > (threshold or 0.5))}
        assert (each["video"], each["none_of_these"]) == (id, not named)
        if named:
            assert {guess["label"]: guess["probability"] for guess in each["classes"]} == pytest.approx(named)
    assert f"Every class above {100 * (threshold or 0.5):.4g} % is named" in done.stdout


def test_predict_calibrates_each_class_by_itself(world):
    folder, _ = world
    predict = (
        "predict",
        "--head",
        "head.safetensors",
        "--split",
        "test",
        "--calibrate",
        "val",
        "--json",
        "c.json",
    )
    done = vidclip(*predict, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "calibrated on 60 videos of val: logits over" in done.stdout
    found = json.loads((folder / "c.json").read_text())
    _, probabilities, truth = by_hand(folder, "val")
    scaling = found["calibration"]
    scaled = expit(np.log(probabilities / (1 - probabilities)) / scaling["temperature"] + scaling["offset"])
    assert scaled.mean() == pytest.approx(truth.mean(), abs=1e-4), "as many as there are"
    _, own, _ = by_hand(folder, "test")
    best = np.log(own / (1 - own)).max(axis=1) / scaling["temperature"] + scaling["offset"]
    first = [each["classes"][0]["probability"] for each in found["predictions"]]
    assert first == pytest.approx(expit(best).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--loss", "binary-cross-entropy", "--shots", 2), "--shots draws so many of every class"),
        (("fit", "--loss", "binary-cross-entropy", "--head", "attributes"), "goes with --head video"),
        (("fit", "--loss", "binary-cross-entropy", "--classifier", "lda"), "and no lda"),
        (("fit",), "train with --loss binary-cross-entropy"),
        (("predict", "--head", "head.safetensors", "--none-of-these", "val"), "names every class above the threshold"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_several_labels(world, arguments, message):
    folder, _ = world
    if arguments[0] == "fit":
        arguments = (*arguments, "--output", "other.safetensors")
    done = vidclip(*arguments, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "fault of vidclip" not in done.stderr
