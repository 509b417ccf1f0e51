"""Heads for videos with any number of labels: their loss, where they begin, what they find, what their file says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, log_loss

from helpers import an_identity
from vidclip.pipeline.heads import (
    ClassTexts,
    FitError,
    HeadConfig,
    HeadError,
    MultiLabelScorer,
    StoredHead,
    TrainSettings,
    VideoHead,
    fit_head,
    head_over,
    load_head,
    multi_label_loss,
    save_head,
    strata,
)
from vidclip.pipeline.heads.multi_label import MultiLabelLogits, mean_logits, validation_of

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def videos(rng):
    """[240, 1, 4, 16] frames, each the sum of the directions of its classes, and which these are [240, 4]."""
    targets = rng.random((240, 4)) < (0.5, 0.3, 0.2, 0.1)
    directions = rng.standard_normal((4, 16))
    frames = (targets @ directions)[:, None, None] + 1.5 * rng.standard_normal((240, 1, 4, 16))
    return frames.astype(np.float16), targets


def fitted(videos, n=160, **more):
    frames, targets = videos
    settings = TrainSettings(loss="binary-cross-entropy", epochs=40, batch_size=16, patience=40, **more)
    return fit_head(frames[:n], targets[:n], ClassTexts(NAMES), HeadConfig("linear"), settings)


def test_the_loss_is_that_of_scikit_learn(rng):
    logits, targets = 3 * rng.standard_normal((7, 5)), rng.random((7, 5)) < 0.3
    found = multi_label_loss(torch.from_numpy(logits), torch.from_numpy(targets))
    expected = np.mean(
        [log_loss(y, expit(z), labels=[0, 1]) for y, z in zip(targets.T, logits.T, strict=True)]
    )
    np.testing.assert_allclose(float(found), expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"logits \(7, 5\) and targets \(7, 4\) do not fit"):
        multi_label_loss(torch.from_numpy(logits), torch.from_numpy(targets[:, :4]))


def test_it_begins_at_the_shares_of_the_classes(rng):
    scores, targets = 0.2 + 0.02 * rng.standard_normal((50, 3)), rng.random((50, 3)) < (0.5, 0.1, 0)
    head = MultiLabelLogits(3)
    head.start(scores, targets, temperature=0.05)
    logits = head(torch.from_numpy(scores)).detach().numpy()
    np.testing.assert_allclose(logits.mean(axis=0), logit((targets.sum(axis=0) + 0.5) / 51), rtol=1e-5)
    np.testing.assert_allclose(np.diff(logits[:, 0]), 20 * np.diff(scores[:, 0]), rtol=1e-4)
    head.start(5 * scores, targets, temperature=0.05)
    logits = head(torch.from_numpy(5 * scores)).detach().numpy()
    assert logits.std(axis=0).mean() == pytest.approx(1, rel=1e-4), "further apart they are not made"


def test_views_count_by_the_mean_of_their_probabilities(rng):
    logits = 4 * rng.standard_normal((6, 3, 5))
    np.testing.assert_allclose(expit(mean_logits(logits)), expit(logits).mean(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(mean_logits(logits[:, :1]), logits[:, 0])
    far = np.array([[[800.0], [900.0]], [[-800.0], [-900.0]]])
    np.testing.assert_allclose(mean_logits(far)[:, 0], [800 + np.log(2), -800 - np.log(2)])


def test_validation_is_the_map_of_scikit_learn(rng):
    logits, targets = rng.standard_normal((40, 1, 3)), rng.random((40, 3)) < (0.4, 0.2, 0)
    found, loss = validation_of(logits, targets)
    each = [average_precision_score(targets[:, c], logits[:, 0, c]) for c in range(2)]
    assert found == pytest.approx(100 * np.mean(each)), "a class without videos does not count"
    assert loss == pytest.approx(np.mean(np.logaddexp(0, logits[:, 0]) - targets * logits[:, 0]))


def test_strata_are_the_rarest_classes():
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1]], bool)
    assert strata(targets).tolist() == [1, 0, 1, 3, 2, 2]


@pytest.mark.parametrize("held_out", [0, 0.2])
def test_training_finds_the_classes(videos, held_out):
    frames, targets = videos
    result = fitted(videos, held_out=held_out)
    scorer = MultiLabelScorer(result.head)
    logits = scorer.scores(scorer.similarities(np.arange(80), frames[160:]), np.arange(4))
    assert average_precision_score(targets[160:], logits) > 0.8
    assert average_precision_score(targets[160:], np.zeros((80, 4))) < 0.4, "which chance does not"
    shares = scorer.probabilities(scorer.similarities(np.arange(160), frames[:160]), np.arange(4)).mean(
        axis=0
    )
    np.testing.assert_allclose(shares, targets[:160].mean(axis=0), atol=0.15)
    assert result.epochs[-1].loss < result.epochs[0].loss
    if held_out:
        held = [epoch.held_out_top1 for epoch in result.epochs]
        assert held[result.best_epoch - 1] == max(held)
        assert result.epochs[0].n_held_out == sum(round(0.2 * n) for n in np.bincount(strata(targets[:160])))


def test_the_file_says_that_it_has_several_labels(videos, tmp_path):
    head = fitted(videos).head
    stored = StoredHead(head, an_identity(), NAMES, {"temperature": 0.01, "prompts": ["{}"]})
    save_head(tmp_path / "h", stored)
    loaded = load_head(tmp_path / "h")
    assert loaded.module.config.multi_label
    assert loaded.module.config.name == "linear, multi-label"
    x = videos[0]
    every = np.arange(4)
    expected = MultiLabelScorer(head).similarities(every, x[:4])
    np.testing.assert_array_equal(MultiLabelScorer(loaded.module).similarities(every, x[:4]), expected)
    some = MultiLabelScorer(loaded.module.select([2, 0])).similarities(every, x[:4])
    np.testing.assert_allclose(some, expected[:, :, [2, 0]], rtol=1e-4)
    single = VideoHead(HeadConfig("linear"), np.eye(4, 16), 16, 4)
    assert "multi_label" not in single.structure, "older versions read heads of one label"


def test_what_a_multi_label_head_cannot_be(videos):
    for more in ({"classifier": "lda"}, {"second": "zh"}, {"view_average": "unscaled"}):
        with pytest.raises(ValueError, match="a multi-label head has one language"):
            HeadConfig(multi_label=True, **more)
    frames, targets = videos
    settings = TrainSettings(loss="binary-cross-entropy")
    with pytest.raises(FitError, match=r"must be booleans \(240, 4\), not int64 \(240,\)"):
        fit_head(frames, targets.argmax(axis=1), ClassTexts(NAMES), HeadConfig("linear"), settings)
    with pytest.raises(FitError, match="every class has all of the training videos or none"):
        fit_head(frames, np.ones_like(targets), ClassTexts(NAMES), HeadConfig("linear"), settings)


def test_other_classes_are_refused(videos):
    from vidclip.lexicons import Lexicon
    from vidclip.pipeline.encoders import EncoderLoader

    head = VideoHead(HeadConfig("text", multi_label=True), np.eye(4, 16), 16, 4)
    stored = StoredHead(head, an_identity(), NAMES, {"prompts": ["{}"]})
    with pytest.raises(HeadError, match="the classes of this classifier are fixed"):
        head_over(stored, Lexicon("other", ("x", "y"), ("x", "y")), EncoderLoader())
