"""Concept spotting equals its formula, written out, and obeys its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidclip.cache import TextEmbeddings
from vidclip.pipeline.scoring import ConceptSpotter, ConceptSpottingConfig, spotting_scores


def some_texts(rng, counts, dimensions=12, word_mode="name"):
    counts = np.asarray(counts)
    return TextEmbeddings(
        phrases=tuple(f"class {i}" for i in range(len(counts))),
        prompts=("{}",),
        word_mode=word_mode,
        sentence=rng.standard_normal((len(counts), dimensions)).astype(np.float32) * 3,
        words=rng.standard_normal((counts.sum(), dimensions)).astype(np.float32) * 2,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )


def u(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(frames, texts, spotting):
    """METHODS, one video, one class and one word at a time, in float64: (scores [N, C], saliency [N, C, T])."""
    frames = u(frames.astype(np.float64))
    sentence, words = u(texts.sentence.astype(np.float64)), u(texts.words.astype(np.float64))
    scores = np.empty((len(frames), len(sentence)))
    saliency = np.empty((len(frames), len(sentence), frames.shape[1]))
    for n, f in enumerate(frames):
        for c in range(len(sentence)):
            own = words[texts.offsets[c] : texts.offsets[c + 1]]
            queries = own if spotting.saliency == "words" else sentence[c : c + 1]
            shares = [np.exp((f @ w) / spotting.temperature) for w in queries]
            saliency[n, c] = np.mean([share / share.sum() for share in shares], axis=0)
            e = saliency[n, c] @ f
            target = sentence[c] if spotting.recognition == "sentence" else u(own.mean(axis=0))
            scores[n, c] = (u(e) if spotting.renormalize else e) @ target
    return scores, saliency


SETTINGS = [
    ConceptSpottingConfig(saliency, recognition, temperature, renormalize)
    for saliency in ("words", "sentence")
    for recognition in ("words", "sentence")
    for temperature in (0.01, 0.2, 5.0)
    for renormalize in (True, False)
]


@pytest.mark.parametrize("spotting", SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("n", "times", "counts"),
    [(5, 8, [3, 1, 2, 2, 5]), (3, 1, [2, 4]), (2, 4, [3]), (1, 3, [77, 77, 77]), (1100, 2, [1, 2])],
    ids=["ragged", "one frame", "one class", "all positions", "more than a block"],
)
def test_it_equals_the_formula(rng, spotting, n, times, counts):
    texts = some_texts(rng, counts)
    frames = rng.standard_normal((n, times, 12)).astype(np.float32) * 7
    scores, saliency = by_hand(frames, texts, spotting)
    spotter = ConceptSpotter(texts, spotting)
    np.testing.assert_allclose(spotter.scores(frames), scores, atol=1e-5)
    np.testing.assert_allclose(spotter.saliency(frames), saliency, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("query", ["words", "sentence"])
def test_on_a_gpu_it_equals_the_formula(rng, query):
    texts, spotting = some_texts(rng, rng.integers(1, 5, 40)), ConceptSpottingConfig(query)
    frames = rng.standard_normal((300, 4, 12)).astype(np.float32)
    scores, saliency = by_hand(frames, texts, spotting)
    spotter = ConceptSpotter(texts, spotting, device="cuda")
    np.testing.assert_allclose(spotter.scores(frames), scores, atol=1e-4)
    np.testing.assert_allclose(spotter.saliency(frames), saliency, atol=1e-4)


def test_classes_are_cut_into_pieces_where_there_are_many(rng, monkeypatch):
    texts = some_texts(rng, rng.integers(1, 5, 200))
    frames = rng.standard_normal((40, 4, 12)).astype(np.float32)
    monkeypatch.setattr(ConceptSpotter, "_block_bytes", 10_000)
    found = ConceptSpotter(texts).scores(frames)
    np.testing.assert_allclose(found, by_hand(frames, texts, ConceptSpottingConfig())[0], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))
def test_laws(seed, n, times, classes):
    rng = np.random.default_rng(seed)
    texts = some_texts(rng, rng.integers(1, 4, classes))
    frames = rng.standard_normal((n, times, 12)).astype(np.float32)
    spotter = ConceptSpotter(texts)
    scores, saliency = spotter.scores(frames), spotter.saliency(frames)
    np.testing.assert_allclose(saliency.sum(axis=2), 1, rtol=1e-5)
    assert (saliency >= 0).all()
    # neither the order of videos, nor of frames, nor of classes, nor of a class's words matters
    videos, order, shown = rng.permutation(n), rng.permutation(classes), rng.permutation(times)
    np.testing.assert_allclose(spotter.scores(frames[videos]), scores[videos], atol=1e-5)
    np.testing.assert_allclose(spotter.scores(frames[:, shown]), scores, atol=1e-5)
    np.testing.assert_allclose(spotter.saliency(frames[:, shown]), saliency[:, :, shown], atol=1e-5)
    spans = [texts.words[texts.offsets[c] : texts.offsets[c + 1]] for c in order]
    reordered = TextEmbeddings(
        tuple(texts.phrases[c] for c in order),
        texts.prompts,
        texts.word_mode,
        texts.sentence[order],
        np.concatenate([rng.permutation(span) for span in spans]),
        np.cumsum([0, *map(len, spans)]),
    )
    np.testing.assert_allclose(ConceptSpotter(reordered).scores(frames), scores[:, order], atol=1e-5)
    # the lengths of embeddings do not matter, as they are made unit
    np.testing.assert_allclose(spotter.scores(frames * 9), scores, atol=1e-5)


def test_extreme_temperatures_are_the_mean_and_the_best_frame(rng):
    texts = some_texts(rng, [1, 1])
    frames = rng.standard_normal((4, 6, 12)).astype(np.float32)
    unit, sentence = u(frames), u(texts.sentence)
    mean = ConceptSpotter(texts, ConceptSpottingConfig(temperature=1e6)).scores(frames)
    np.testing.assert_allclose(mean, u(unit.mean(axis=1)) @ sentence.T, atol=1e-4)
    best = ConceptSpotter(texts, ConceptSpottingConfig("sentence", temperature=1e-5)).scores(frames)
    np.testing.assert_allclose(best, (unit @ sentence.T).max(axis=1), atol=1e-4)


def test_very_unlike_frames_do_not_underflow(rng):
    """exp(cosine / 0.01) of cosines near -1 is zero in float32 unless the largest is taken off first."""
    texts = some_texts(rng, [2])
    frames = np.tile(-texts.words[:1], (1, 3, 1))
    assert np.isfinite(ConceptSpotter(texts).scores(frames)).all()


def test_what_cannot_be_spotted(rng):
    texts = some_texts(rng, [1, 0, 2])
    with pytest.raises(ValueError, match="'class 1' has no word embeddings"):
        ConceptSpotter(texts)
    spotter = ConceptSpotter(texts, ConceptSpottingConfig("sentence", "sentence"))
    with pytest.raises(ValueError, match=r"frames must be \[N, T, 12\] with T at least 1"):
        spotter.scores(np.zeros((2, 0, 12), np.float32))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        ConceptSpottingConfig(temperature=0)
    with pytest.raises(ValueError, match="saliency must be one of words, sentence"):
        ConceptSpottingConfig("word")


# --- the definition and its fast equal


def some_frames(rng, videos=3, times=5, dimension=16):
    return torch.from_numpy(rng.standard_normal((videos, times, dimension)).astype(np.float32))


def owners_of(texts):
    return torch.from_numpy(np.repeat(np.arange(len(texts.phrases)), np.diff(texts.offsets)))


@pytest.mark.parametrize("temperature", [0.01, 0.3])
@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("saliency", ["words", "sentence"])
def test_blocks_equal_the_definition(rng, temperature, renormalize, saliency):
    texts = some_texts(rng, [3, 1, 2, 2, 5], 16)
    frames = some_frames(rng, videos=6, times=8) * 20
    expected = ConceptSpotter(
        texts, ConceptSpottingConfig(saliency, temperature=temperature, renormalize=renormalize)
    ).scores(frames)
    sentence, words = torch.from_numpy(texts.sentence), torch.from_numpy(texts.words)
    owners = owners_of(texts)
    if saliency == "sentence":
        words, owners = sentence, torch.arange(5)
    how = {"temperature": temperature, "renormalize": renormalize}
    np.testing.assert_allclose(spotting_scores(frames, words, owners, sentence, **how), expected, atol=1e-5)
    order = torch.randperm(len(owners), generator=torch.Generator().manual_seed(0))
    mixed = spotting_scores(frames, words[order], owners[order], sentence, **how)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)


@pytest.mark.parametrize("renormalize", [True, False])
def test_definition_passes_gradcheck(rng, renormalize):
    frames, queries, targets = (
        torch.from_numpy(rng.standard_normal(shape)).requires_grad_() for shape in [(2, 3, 4), (5, 4), (3, 4)]
    )
    owners = torch.tensor([0, 0, 1, 2, 2])

    def scores(frames, queries, targets):
        return spotting_scores(frames, queries, owners, targets, temperature=0.2, renormalize=renormalize)

    assert torch.autograd.gradcheck(scores, (frames, queries, targets))


def test_gradient_is_finite_for_extreme_frames(rng):
    frames = some_frames(rng, videos=4, times=3)
    frames[0] = frames[0, 0]  # all frames alike
    frames[1, 2] = -frames[1, 0]
    frames[2] = 0  # no direction at all
    leaf = frames.clone().requires_grad_()
    texts = some_texts(rng, [2, 1], 16)
    scores = spotting_scores(
        leaf,
        torch.from_numpy(texts.words),
        owners_of(texts),
        torch.from_numpy(texts.sentence),
        temperature=1e-4,
    )
    scores.sum().backward()
    assert torch.isfinite(scores).all()
    assert torch.isfinite(leaf.grad).all()


def test_definition_rejects_shapes_that_do_not_fit(rng):
    frames, targets = some_frames(rng), torch.ones(2, 16)
    queries = torch.ones(3, 16)
    with pytest.raises(ValueError, match="class 1 has no query"):
        spotting_scores(frames, queries, torch.tensor([0, 0, 0]), targets)
    with pytest.raises(ValueError, match="owners must be between 0 and 1"):
        spotting_scores(frames, queries, torch.tensor([0, 1, 2]), targets)
    with pytest.raises(ValueError, match=r"queries \(3, 16\), owners \(2,\) .* do not fit"):
        spotting_scores(frames, queries, torch.tensor([0, 1]), targets)
    with pytest.raises(ValueError, match="have 16 dimensions, but 8"):
        spotting_scores(frames, torch.ones(2, 8), torch.tensor([0, 1]), torch.ones(2, 8))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        spotting_scores(frames, targets, torch.tensor([0, 1]), targets, temperature=0)
