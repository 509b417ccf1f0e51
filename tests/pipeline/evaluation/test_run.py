"""Zero-shot accuracy from a cache, against a brute-force twin."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from helpers import a_record, an_identity, change_file
from vidclip.cache import CacheError, CacheWriter, Failure, FeatureCache, TextEmbeddings
from vidclip.lexicons import Lexicon, load_lexicon
from vidclip.pipeline.encoders import EncoderLoader, text_embeddings
from vidclip.pipeline.evaluation import (
    EvaluationError,
    ProtocolTest,
    evaluate,
    evaluate_all,
    lexicon_from_labels,
    select_videos,
)
from vidclip.pipeline.scoring import MeanScorer, cosine_scores, mean_embeddings

CLASSES = Lexicon(
    "four", ("air drumming", "bee keeping", "cooking", "dancing"), ("air_drumming", "b", "c", "d")
)


@pytest.fixture
def texts(rng):
    sentence = rng.standard_normal((4, 16)).astype(np.float32)
    return TextEmbeddings(
        CLASSES.phrases, ("{}",), "none", sentence, np.zeros((0, 16), np.float32), np.zeros(5, int)
    )


@pytest.fixture
def records(rng, texts):
    """Videos that mostly look like their class."""
    made = []
    for i in range(60):
        label = i % 4
        record = a_record(
            f"{i:02}", rng, views=3, labels=(CLASSES.labels[label],), split=("train", "test")[i % 3 > 0]
        )
        record.frames[:] = record.frames * 4 + texts.sentence[label]
        made.append(record)
    return made


def accuracy_by_hand(cache, texts, classes):
    """Percent right: the class whose sentence makes the smallest angle with the mean of all frames."""
    right = total = 0
    for row in range(len(cache)):
        label = CLASSES.labels.index(cache.labels[row][0])
        if label in classes:
            video = cache.frames([row]).astype(np.float64).reshape(-1, 16).mean(axis=0)
            cosines = [
                video @ texts.sentence[c] / np.linalg.norm(video) / np.linalg.norm(texts.sentence[c])
                for c in classes
            ]
            right += classes[int(np.argmax(cosines))] == label
            total += 1
    return 100 * right / total


def test_full_classes_equals_brute_force(write_cache, records, texts):
    cache = FeatureCache(write_cache([r for r in records if r.split == "test"], shards=[25, 15]))
    test = select_videos(cache, CLASSES)
    (result,) = evaluate(cache, test, [MeanScorer(texts.sentence)], "full-classes", 4)
    expected = accuracy_by_hand(cache, texts, [0, 1, 2, 3])
    assert 40 < expected < 100, "the test can tell a good scorer from a bad one"
    assert result.figures["top1"].mean == pytest.approx(expected)
    assert result.figures["top5"].mean == 100
    assert result.figures["top1"].low < expected < result.figures["top1"].high
    assert (result.n_videos, result.n_classes) == (40, 4)


def test_half_classes_are_the_released_codes_halves(write_cache, records, texts):
    cache = FeatureCache(write_cache(records))
    test = select_videos(cache, CLASSES, "test")
    only_test = FeatureCache(write_cache([r for r in records if r.split == "test"], "only"))
    (result,) = evaluate(cache, test, [MeanScorer(texts.sentence)], "half-classes", 4)
    expected = [
        accuracy_by_hand(only_test, texts, sorted(np.random.RandomState(seed).permutation(4)[:2]))
        for seed in range(10)
    ]
    assert result.figures["top1"].mean == pytest.approx(np.mean(expected))
    assert result.figures["top1"].spread == pytest.approx(np.std(expected))
    assert [metrics.top1 for _, metrics in result.repetitions] == pytest.approx(expected)


class CountedReads:
    """A cache that counts the rows that are read of it."""

    def __init__(self, cache):
        self.shape, self.ids, self._cache, self.read = cache.shape, cache.ids, cache, []

    def scan(self, size, indices):
        for places, batch, frames in self._cache.scan(size, indices):
            self.read += batch.tolist()
            yield places, batch, frames


def test_several_protocols_read_each_video_once(write_cache, records, texts):
    cache = FeatureCache(write_cache(records, shards=[25, 35]))
    source, scorers = CountedReads(cache), [MeanScorer(texts.sentence)]
    tests = [
        ProtocolTest(select_videos(cache, CLASSES, split), protocol, 4, options, keep=1)
        for split, protocol, options in (
            ("test", "full-classes", {}),
            ("train", "full-classes", {}),
            ("all", "half-classes", {"repeats": 3}),
        )
    ]
    results = [found for (found,) in evaluate_all(source, tests, scorers)]
    assert sorted(source.read) == list(range(60))
    by_split = {
        split: FeatureCache(write_cache([r for r in records if split in (r.split, "all")], split))
        for split in ("test", "train", "all")
    }
    for split, result in zip(("test", "train"), results, strict=False):
        expected = accuracy_by_hand(by_split[split], texts, [0, 1, 2, 3])
        assert result.figures["top1"].mean == pytest.approx(expected)
        assert result.n_videos == len(by_split[split])
    halves = [sorted(np.random.RandomState(seed).permutation(4)[:2]) for seed in range(3)]
    expected = [accuracy_by_hand(by_split["all"], texts, half) for half in halves]
    assert [metrics.top1 for _, metrics in results[2].repetitions] == pytest.approx(expected)
    for test, result in zip(tests, results, strict=True):
        (alone,) = evaluate(cache, test.test, scorers, test.protocol, 4, keep=1, **test.options)
        for together, apart in zip(result.predictions, alone.predictions, strict=True):
            np.testing.assert_array_equal(together.best, apart.best)
            np.testing.assert_array_equal(together.ranks, apart.ranks)


def test_which_videos_are_tested(write_cache, records, rng):
    cache = FeatureCache(write_cache(records))
    assert select_videos(cache, CLASSES).split == "test", "test is chosen where there is one"
    assert {cache.splits[row] for row in select_videos(cache, CLASSES).indices} == {"test"}
    assert len(select_videos(cache, CLASSES, "train").indices) == 20
    with pytest.raises(EvaluationError, match="has test, train, not 'val'"):
        select_videos(cache, CLASSES, "val")
    odd = FeatureCache(write_cache([a_record("a", rng, labels=("b",), split="mine")], "odd"))
    with pytest.raises(EvaluationError, match="has the splits mine: say which"):
        select_videos(odd, CLASSES)


def test_labels_are_found_as_people_write_them(write_cache, rng):
    cache = FeatureCache(
        write_cache([a_record("1", rng, labels=("Air Drumming",)), a_record("2", rng, labels=("cooking",))])
    )
    assert select_videos(cache, CLASSES).targets.tolist() == [0, 2]


def test_what_cannot_be_tested_is_said(write_cache, rng, tmp_path):
    none = FeatureCache(write_cache([a_record("1", rng)]))
    with pytest.raises(EvaluationError, match=r"none of the 1 videos .* has a label.*ROOT/LABEL/VIDEO"):
        select_videos(none, CLASSES)
    with pytest.raises(EvaluationError, match="has a label"):
        lexicon_from_labels(none)
    several = FeatureCache(write_cache([a_record("1", rng, labels=("b", "c"))], "several"))
    with pytest.raises(EvaluationError, match="1 videos have several labels"):
        select_videos(several, CLASSES)
    unknown = FeatureCache(write_cache([a_record("1", rng, labels=("coking",))], "unknown"))
    with pytest.raises(EvaluationError, match=r"'coking' is not in the lexicon four.*'c'"):
        select_videos(unknown, CLASSES)


def test_what_is_left_out_is_counted(tmp_path, rng):
    same = Lexicon("same", ("Cooking", "cooking "), ("b", "c"))
    with CacheWriter(tmp_path, an_identity()) as writer:
        writer.add(a_record("1", rng, labels=("b",)))
        writer.add(a_record("2", rng))
        writer.add_failure(Failure("3", "/3", "open", "it is empty"))
    notes = "\n".join(select_videos(FeatureCache(tmp_path), same).notes)
    assert "1 videos without a label" in notes
    assert "1 of the listed videos that could not be read" in notes
    assert "'3' (it is empty)" in notes
    assert "read the same" in notes


def test_own_classes_read_as_words(write_cache, rng):
    labels = ["brush_hair", "ApplyEyeMakeup", "playing the harp", "YoYo", "tai-chi", "abseiling"]
    cache = FeatureCache(write_cache([a_record(str(i), rng, labels=(x,)) for i, x in enumerate(labels)]))
    classes = lexicon_from_labels(cache)
    phrases = dict(zip(classes.labels, classes.phrases, strict=True))
    assert list(classes.labels) == sorted(labels)
    assert [phrases[label] for label in labels] == [
        "brush hair", "apply eye makeup", "playing the harp", "yo yo", "tai chi", "abseiling",
    ]  # fmt: skip


def test_mean_embeddings_are_unit_means_of_raw_frames(rng):
    frames = rng.standard_normal((2, 3, 4, 8)).astype(np.float16)
    frames[0, 0, 0] *= 30  # a long frame weighs more: frames are not made unit first
    expected = frames.astype(np.float64).reshape(2, 12, 8).mean(axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(mean_embeddings(frames), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"must be \[N, V, T, D\]"):
        mean_embeddings(frames[0])
    with pytest.raises(ValueError, match="of different encoders"):
        cosine_scores(np.ones((1, 4)), np.ones((1, 5)))


def test_texts_are_embedded_once(write_cache, tiny_model):
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    encoder = load_encoder(tiny_model, device="cpu", precision="fp32")
    cache = FeatureCache(write_cache([], identity=cache_identity(encoder, Sampling())))
    loads = []

    def load(identity):
        loads.append(identity.model)
        return encoder

    lexicon = load_lexicon("hmdb51")
    first = text_embeddings(cache, lexicon, ["a video of {}"], load=load)
    again = text_embeddings(cache, lexicon, ["a video of {}"], load=load)
    assert len(loads) == 1
    np.testing.assert_array_equal(first.words, again.words)
    without_words = text_embeddings(cache, lexicon, ["a video of {}"], words="none", load=load)
    assert len(loads) == 1, "the file with words has the sentences"
    alone = encoder.encode_text(lexicon.phrases, ["a video of {}"], words="none")
    np.testing.assert_array_equal(without_words.sentence, alone.sentence)
    assert (without_words.word_mode, len(without_words.words)) == ("none", 0)
    text_embeddings(cache, lexicon, ["{}"], load=load)
    assert len(loads) == 2, "another prompt is another text"
    from_identity = text_embeddings(
        cache, lexicon, ["this is {}"], load=EncoderLoader(models=[(tiny_model, "")])
    )
    np.testing.assert_allclose(
        from_identity.sentence, encoder.encode_text(lexicon.phrases, ["this is {}"]).sentence, atol=1e-5
    )


def test_texts_of_other_phrases_are_not_taken_for_those_of_a_file_s_name(write_cache, tiny_model):
    """Files of older versions do not know their names: what was asked for is compared."""
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    encoder = load_encoder(tiny_model, device="cpu", precision="fp32")
    folder = write_cache([], identity=cache_identity(encoder, Sampling()))
    cache, lexicon = FeatureCache(folder), load_lexicon("hmdb51")
    for prompt in ("one {}", "two {}"):
        text_embeddings(cache, lexicon, [prompt], load=lambda _: encoder)
    first, second = folder.glob("text-*.h5")
    change_file(first, lambda _, attributes: attributes.pop("name"))
    shutil.copy(first, second)
    read = []
    for prompt in ("one {}", "two {}"):
        try:
            read.append(
                text_embeddings(cache, lexicon, [prompt], load=lambda _: encoder).prompts == (prompt,)
            )
        except CacheError as error:
            read.append("holds other phrases or prompts than its name says" in str(error) and "refused")
    assert sorted(map(str, read)) == ["True", "refused"]
