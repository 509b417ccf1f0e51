"""Heads that read the class names in two languages."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from helpers import an_identity
from vidclip.cache import TextEmbeddings
from vidclip.pipeline.heads import (
    ClassTexts,
    FitError,
    HeadConfig,
    HeadError,
    SecondLanguage,
    StoredHead,
    TrainSettings,
    VideoHead,
    choose_weight,
    fit_head,
    fuse_scores,
    is_foreign,
    languages_loss,
    load_head,
    save_head,
    scores_loss,
    untrained_head,
)

NAMES = ("dig", "swim", "bake a cake")
D = 16
DUAL = HeadConfig(second="zh")


def u(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def some_texts(rng, dimension=D, counts=(1, 2, 3)):
    return TextEmbeddings(
        NAMES, ("{}",), "name", rng.standard_normal((3, dimension)).astype(np.float32),
        rng.standard_normal((sum(counts), dimension)).astype(np.float32), np.cumsum([0, *counts]),
    )  # fmt: skip


@pytest.fixture
def texts(rng):
    return some_texts(rng)


@pytest.fixture
def chinese(rng):
    return some_texts(rng, counts=(2, 1, 1))


@pytest.fixture
def videos(rng, texts):
    """90 videos of one view and four frames, somewhere near their class; (frames, labels)."""
    labels = np.arange(90) % 3
    frames = texts.sentence[labels][:, None, None] + 2.5 * rng.standard_normal((90, 1, 4, D))
    return frames.astype(np.float32), labels


def classes_of(texts, second, **options):
    return ClassTexts(NAMES, texts, seconds={"zh": SecondLanguage("zh", second, **options)})


def test_an_untrained_head_fuses_the_cosines_of_both_languages(texts, chinese, videos):
    frames, labels = videos
    head = untrained_head(frames, labels, classes_of(texts, chinese), replace(DUAL, second_weight=0.3))
    video = u(frames.astype(np.float64).mean(axis=(1, 2)))
    expected = 0.3 * video @ u(texts.sentence.astype(np.float64)).T
    expected += 0.7 * video @ u(chinese.sentence.astype(np.float64)).T
    np.testing.assert_allclose(head.scores(frames[:, 0]), expected, atol=1e-6)


def loop_of_spotting(frames, words, owners, sentence, pool=lambda f: f):
    """Concept spotting in float64, video by video, class by class, word by word."""
    scores = np.empty((len(frames), len(sentence)))
    for n, video in enumerate(frames.astype(np.float64)):
        for c in range(len(sentence)):
            own = [softmax(u(video) @ u(words[q]) / 0.01) for q in np.flatnonzero(owners == c)]
            pooled = np.mean(own, axis=0) @ pool(u(video))
            scores[n, c] = u(pooled) @ u(sentence[c].astype(np.float64))
    return scores


@pytest.mark.parametrize("own_words", [False, True])
def test_the_words_of_one_language_weigh_the_frames_for_both_or_each_its_own(
    texts, chinese, videos, own_words
):
    frames, labels = videos
    config = replace(DUAL, pool="vcs", projection=False, temporal="conv")
    head = untrained_head(frames, labels, classes_of(texts, chinese, own_words=own_words), config)
    with torch.inference_mode():
        sequence = head.temporal(torch.from_numpy(frames[:5, 0]))
        found = head.language_scores(torch.from_numpy(frames[:5, 0]))[1].numpy()
    by = chinese if own_words else texts
    owners = np.repeat(np.arange(3), np.diff(by.offsets))
    expected = loop_of_spotting(sequence.numpy(), by.words.astype(np.float64), owners, chinese.sentence)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_another_dimension_is_reached_by_a_trained_map(texts, videos, rng):
    frames, labels = videos
    other = some_texts(rng, 24)
    with pytest.raises(FitError, match="24 dimensions, the frames 16"):
        untrained_head(frames, labels, classes_of(texts, other), DUAL)
    classes = classes_of(texts, other, projects=True)
    config = replace(DUAL, pool="vcs", second_weight=0.0)
    before = untrained_head(frames, labels, classes, config)
    matrix = before.second.projection.matrix.detach().double().numpy()
    owners = np.repeat(np.arange(3), np.diff(texts.offsets))
    expected = loop_of_spotting(
        frames[:5, 0], texts.words.astype(np.float64), owners, other.sentence, pool=lambda f: f @ matrix
    )
    np.testing.assert_allclose(before.scores(frames[:5, 0]), expected, atol=2e-5)
    after = fit_head(frames, labels, classes, config, TrainSettings(epochs=20, held_out=0)).head
    right = [100 * (head.scores(frames[:, 0]).argmax(axis=1) == labels).mean() for head in (before, after)]
    assert right[1] > right[0] + 20


def test_the_losses_of_both_languages_are_added(rng):
    scores = [torch.from_numpy(rng.standard_normal((8, 3))) for _ in range(2)]
    labels = torch.from_numpy(rng.integers(3, size=8))
    for form in ("cross-entropy", "paper", "released"):
        first, second = (float(scores_loss(each, labels, form=form)) for each in scores)
        found = float(languages_loss(scores, labels, second_weight=0.4, form=form))
        assert found == pytest.approx(first + 0.4 * second)
    assert float(languages_loss(scores[:1], labels)) == float(scores_loss(scores[0], labels))


def test_the_same_rows_twice_change_nothing_but_the_scale_of_the_loss(texts, chinese, videos):
    frames, labels = videos
    settings = TrainSettings(epochs=5, weight_decay=0, held_out=0)
    alone = fit_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig(), settings).head
    twice = fit_head(frames, labels, classes_of(texts, texts), DUAL, settings).head
    dual = fit_head(frames, labels, classes_of(texts, chinese), DUAL, settings).head
    np.testing.assert_allclose(twice.scores(frames[:, 0]), alone.scores(frames[:, 0]), atol=1e-4)
    # The check sees a language that says something else.
    assert np.abs(dual.scores(frames[:, 0]) - alone.scores(frames[:, 0])).max() > 1e-2


def test_no_weight_on_the_second_loss_trains_the_first_language_alone(texts, chinese, videos):
    frames, labels = videos
    settings = TrainSettings(epochs=3, held_out=0)
    alone = fit_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig(), settings).head
    classes, config = classes_of(texts, chinese), replace(DUAL, second_weight=1.0)
    silent = fit_head(frames, labels, classes, config, replace(settings, second_loss_weight=0.0)).head
    np.testing.assert_array_equal(silent.scores(frames[:, 0]), alone.scores(frames[:, 0]))


@pytest.mark.parametrize("own_words", [False, True])
@pytest.mark.parametrize("pool", ["mean", "vcs"])
def test_a_file_brings_back_both_languages(texts, chinese, videos, tmp_path, pool, own_words):
    frames, labels = videos
    classes = classes_of(texts, chinese, own_words=own_words)
    head = fit_head(frames, labels, classes, replace(DUAL, pool=pool), TrainSettings(epochs=1)).head
    save_head(tmp_path / "head", StoredHead(head, an_identity(), NAMES, {"prompts": ["{}"]}))
    back = load_head(tmp_path / "head").module
    assert isinstance(back, VideoHead)
    np.testing.assert_array_equal(back.scores(frames[:, 0]), head.scores(frames[:, 0]))
    np.testing.assert_allclose(
        back.select([2, 0]).scores(frames[:, 0]), head.scores(frames[:, 0])[:, [2, 0]], atol=1e-6
    )
    with pytest.raises(ValueError, match="a head of two languages.* are fixed"):
        back.with_classes(texts.sentence)


def test_a_file_whose_languages_do_not_fit_is_refused(texts, chinese, videos, tmp_path):
    frames, labels = videos
    head = untrained_head(frames, labels, classes_of(texts, chinese), DUAL)
    head.second.class_embeddings = head.second.class_embeddings[:2]
    save_head(tmp_path / "head", StoredHead(head, an_identity(), NAMES, {"prompts": ["{}"]}))
    with pytest.raises(HeadError, match="2 classes in the second language, 3 in the first"):
        load_head(tmp_path / "head")


def test_fused_probabilities_are_the_softmax_of_the_scores(rng):
    first, second = (rng.uniform(-1, 1, (6, 4)).astype(np.float32) for _ in range(2))
    fused = (
        fuse_scores(torch.from_numpy(first), torch.from_numpy(second), 0.2, "probabilities").double().numpy()
    )
    logits = [np.log(share) + s / 0.01 - logsumexp(s / 0.01, axis=1, keepdims=True)
              for share, s in ((0.2, first.astype(np.float64)), (0.8, second.astype(np.float64)))]  # fmt: skip
    np.testing.assert_allclose(fused, 0.01 * np.logaddexp(*logits), atol=1e-5)
    alone = fuse_scores(torch.from_numpy(first), torch.from_numpy(second), 1.0, "probabilities").numpy()
    np.testing.assert_array_equal(alone.argmax(axis=1), first.argmax(axis=1))


def test_the_weight_is_the_one_that_recognizes_most(rng):
    labels = rng.integers(3, size=60)
    good = np.eye(3, dtype=np.float32)[labels]
    noise = rng.standard_normal((60, 3)).astype(np.float32)
    assert choose_weight(good, noise, labels, "scores") > 0.7
    assert choose_weight(noise, good, labels, "scores") < 0.3
    assert choose_weight(good, good, labels, "scores") == 0.5
    with pytest.raises(ValueError, match="there are none"):
        choose_weight(good[:0], noise[:0], labels[:0], "scores")


def test_an_automatic_weight_needs_held_out_videos(texts, chinese, videos):
    frames, labels = videos
    classes, config = classes_of(texts, chinese), replace(DUAL, second_weight=None)
    with pytest.raises(FitError, match="held out of the training, and none are"):
        fit_head(frames, labels, classes, config, TrainSettings(epochs=1, held_out=0))
    head = fit_head(frames, labels, classes, config, TrainSettings(epochs=1, held_out=0.3)).head
    # The videos lie about the rows of the first language; those of the second are noise.
    assert head.config.second_weight > 0.5


def test_a_space_is_foreign_where_classes_do_not_find_themselves(rng):
    first = rng.standard_normal((40, 8)).astype(np.float32)
    assert not is_foreign(first, first + 0.1 * rng.standard_normal((40, 8)))
    assert is_foreign(first, rng.standard_normal((40, 8)).astype(np.float32))
    assert is_foreign(first, first[:, :4])


@pytest.mark.parametrize("changes", [{"classifier": "lda"}, {"prompt_context": 4}])
def test_rejects_heads_that_have_no_second_language(changes):
    with pytest.raises(ValueError, match="goes with the text classifier"):
        replace(DUAL, **changes)
