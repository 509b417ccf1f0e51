"""Losses against their formulas, term by term in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vidclip.pipeline.heads import contrastive_loss, cross_entropy_loss, scores_loss

LABELS = [0, 1, 0, 2, 0, 1]


def by_double_loop(videos, classes, labels, class_labels, *, temperature, form):
    """The mean over both directions, one pair of a video and a class text at a time."""

    def directed(a, b, a_labels, b_labels):
        total = 0.0
        for i in range(len(a)):
            logits, weights = [], []
            for j in range(len(b)):
                cosine = float(a[i] @ b[j]) / math.sqrt(float(a[i] @ a[i]) * float(b[j] @ b[j]))
                logits.append(cosine / temperature)
                same = a_labels[i] == b_labels[j]
                weights.append(math.exp(10.0 * same) if form == "released" else float(same))
            log_sum = math.log(sum(math.exp(logit) for logit in logits))
            for logit, weight in zip(logits, weights, strict=True):
                target = weight / sum(weights)
                entropy = target * math.log(target) if form == "released" else 0.0
                total += entropy - target * (logit - log_sum)
        return total / len(a)

    there = directed(videos, classes, labels, class_labels)
    return (there + directed(classes, videos, class_labels, labels)) / 2


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize(
    "class_labels", [LABELS, [2, 0, 1]], ids=["a text for each video", "each class once"]
)
def test_contrastive_loss_equals_float64_double_loop(rng, form, class_labels):
    videos, classes = rng.standard_normal((6, 5)), rng.standard_normal((3, 5))[class_labels]
    expected = by_double_loop(videos, classes, LABELS, class_labels, temperature=0.07, form=form)
    found = contrastive_loss(
        torch.tensor(videos), torch.tensor(classes), torch.tensor(LABELS), torch.tensor(class_labels),
        temperature=0.07, form=form,
    )  # fmt: skip
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_loss_of_scores_equals_loss_of_embeddings(rng, form):
    videos, classes, labels = torch.randn(6, 5), torch.randn(3, 5), torch.tensor(LABELS)
    cosines = torch.nn.functional.normalize(videos, dim=1) @ torch.nn.functional.normalize(classes, dim=1).T
    expected = contrastive_loss(videos, classes[labels], labels, labels, form=form)
    torch.testing.assert_close(scores_loss(cosines, labels, form=form), expected)


def test_distinct_labels_make_clips_own_loss(rng):
    """In a batch without repeated labels, BIKE's equations are CLIP's."""
    scores = torch.tensor(rng.uniform(-1, 1, (4, 4)))
    own = torch.arange(4)
    both = [torch.nn.functional.cross_entropy(direction / 0.01, own) for direction in (scores, scores.T)]
    assert float(scores_loss(scores, own, form="paper")) == pytest.approx(float(sum(both) / 2))


def test_a_class_without_a_video_in_the_batch_is_a_negative_alone(rng):
    videos, classes = torch.tensor(rng.standard_normal((2, 5))), torch.tensor(rng.standard_normal((3, 5)))
    loss = contrastive_loss(videos, classes, torch.tensor([0, 1]), torch.arange(3))
    assert torch.isfinite(loss)


def test_cross_entropy_is_that_of_the_label_among_all_classes(rng):
    scores = rng.uniform(-1, 1, (6, 3))
    log_probabilities = scores / 0.5 - np.log(np.exp(scores / 0.5).sum(axis=1, keepdims=True))
    expected = -log_probabilities[np.arange(6), LABELS].mean()
    for loss in (cross_entropy_loss, scores_loss):
        found = loss(torch.tensor(scores), torch.tensor(LABELS), temperature=0.5)
        assert float(found) == pytest.approx(expected)


def test_rejects_unknown_forms_and_shapes():
    two, three = torch.zeros(2, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="must be one of cross-entropy, paper, released"):
        scores_loss(torch.ones(2, 3), two, form="clip")
    with pytest.raises(ValueError, match="do not fit"):
        scores_loss(torch.ones(2, 3), three)
    with pytest.raises(ValueError, match="must be one of paper, released, got 'cross-entropy'"):
        contrastive_loss(torch.ones(2, 5), torch.ones(3, 5), two, three, form="cross-entropy")
    with pytest.raises(ValueError, match="do not fit"):
        contrastive_loss(torch.ones(2, 5), torch.ones(3, 5), two, two)
