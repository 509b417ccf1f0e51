"""Heads over frame embeddings: what they score untrained, what training changes, what a file brings back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import an_identity
from vidclip.cache import TextEmbeddings
from vidclip.pipeline.heads import (
    ClassTexts,
    FitError,
    HeadConfig,
    HeadError,
    HeadScorer,
    StoredHead,
    TrainSettings,
    VideoHead,
    fit_head,
    head_inputs,
    load_head,
    save_head,
    untrained_head,
    word_queries,
)
from vidclip.pipeline.scoring import (
    ConceptSpotter,
    ConceptSpottingConfig,
    cosine_scores,
    mean_embeddings,
    view_scores,
)

NAMES = ("dig", "swim", "bake a cake")
D = 16


@pytest.fixture
def texts(rng) -> TextEmbeddings:
    counts = [1, 2, 3]
    return TextEmbeddings(
        NAMES, ("{}",), "name", rng.standard_normal((3, D)).astype(np.float32),
        rng.standard_normal((6, D)).astype(np.float32), np.cumsum([0, *counts]),
    )  # fmt: skip


@pytest.fixture
def videos(rng, texts):
    """90 videos of two views and four frames, somewhere near their class; (frames, labels)."""
    labels = np.arange(90) % 3
    frames = texts.sentence[labels][:, None, None] + 2.5 * rng.standard_normal((90, 2, 4, D))
    return frames.astype(np.float16), labels


def test_an_untrained_text_head_is_the_cosine_of_the_mean_frame(texts, videos):
    frames, _ = videos
    expected = cosine_scores(mean_embeddings(frames[:, :1]), texts.sentence)
    for temporal in ("mean", "conv", "transformer", "mit"):
        config = HeadConfig("text", temporal)
        head = untrained_head(frames, np.zeros(90, int), ClassTexts(NAMES, texts), config)
        found = head.scores(head_inputs(frames[:, :1], config))
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=temporal)
        np.testing.assert_allclose(head.scores(frames[:, 0]), expected, atol=2e-4)


def test_an_untrained_head_with_words_is_concept_spotting(texts, videos):
    frames, labels = videos
    head = untrained_head(
        frames, labels, ClassTexts(NAMES, texts), HeadConfig(pool="vcs", spotting_temperature=0.07)
    )
    expected = ConceptSpotter(texts, ConceptSpottingConfig(temperature=0.07)).scores(frames[:, 1])
    np.testing.assert_allclose(head.scores(frames[:, 1]), expected, atol=1e-4)


def test_several_views_are_the_mean_of_their_probabilities(texts, videos):
    frames, labels = videos
    head = untrained_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig())
    scorer = HeadScorer(head, temperature=0.1)
    similarities = scorer.similarities(np.arange(90), frames)
    two = scorer.scores(similarities, np.array([0, 2]))
    for n, c in ((0, 0), (17, 1)):
        by_view = []
        for v in range(2):
            logits = (
                cosine_scores(mean_embeddings(frames[n : n + 1, v : v + 1]), texts.sentence[[0, 2]])[0] / 0.1
            )
            by_view.append(np.exp(logits[c]) / np.exp(logits).sum())
        assert two[n, c] == pytest.approx(np.mean(by_view), rel=1e-4)
    single = np.array([[[0.3, 0.1]]])
    np.testing.assert_array_equal(view_scores(single), single[:, 0])


def fitted_scores(frames, labels, texts, config, **settings):
    fitted = fit_head(frames, labels, ClassTexts(NAMES, texts), config, TrainSettings(epochs=8, **settings))
    return fitted, fitted.head.scores(head_inputs(frames[:, :1], config))


@pytest.mark.parametrize("classifier", ["text", "random", "orthogonal", "lda", "linear"])
def test_only_linear_class_embeddings_are_trained(texts, videos, classifier):
    frames, labels = videos
    config = HeadConfig(classifier)
    before = untrained_head(frames, labels, ClassTexts(NAMES, texts), config)
    fitted, scores = fitted_scores(frames, labels, texts, config, held_out=0, learning_rate=0.02)
    if classifier == "linear":
        assert not torch.allclose(fitted.head.class_embeddings, before.class_embeddings, atol=0.1)
    else:
        torch.testing.assert_close(fitted.head.class_embeddings, before.class_embeddings, rtol=0, atol=0)
    accuracy = (scores.argmax(axis=1) == labels).mean()
    start = (before.scores(head_inputs(frames[:, :1], config)).argmax(axis=1) == labels).mean()
    assert accuracy > max(0.6, start)
    assert fitted.epochs[-1].loss < fitted.epochs[0].loss


@pytest.mark.parametrize("loss", ["cross-entropy", "paper", "released"])
def test_training_with_every_loss_improves(texts, videos, loss):
    frames, labels = videos
    shuffled = replace(texts, sentence=texts.sentence[[1, 2, 0]])  # the encoder knows the classes wrongly
    _, scores = fitted_scores(frames, labels, shuffled, HeadConfig(), loss=loss, learning_rate=0.02)
    assert (scores.argmax(axis=1) == labels).mean() > 0.7


def test_order_is_learned_by_the_transformers_alone(rng, texts):
    """Two classes of the same frames, forwards and backwards."""
    path = 2 * np.linspace(-1, 1, 4)[:, None] * rng.standard_normal(D)
    labels = np.arange(200) % 2
    frames = np.stack([path if label == 0 else path[::-1] for label in labels]) + 3 * texts.sentence[0]
    frames = (frames + 0.3 * rng.standard_normal(frames.shape)).astype(np.float32)[:, None]
    two = replace(
        texts,
        phrases=NAMES[:2],
        sentence=texts.sentence[:2],
        words=texts.words[:3],
        offsets=texts.offsets[:3],
    )
    right = {}
    for temporal in ("mean", "transformer", "mit"):
        config = HeadConfig("text", temporal)
        settings = TrainSettings(epochs=30, held_out=0, learning_rate=3e-3)
        head = fit_head(frames[:100], labels[:100], ClassTexts(NAMES[:2], two), config, settings).head
        right[temporal] = (head.scores(frames[100:, 0]).argmax(axis=1) == labels[100:]).mean()
    assert right["mean"] < 0.75
    assert min(right["transformer"], right["mit"]) > 0.9


def head_configs():
    for classifier, temporal, pool in itertools.product(
        ("text", "linear"), ("mean", "conv", "transformer", "mit"), ("mean", "vcs")
    ):
        yield HeadConfig(classifier, temporal, pool)
    yield HeadConfig("lda", projection=True)


@pytest.mark.parametrize("config", list(head_configs()), ids=lambda config: config.name)
def test_loaded_head_gives_the_same_scores(texts, videos, tmp_path, config):
    frames, labels = videos
    fitted = fit_head(frames, labels, ClassTexts(NAMES, texts), config, TrainSettings(epochs=1, seed=3))
    again = fit_head(frames, labels, ClassTexts(NAMES, texts), config, TrainSettings(epochs=1, seed=3))
    for name, each in (("a", fitted), ("b", again)):
        save_head(tmp_path / name, StoredHead(each.head, an_identity(), NAMES, {"epochs": 1}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes(), "one seed, one file"
    loaded = load_head(tmp_path / "a")
    assert (loaded.kind, loaded.classes, loaded.context) == ("video", NAMES, None)
    assert isinstance(loaded.module, VideoHead)
    assert loaded.module.config == replace(config, projection=fitted.head.projection is not None)
    np.testing.assert_array_equal(loaded.module.scores(frames[:, 0]), fitted.head.scores(frames[:, 0]))


def test_another_seed_is_another_head(texts, videos, tmp_path):
    frames, labels = videos
    made = [
        fit_head(
            frames,
            labels,
            ClassTexts(NAMES, texts),
            HeadConfig("text", "mit"),
            TrainSettings(epochs=1, seed=s),
        ).head
        for s in (1, 2)
    ]
    assert not torch.equal(made[0].temporal.positions, made[1].temporal.positions)


def test_some_classes_of_a_head_or_other_ones(texts, videos):
    frames, labels = videos
    for pool in ("mean", "vcs"):
        config = HeadConfig("text", "mit", pool)
        head = fit_head(frames, labels, ClassTexts(NAMES, texts), config, TrainSettings(epochs=2)).head
        every = head.scores(frames[:, 0])
        np.testing.assert_allclose(head.select([2, 0]).scores(frames[:, 0]), every[:, [2, 0]], atol=1e-6)
        turned = replace(
            texts,
            sentence=texts.sentence[::-1],
            words=texts.words[[3, 4, 5, 1, 2, 0]],
            offsets=np.array([0, 3, 5, 6]),
        )
        other = head.with_classes(turned.sentence, word_queries(turned) if pool == "vcs" else None)
        np.testing.assert_allclose(other.scores(frames[:, 0]), every[:, ::-1], atol=1e-6)
    with pytest.raises(ValueError, match="classifier linear are fixed"):
        untrained_head(frames, labels, ClassTexts(NAMES), HeadConfig("linear")).with_classes(texts.sentence)
    with pytest.raises(ValueError, match="3 dimensions, the head's 16"):
        head.with_classes(texts.sentence[:, :3])


def test_projection_reaches_class_embeddings_of_another_dimension(rng, texts, videos):
    frames, labels = videos
    wide = replace(
        texts,
        sentence=rng.standard_normal((3, 24)).astype(np.float32),
        words=np.zeros((0, 24)),
        offsets=np.zeros(4, int),
    )
    fitted, scores = fitted_scores(frames, labels, wide, HeadConfig(), held_out=0, learning_rate=0.01)
    assert fitted.head.projection is not None
    assert (scores.argmax(axis=1) == labels).mean() > 0.7
    with pytest.raises(FitError, match="words have 16 dimensions, the class embeddings 24"):
        fit_head(
            frames,
            labels,
            ClassTexts(NAMES, replace(wide, words=texts.words, offsets=texts.offsets)),
            HeadConfig(pool="vcs"),
        )


class CountedPrompt:
    """Like PromptLearner, on a text tower that is one matrix; counts its passes."""

    length = 2

    def __init__(self, sentence):
        self.sentence = torch.from_numpy(sentence)
        self.passes = 0

    def initial_context(self, seed):
        return 0.1 * torch.randn(2, self.sentence.shape[1], generator=torch.Generator().manual_seed(seed))

    def __call__(self, context):
        self.passes += 1
        return self.sentence + context.sum(dim=0)


def test_a_learned_prompt_makes_the_class_embeddings(texts, videos):
    frames, labels = videos
    prompt = CountedPrompt(texts.sentence - 3)
    config = HeadConfig(prompt_context=2)
    settings = TrainSettings(epochs=6, batch_size=20, held_out=0, learning_rate=0.2)
    fitted = fit_head(frames, labels, ClassTexts(NAMES, texts, prompt), config, settings)
    assert fitted.head.projection is None, "the prompt is what is trained"
    assert not torch.equal(fitted.context, prompt.initial_context(0))
    torch.testing.assert_close(fitted.head.class_embeddings, prompt(fitted.context))
    assert fitted.epochs[-1].loss < 0.7 * fitted.epochs[0].loss
    with pytest.raises(FitError, match="needs a prompt learner of 3 vectors"):
        fit_head(frames, labels, ClassTexts(NAMES, texts, prompt), HeadConfig(prompt_context=3), settings)


def test_epoch_size_decides_the_iterations(texts, videos):
    frames, labels = videos
    settings = TrainSettings(epochs=3, batch_size=10, held_out=0)
    for an_epoch, batches in ((None, 2), (95, 10)):
        prompt = CountedPrompt(texts.sentence)
        fit_head(  # nine videos of two views each: 18 examples
            frames[:9], labels[:9], ClassTexts(NAMES, texts, prompt), HeadConfig(prompt_context=2), settings,
            epoch_size=an_epoch,
        )  # fmt: skip
        assert prompt.passes == 3 * batches + 1, "one pass more, at the end, makes the class embeddings"


def test_training_ends_without_improvement_on_the_validation_part(rng, texts):
    """Labels drawn at random: what is learned of them is of no use to other videos."""
    frames = rng.standard_normal((120, 1, 4, D)).astype(np.float32)
    labels = rng.integers(3, size=120)
    settings = TrainSettings(epochs=60, warm_up_epochs=2, patience=4, held_out=0.5, learning_rate=0.01)
    fitted = fit_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig(), settings)
    held = [(epoch.held_out_top1, -epoch.held_out_loss) for epoch in fitted.epochs]
    assert len(held) < 60
    gains = [
        n + 1
        for n, (top1, loss) in enumerate(held)
        if n == 0 or top1 > max(t for t, _ in held[:n]) or loss > max(x for _, x in held[:n])
    ]
    assert len(held) == max(gains[-1], 2) + 4
    assert fitted.best_epoch == held.index(max(held)) + 1
    longer = fit_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig(), replace(settings, patience=5))
    assert (longer.best_epoch, len(longer.epochs)) == (fitted.best_epoch, len(held) + 1)
    torch.testing.assert_close(longer.head.projection.matrix, fitted.head.projection.matrix, rtol=0, atol=0)


def test_rejects_data_that_cannot_be_trained_on(texts, videos):
    frames, labels = videos
    known = ClassTexts(NAMES, texts)
    bad = frames.copy()
    bad[7, 1, 2, 3] = np.nan
    with pytest.raises(FitError, match="training video 7 hold numbers that are not finite"):
        fit_head(bad, labels, known)
    with pytest.raises(FitError, match="all of one class"):
        fit_head(frames, np.zeros_like(labels), known)
    with pytest.raises(FitError, match="labels lie between 0 and 2, but there are 2 classes"):
        fit_head(frames, labels, ClassTexts(NAMES[:2], texts))
    with pytest.raises(FitError, match="needs the text embeddings"):
        fit_head(frames, labels, ClassTexts(NAMES))
    with pytest.raises(FitError, match="1 of 3 classes have no training video, 'bake a cake' among them"):
        fit_head(frames[labels < 2], labels[labels < 2], known, HeadConfig("lda"))
    with pytest.raises(ValueError, match="learning_rate must be above 0 and at most 1"):
        TrainSettings(learning_rate=1e38)
    with pytest.raises(ValueError, match="weight_decay must be at least 0"):
        TrainSettings(weight_decay=-1)
    with pytest.raises(FitError, match=r"must be \[N, V, T, D\]"):
        fit_head(frames[0], labels, known)
    with pytest.raises(ValueError, match="classifier must be one of text, random"):
        HeadConfig("bert")
    with pytest.raises(ValueError, match="a learned prompt needs the text classifier"):
        HeadConfig("lda", prompt_context=4)


def test_rejects_another_number_of_frames_where_there_are_positions(texts, videos, tmp_path):
    frames, labels = videos
    head = fit_head(
        frames, labels, ClassTexts(NAMES, texts), HeadConfig("text", "mit"), TrainSettings(epochs=1)
    ).head
    stored = StoredHead(head, an_identity(), NAMES, {})
    stored.check_features((5, 1, 4, D), "features")
    with pytest.raises(
        HeadError, match="positions for 4 frames, but features has 8 a clip. Extract with --frames 4"
    ):
        stored.check_features((5, 1, 8, D), "features")
    free = untrained_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig())
    StoredHead(free, an_identity(), NAMES, {}).check_features((5, 1, 8, D), "features")


@pytest.mark.gpu
@pytest.mark.parametrize("temporal", ["mean", "conv", "transformer", "mit"])
def test_few_shot_training_on_a_gpu_learns_what_it_learns_on_a_cpu(texts, videos, temporal):
    frames, labels = videos
    settings = TrainSettings(epochs=4, held_out=0.0, batch_size=16)
    own, exact = (
        fit_head(
            frames[:30], labels[:30], ClassTexts(NAMES, texts), HeadConfig("linear", temporal), settings,
            epoch_size=90, device=device,
        )
        for device in ("cuda", "cpu")
    )  # fmt: skip
    losses = [[epoch.loss for epoch in fitted.epochs] for fitted in (own, exact)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02, atol=0.01)
    assert losses[0][-1] < losses[0][0]
    best = [fitted.head.scores(frames[30:, 0]).argmax(axis=1) for fitted in (own, exact)]
    assert np.mean(best[0] == best[1]) > 0.95


@pytest.mark.gpu
def test_a_head_trained_on_a_gpu_runs_on_a_cpu(texts, videos, tmp_path):
    frames, labels = videos
    fitted = fit_head(
        frames,
        labels,
        ClassTexts(NAMES, texts),
        HeadConfig("text", "mit"),
        TrainSettings(epochs=2),
        device="cuda",
    )
    save_head(tmp_path / "h", StoredHead(fitted.head, an_identity(), NAMES, {}))
    loaded = load_head(tmp_path / "h").module
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    np.testing.assert_allclose(loaded.scores(frames[:, 0]), fitted.head.scores(frames[:, 0]), atol=1e-4)


# --- forms of released code


def released_transformer(frames, head):
    """T-Trans of released Text4Vis for one view [T, D], one attention head after the other, in float64."""
    weight = {name: tensor.numpy().astype(np.float64) for name, tensor in head.temporal.state_dict().items()}

    def norm(x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
        return x * weight[f"{name}.weight"] + weight[f"{name}.bias"]

    def linear(x, name):
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    x = frames.astype(np.float64) + weight["positions"]
    width = D // head.config.heads
    for block in (f"blocks.{i}" for i in range(6)):
        query, key, value = np.split(
            linear(norm(x, f"{block}.attention_norm"), f"{block}.attention_in"), 3, 1
        )
        out = np.zeros_like(x)
        for h in range(head.config.heads):
            own = slice(h * width, (h + 1) * width)
            for t in range(len(x)):
                powers = np.exp(key[:, own] @ query[t, own] / np.sqrt(width))
                out[t, own] = powers / powers.sum() @ value[:, own]
        x = x + linear(out, f"{block}.attention_out")
        hidden = linear(norm(x, f"{block}.mlp_norm"), f"{block}.mlp_in")
        x = x + linear(hidden / (1 + np.exp(-1.702 * hidden)), f"{block}.mlp_out")
    return x + frames


def test_a_head_in_the_released_forms_scores_as_released_code(texts, videos, tmp_path):
    """Four attention heads, features averaged over views (Text4Vis), stored and read again."""
    frames, labels = videos
    config = HeadConfig("text", "transformer", heads=4, view_average="features")
    settings = TrainSettings(epochs=2, learning_rate=1e-2)
    fitted = fit_head(frames, labels, ClassTexts(NAMES, texts), config, settings)
    save_head(tmp_path / "h", StoredHead(fitted.head, an_identity(), NAMES, {}))
    head = load_head(tmp_path / "h").module
    assert isinstance(head, VideoHead)
    assert head.config == replace(config, projection=False)
    scorer = HeadScorer(head)
    found = scorer.scores(scorer.similarities(np.arange(3), frames[:3]), np.arange(3))
    for n in range(3):
        pooled = sum(released_transformer(view, head).mean(axis=0) for view in frames[n]) / 2
        expected = cosine_scores(pooled[None], texts.sentence)[0]
        np.testing.assert_allclose(found[n], expected, atol=1e-4)
    other = HeadScorer(head, view_average="probabilities")
    assert not np.allclose(other.scores(other.similarities(np.arange(3), frames[:3]), np.arange(3)), found)
    assert (
        untrained_head(frames, labels, ClassTexts(NAMES, texts), replace(config, heads=None))
        .temporal.blocks[0]
        .heads
        == 1
    ), "D // 64, at least 1"


def test_concept_spotting_of_the_released_form_in_a_head(texts, videos, tmp_path):
    frames, labels = videos
    config = HeadConfig(pool="vcs", projection=False, words="all", renormalize=False, view_average="unscaled")
    head = untrained_head(frames, labels, ClassTexts(NAMES, texts), config)
    save_head(tmp_path / "h", StoredHead(head, an_identity(), NAMES, {}))
    loaded = load_head(tmp_path / "h").module
    assert isinstance(loaded, VideoHead)
    assert loaded.config == config
    for n, v in ((0, 0), (5, 1)):
        x = frames[n, v].astype(np.float64)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        for c in range(3):
            words = texts.words[texts.offsets[c] : texts.offsets[c + 1]].astype(np.float64)
            shares = 0
            for word in words:
                powers = np.exp((x @ word / np.linalg.norm(word) - 1) / 0.01)
                shares = shares + powers / powers.sum() / len(words)
            sentence = texts.sentence[c] / np.linalg.norm(texts.sentence[c])
            assert loaded.scores(frames[n, v : v + 1])[0, c] == pytest.approx(shares @ x @ sentence, abs=1e-4)
    with pytest.raises(ValueError, match="no features to average over views"):
        replace(config, view_average="features")
    with pytest.raises(ValueError, match="no attention heads"):
        HeadConfig(heads=4)


def test_older_heads_are_read_with_defaults(texts, videos):
    frames, labels = videos
    head = untrained_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig(pool="vcs", projection=True))
    old = {
        name: value
        for name, value in head.structure.items()
        if name not in ("words", "renormalize", "heads", "view_average")
    }
    again = VideoHead.from_structure(old, head.state_dict())
    assert again.config == head.config
    np.testing.assert_array_equal(again.scores(frames[:, 0]), head.scores(frames[:, 0]))


def test_validation_averages_views_as_probabilities(rng, texts):
    """Copies of one video a class, so that it does not matter which of them are held out. The mean of the cosines
    would name another class for some."""
    labels = np.arange(60) % 3
    for seed in range(200):
        one = np.random.default_rng(seed).standard_normal((3, 3, 4, D)) * 4 + texts.sentence[:, None, None]
        frames = one[labels].astype(np.float32)
        scores = np.stack(
            [cosine_scores(mean_embeddings(frames[:3, v : v + 1]), texts.sentence) for v in range(3)], axis=1
        ).astype(np.float64)
        by_view = np.exp(scores / 0.05) / np.exp(scores / 0.05).sum(axis=-1, keepdims=True)
        probabilities = by_view.mean(axis=1)
        right = (probabilities.argmax(axis=1) == np.arange(3)).mean()
        if right != (scores.mean(axis=1).argmax(axis=1) == np.arange(3)).mean():
            break
    else:
        pytest.fail("no seed tells the two rules apart")
    settings = TrainSettings(epochs=1, held_out=0.5, learning_rate=1e-9, temperature=0.05)
    (epoch,) = fit_head(frames, labels, ClassTexts(NAMES, texts), HeadConfig(), settings).epochs
    assert epoch.held_out_top1 == pytest.approx(100 * right)
    loss = -np.log(probabilities[np.arange(3), np.arange(3)]).mean()
    assert epoch.held_out_loss == pytest.approx(loss, rel=1e-3)
