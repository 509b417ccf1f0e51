"""Few-shot and general: which videos are learned from, and that the figures are those of the heads by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidclip.cache import TextEmbeddings
from vidclip.pipeline.evaluation import LabeledVideos, classification_metrics, draw_shots, train_and_evaluate
from vidclip.pipeline.heads import ClassTexts, FitError, HeadConfig, TrainSettings, fit_head
from vidclip.pipeline.scoring import ArrayFeatures, cosine_scores, mean_embeddings

C, D = 4, 16
NAMES = ("a", "b", "c", "d")
FAST = TrainSettings(epochs=2, held_out=0)


@pytest.fixture
def world(rng):
    sentence = rng.standard_normal((C, D)).astype(np.float32)
    empty = np.zeros((0, D), np.float32)
    texts = TextEmbeddings(NAMES, ("{}",), "none", sentence, empty, np.zeros(C + 1, np.int64))

    labels = np.concatenate([rng.permutation(np.arange(n) % C) for n in (60, 80)])
    frames = sentence[labels][:, None, None] + 3 * rng.standard_normal((140, 1, 3, D))
    return World(frames.astype(np.float16), labels, ClassTexts(NAMES, texts))


class World:
    """60 training videos, then 80 test videos, in memory."""

    def __init__(self, frames, labels, texts):
        self.frames, self.labels, self.texts, n = frames, labels, texts, len(labels) - 80
        self.source = ArrayFeatures(frames)
        self.train = LabeledVideos(np.arange(n), labels[:n], "train")
        self.test = LabeledVideos(np.arange(n, n + 80), labels[n:], "test")

    def train_and_evaluate(self, configs, **options):
        return train_and_evaluate(self.source, self.train, self.test, self.texts, configs, **options)


def test_a_draw_has_k_of_every_class_and_grows(rng):
    labels = rng.permutation(np.repeat(np.arange(C), [9, 7, 8, 30]))
    for seed in range(3):
        before = set()
        for k in (1, 2, 5, 7):
            rows = draw_shots(labels, NAMES, k, seed)
            assert np.bincount(labels[rows]).tolist() == [k] * C
            assert (np.diff(rows) > 0).all()
            assert before <= set(rows.tolist())
            before = set(rows.tolist())
    draws = {tuple(draw_shots(labels, NAMES, 3, seed)) for seed in range(20)}
    assert len(draws) == 20
    np.testing.assert_array_equal(draw_shots(labels, NAMES, None, 0), np.arange(54))
    counts = sum(np.bincount(draw_shots(labels, NAMES, 3, seed), minlength=54) for seed in range(3000))
    expected = 3000 * 3 / np.bincount(labels)[labels]
    assert np.abs(counts / expected - 1).max() < 0.35, "every video of a class is as likely"


def test_classes_with_too_few_videos_are_named():
    labels = np.array([0, 0, 0, 1, 1, 2])
    with pytest.raises(FitError, match="'c' has 1 training video, 2 are asked for. Use --shots 1 at most"):
        draw_shots(labels, NAMES[:3], 2, 0)
    with pytest.raises(
        FitError, match="'c' has 1 training video, 3 are asked for; 1 other class has too few as well"
    ):
        draw_shots(labels, NAMES[:3], 3, 0)
    with pytest.raises(FitError, match="'d' has no training video"):
        draw_shots(labels, NAMES, 1, 0)


def test_zero_shot_in_the_table_is_zero_shot(world):
    (result,) = world.train_and_evaluate([HeadConfig()], shots=[0], fit=FAST)
    scores = cosine_scores(mean_embeddings(world.frames[60:]), world.texts.texts.sentence)
    expected = classification_metrics(scores, world.test.targets)
    assert result.repetitions[0][1] == expected
    assert result.settings["shots"] == 0
    assert len(result.repetitions) == 1


def test_a_cell_is_the_head_trained_on_that_draw(world):
    head_configs = [HeadConfig(), HeadConfig("linear")]
    results = world.train_and_evaluate(head_configs, shots=[2, None], seeds=2, fit=FAST)
    assert [(r.scorer, r.settings["shots"]) for r in results] == [
        ("text", 2), ("text", "all"), ("linear", 2), ("linear", "all"),
    ]  # fmt: skip
    for result, config, k in zip(results, np.repeat(head_configs, 2), [2, None, 2, None], strict=True):
        found = []
        for seed in (0, 1):
            rows = draw_shots(world.train.targets, NAMES, k, seed)
            head = fit_head(
                world.frames[rows], world.labels[rows], world.texts, config,
                TrainSettings(epochs=2, held_out=0, seed=seed), epoch_size=60,
            ).head  # fmt: skip
            found.append(classification_metrics(head.scores(world.frames[60:, 0]), world.test.targets))
        assert [metrics for _, metrics in result.repetitions] == found
        figure = result.figures["top1"]
        tops = [metrics.top1 for metrics in found]
        assert figure.mean == pytest.approx(np.mean(tops))
        assert figure.spread == pytest.approx(np.std(tops))
        assert figure.low < figure.mean < figure.high
        assert result.settings["n_train"] == (60 if k is None else 2 * C)


def test_lda_is_left_out_where_it_cannot_be(world):
    results = world.train_and_evaluate([HeadConfig("lda")], shots=[0, 1, 3], seeds=1, fit=FAST)
    assert [result.settings["shots"] for result in results] == [3]


@pytest.mark.parametrize(
    ("counts", "held_out", "views"),
    # Shares of each class are rounded: 10 % of 15 is 2 (of 60 videos 8), the share of all 60 would be 6.
    [
        ((10, 10, 10, 10), 0.1, 1),
        ((15, 15, 15, 15), 0.1, 1),
        ((36, 35, 33, 40), 0.1, 3),
        ((2, 3, 4, 5), 0, 1),
    ],
)
def test_general_few_shot_and_fit_see_as_many_examples_an_epoch(world, rng, counts, held_out, views):
    """Counted by what goes through the temporal module of the head while it trains: of `mean`, the identity."""
    labels = rng.permutation(np.repeat(np.arange(C), counts))
    frames = rng.standard_normal((len(labels), views, 3, D)).astype(np.float16)
    tested = np.repeat(world.frames[60:], views, axis=1)
    one = World(np.concatenate([frames, tested]), np.concatenate([labels, world.labels[60:]]), world.texts)
    seen = []

    def count(module, inputs, _output):
        if isinstance(module, torch.nn.Identity) and module.training:
            seen.append(len(inputs[0]))

    settings = TrainSettings(epochs=1, held_out=held_out)
    expected = len(labels) - sum(min(round(held_out * n), n - 1) for n in counts)
    handle = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        fitted = fit_head(frames, labels, one.texts, HeadConfig("linear"), settings)
        assert sum(seen) == expected * views == fitted.epochs[0].n_examples
        assert fitted.epochs[0].n_held_out == len(labels) - expected
        for shots in (None, 2):
            seen.clear()
            (result,) = one.train_and_evaluate([HeadConfig("linear")], shots=[shots], seeds=1, fit=settings)
            assert sum(seen) == expected * views == result.settings["epoch_examples"]
    finally:
        handle.remove()


def test_every_run_is_told_and_impossible_shots_are_said_first(world):
    told = []
    world.train_and_evaluate(
        [HeadConfig()], shots=[0, 1], seeds=2, fit=FAST,
        on_run=lambda run: told.append((run.number, run.of, run.head, run.shots, run.seed)),
    )  # fmt: skip
    assert told == [(1, 3, "text", 0, 0), (2, 3, "text", 1, 0), (3, 3, "text", 1, 1)]
    told.clear()
    with pytest.raises(FitError, match="16 are asked for"):
        world.train_and_evaluate([HeadConfig()], shots=[1, 16], fit=FAST, on_run=lambda run: told.append(run))
    assert not told
