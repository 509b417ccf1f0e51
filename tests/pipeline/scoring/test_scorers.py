"""Pools, fusion and protocols against the same arithmetic written out."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import a_record
from vidclip.cache import FeatureCache, TextEmbeddings
from vidclip.cache.columns import CodedColumn
from vidclip.lexicons import Lexicon
from vidclip.pipeline.encoders import PROMPT_SETS, resolve_prompts
from vidclip.pipeline.evaluation import EvaluationError, compare, evaluate, select_videos
from vidclip.pipeline.scoring import (
    AttributesScorer,
    ConceptSpotter,
    ConceptSpottingConfig,
    FusionScorer,
    MaxScorer,
    MeanScorer,
    SpottingScorer,
    VoteScorer,
    default_fusion,
)

CLASSES = Lexicon("five", tuple("abcde"), tuple("abcde"))
ALL = np.arange(5)


@pytest.fixture
def texts(rng):
    words = rng.standard_normal((10, 16)).astype(np.float32)
    sentence = rng.standard_normal((5, 16)).astype(np.float32)
    return TextEmbeddings(CLASSES.phrases, ("{}",), "name", sentence, words, np.arange(0, 11, 2))


@pytest.fixture
def frames(rng, texts):
    """[40, 2, 3, 16]: videos of all classes, noisy."""
    labels = np.arange(40) % 5
    return (texts.sentence[labels][:, None, None] + 3 * rng.standard_normal((40, 2, 3, 16))).astype(
        np.float16
    )


def u(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def scores_of(scorer, frames, classes=ALL):
    return scorer.scores(scorer.similarities(np.arange(len(frames)), frames), classes)


def test_pools_are_what_they_say(frames, texts):
    flat = frames.astype(np.float64).reshape(40, 6, 16)
    sentence = u(texts.sentence)
    some = np.array([1, 3, 4])
    np.testing.assert_allclose(
        scores_of(MeanScorer(texts.sentence), frames), u(flat.mean(axis=1)) @ sentence.T, atol=1e-5
    )
    np.testing.assert_allclose(
        scores_of(MaxScorer(texts.sentence), frames), (u(flat) @ sentence.T).max(axis=1), atol=1e-5
    )
    vote = softmax((u(flat) @ sentence.T)[:, :, some] / 0.01).mean(axis=1)
    np.testing.assert_allclose(scores_of(VoteScorer(texts.sentence), frames, some), vote, atol=1e-4)
    released = softmax(100 * (flat @ sentence.T)[:, :, some]).mean(axis=1)
    raw = VoteScorer(texts.sentence, raw=True)
    np.testing.assert_allclose(scores_of(raw, frames, some), released, atol=1e-3)


def test_concept_spotting_averages_probabilities_over_views(frames, texts):
    spotter = ConceptSpotter(texts)
    scorer = SpottingScorer(spotter)
    views = np.stack([spotter.scores(frames[:, v].astype(np.float32)) for v in range(2)], axis=1)
    some = np.array([0, 2])
    expected = softmax(views[:, :, some].astype(np.float64) / 0.01).mean(axis=1)
    np.testing.assert_allclose(scores_of(scorer, frames, some), expected, atol=1e-5)
    np.testing.assert_allclose(scores_of(scorer, frames[:, :1]), views[:, 0], atol=1e-6)


def test_fusion_weighs_probabilities(frames, texts, rng):
    read = rng.standard_normal((40, 16)).astype(np.float32)
    video, attributes = MeanScorer(texts.sentence), AttributesScorer(read, texts.sentence)
    some = np.array([0, 1, 4])
    probabilities = [
        softmax(scores_of(s, frames, some).astype(np.float64) / 0.01) for s in (video, attributes)
    ]
    fused = FusionScorer(video, attributes, 0.8)
    np.testing.assert_allclose(
        scores_of(fused, frames, some), 0.8 * probabilities[0] + 0.2 * probabilities[1], atol=1e-5
    )
    np.testing.assert_array_equal(
        scores_of(FusionScorer(video, attributes, 1.0), frames).argmax(1), scores_of(video, frames).argmax(1)
    )
    with pytest.raises(ValueError, match="between 0 and 1"):
        FusionScorer(video, attributes, 1.5)


def test_the_papers_weights_of_fusion():
    assert default_fusion({"vision_cfg": {"width": 768}}) == 0.6  # ViT-B
    assert default_fusion({"vision_cfg": {"width": 1024}}) == 0.8  # ViT-L
    assert default_fusion({}) == 0.6


@pytest.fixture
def cache(write_cache, frames, rng):
    records = []
    for i in range(40):
        split = ["test1", "test1 test2", "test3", "train"][i % 4]
        record = a_record(f"{i:02}", rng, views=2, frames=3, labels=("abcde"[i % 5],), split=split)
        record.frames[:] = frames[i]
        records.append(record)
    return FeatureCache(write_cache(records, shards=[15, 25]))


def test_several_scorers_in_one_pass_equal_each_by_itself(cache, texts, frames):
    scorers = [MeanScorer(texts.sentence), VoteScorer(texts.sentence), SpottingScorer(ConceptSpotter(texts))]
    test = select_videos(cache, CLASSES, by_split_sets=True)
    together = evaluate(cache, test, scorers, "full-classes", 5)
    rows = test.indices
    for scorer, result in zip(scorers, together, strict=True):
        right = scores_of(scorer, frames[rows]).argmax(axis=1) == rows % 5
        assert result.figures["top1"].mean == pytest.approx(100 * right.mean())
    halves = evaluate(cache, test, scorers, "half-classes", 5)
    for scorer, result in zip(scorers, halves, strict=True):
        expected = []
        for seed in range(10):
            drawn = np.sort(np.random.RandomState(seed).permutation(5)[:2])
            mine = rows[np.isin(rows % 5, drawn)]
            right = drawn[scores_of(scorer, frames[mine], drawn).argmax(axis=1)] == mine % 5
            expected.append(100 * right.mean())
        assert result.figures["top1"].mean == pytest.approx(np.mean(expected))


def test_splits_and_class_sets(cache, texts, frames):
    test = select_videos(cache, CLASSES, by_split_sets=True)
    (result,) = evaluate(cache, test, [MeanScorer(texts.sentence)], "splits", 5, video_sets=test.split_sets)
    assert [(name, metrics.n_videos) for name, metrics in result.repetitions] == [
        ("test1", 20), ("test2", 10), ("test3", 10),
    ]  # fmt: skip
    right = scores_of(MeanScorer(texts.sentence), frames).argmax(axis=1) == np.arange(40) % 5
    i = np.arange(40) % 4
    expected = [
        100 * right[(i == 0) | (i == 1)].mean(),
        100 * right[i == 1].mean(),
        100 * right[i == 2].mean(),
    ]
    assert [metrics.top1 for _, metrics in result.repetitions] == pytest.approx(expected)
    assert result.figures["top1"].spread == pytest.approx(np.std(expected))

    sets = {"first": [0, 1], "second": [2, 3, 4]}
    (result,) = evaluate(cache, test, [MeanScorer(texts.sentence)], "kinetics600", 5, class_sets=sets)
    assert [metrics.n_classes for _, metrics in result.repetitions] == [2, 3]
    with pytest.raises(EvaluationError, match="needs the sets of classes"):
        evaluate(cache, test, [MeanScorer(texts.sentence)], "kinetics600", 5)
    with pytest.raises(EvaluationError, match="has no splits test1"):
        select_videos(FeatureCache_without_splits(cache), CLASSES, by_split_sets=True)


class FeatureCache_without_splits:
    """A view of a cache whose list had no splits."""

    def __init__(self, cache):
        self._cache = cache
        self.splits = CodedColumn.of([""] * len(cache))

    def __getattr__(self, name):
        return getattr(self._cache, name)


# --- comparison


def test_paired_comparison_against_exact_resampling(cache, texts):
    test = select_videos(cache, CLASSES, by_split_sets=True)
    mean, best = MeanScorer(texts.sentence), MaxScorer(texts.sentence)
    results = evaluate(cache, test, [mean, best], "full-classes", 5)
    found = compare(results[1], results[0])
    (_, a), (_, b) = results[1].hits[0], results[0].hits[0]
    difference = 100.0 * (a.astype(int) - b)
    assert found.difference == pytest.approx(difference.mean())
    drawn = np.random.default_rng(7).integers(len(a), size=(40_000, len(a)))
    low, high = np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=1.5)
    assert found.high == pytest.approx(high, abs=1.5)
    assert compare(results[0], results[0]).p == 1
    assert str(found).startswith("max - mean: ")

    halves = evaluate(cache, test, [mean, best], "half-classes", 5)
    expected = halves[1].figures["top1"].mean - halves[0].figures["top1"].mean
    assert compare(halves[1], halves[0]).difference == pytest.approx(expected)
    with pytest.raises(EvaluationError, match="did not test the same videos"):
        compare(results[0], halves[0])


def test_a_real_difference_is_significant_and_none_is_not(rng):
    from vidclip.pipeline.evaluation import Result

    def result(hits, name):
        return Result("p", name, {}, [], len(hits), 2, {}, hits=[(np.arange(len(hits)), hits)])

    base = rng.random(400) < 0.5
    better = base | (rng.random(400) < 0.2)
    assert compare(result(better, "a"), result(base, "b")).p < 0.001
    other = rng.random(400) < 0.5
    assert compare(result(other, "a"), result(base, "b")).p > 0.05


def test_the_p_value_is_two_sided():
    """30 videos better, 18 worse, 152 the same: the sign test's normal form says how likely that is by chance."""
    from statistics import NormalDist

    from vidclip.pipeline.evaluation import Result

    better, worse = np.arange(200) < 30, (np.arange(200) >= 30) & (np.arange(200) < 48)

    def result(hits, name):
        return Result("p", name, {}, [], 200, 2, {}, hits=[(np.arange(200), hits)])

    expected = 2 * (1 - NormalDist().cdf((30 - 18) / np.sqrt(30 + 18)))
    assert compare(result(better, "a"), result(worse, "b")).p == pytest.approx(expected, abs=0.03)
    assert compare(result(worse, "b"), result(better, "a")).p == pytest.approx(expected, abs=0.03)


# --- prompts


def test_prompt_sets():
    assert len(PROMPT_SETS["clip-kinetics"]) == 28
    assert "a video of a person doing {}." in PROMPT_SETS["clip-kinetics"]
    assert len(PROMPT_SETS["x-clip"]) == 16
    assert resolve_prompts(["bike", "my {} prompt", "bike"]) == ("This is a video about {}", "my {} prompt")
    for prompts in PROMPT_SETS.values():
        assert all(prompt.count("{}") == 1 for prompt in prompts)
    with pytest.raises(ValueError, match=r"needs one \{\}.*clip-kinetics.*got 'clip'"):
        resolve_prompts(["clip"])


# --- views and fusion in the forms of the papers and of their released code


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def over_views(videos, sentence, classes, view_average):
    """The released arithmetic for one video after the other, in float64: scores [n, c] of videos [n, V, T, D]."""
    found = np.zeros((len(videos), len(classes)))
    for n, video in enumerate(videos.astype(np.float64)):
        if (
            view_average == "features"
        ):  # Text4Vis test.py: pooled features, their mean over views, then the norm
            pooled = np.zeros(video.shape[-1])
            for view in video:
                pooled += view.sum(axis=0) / len(view) / len(video)
            found[n] = [cosine(pooled, sentence[c]) for c in classes]
            continue
        for (
            view
        ) in video:  # BIKE test.py: softmax of the cosines as they are; X-CLIP main.py: of cosines x 100
            pooled = view.sum(axis=0) / len(view)
            scale = 1 if view_average == "unscaled" else 100
            powers = np.exp([scale * cosine(pooled, sentence[c]) for c in classes])
            found[n] += powers / powers.sum() / len(video)
    return found


@pytest.mark.parametrize("view_average", ["probabilities", "unscaled", "features"])
def test_views_are_averaged_as_the_papers_do(frames, texts, view_average):
    some = np.array([4, 0, 2])
    # Views of different lengths: a mean of features weighs them, a mean of probabilities does not.
    frames = frames * np.array([1, 4], np.float16)[:, None, None]
    scorer = MeanScorer(texts.sentence, view_average=view_average)
    expected = over_views(frames, texts.sentence.astype(np.float64), some, view_average)
    np.testing.assert_allclose(scores_of(scorer, frames, some), expected, atol=1e-5)
    for other in {"probabilities", "unscaled", "features"} - {view_average}:
        another = MeanScorer(texts.sentence, view_average=other)
        assert abs(scores_of(another, frames, some) - expected).max() > 0.1, "the forms differ here"
    single = scores_of(scorer, frames[:, 1:], some)
    np.testing.assert_allclose(
        single, over_views(frames[:, 1:], texts.sentence.astype(np.float64), some, "features"), atol=1e-5
    )


def released_spotting(view, texts):
    """Cosines of `modules/video_clip.py` of released BIKE for one view [T, D], class by class, in float64."""
    frames, found = u(view), []
    for c, (first, last) in enumerate(zip(texts.offsets[:-1], texts.offsets[1:], strict=True)):
        attention = np.zeros(len(frames))
        for word in u(texts.words[first:last]):
            powers = np.exp(frames @ word / 0.01 - (frames @ word / 0.01).max())
            attention += powers / powers.sum() / (last - first)
        found.append((attention[:, None] * frames).sum(axis=0) @ u(texts.sentence[c]))
    return np.array(found)


def test_released_bike_spots_and_averages_unscaled_probabilities(frames, texts):
    spotter = ConceptSpotter(texts, ConceptSpottingConfig(renormalize=False))
    scorer = SpottingScorer(spotter, view_average="unscaled")
    expected = np.zeros((len(frames), 5))
    for n, video in enumerate(frames):
        for view in video:
            powers = np.exp(released_spotting(view, texts))
            expected[n] += powers / powers.sum() / 2
    np.testing.assert_allclose(scores_of(scorer, frames), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no features to average over views"):
        SpottingScorer(spotter, view_average="features")
    with pytest.raises(ValueError, match="view_average must be one of probabilities, unscaled, features"):
        MeanScorer(texts.sentence, view_average="cosines")


def test_fusion_in_the_released_form(frames, texts, rng):
    """0.7 and 0.3, on softmaxes of unscaled cosines (fusion_acc of released BIKE)."""
    read = rng.standard_normal((40, 16)).astype(np.float32)
    video = SpottingScorer(
        ConceptSpotter(texts, ConceptSpottingConfig(renormalize=False)), view_average="unscaled"
    )
    attributes = AttributesScorer(read, texts.sentence)
    expected = np.zeros((40, 5))
    for n in range(40):
        for view in frames[n]:
            powers = np.exp(released_spotting(view, texts))
            expected[n] += 0.7 * powers / powers.sum() / 2
        powers = np.exp([cosine(read[n], sentence) for sentence in texts.sentence])
        expected[n] += 0.3 * powers / powers.sum()
    found = scores_of(FusionScorer(video, attributes, 0.7, form="released"), frames)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    paper = scores_of(FusionScorer(video, attributes, 0.7), frames)
    assert (paper.argmax(axis=1) != expected.argmax(axis=1)).any(), "the two forms differ"
    with pytest.raises(ValueError, match="form of fusion must be paper or released"):
        FusionScorer(video, attributes, 0.7, form="unscaled")
