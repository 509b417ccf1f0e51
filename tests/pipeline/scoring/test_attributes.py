"""Attributes: FAISS against a full sort, two encoders, and what is kept."""

from __future__ import annotations

import json
import shutil

import faiss
import h5py
import numpy as np
import pytest

from helpers import a_record
from vidclip.cache import CacheError, CacheWriter, FeatureCache, VideoRecord, read_attributes, verify
from vidclip.lexicons import Lexicon, load_lexicon
from vidclip.pipeline.encoders import EncoderLoader, load_encoder
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.scoring import (
    AttributesError,
    attributes,
    attributes_sentence,
    released_form,
    retrieve,
)
from vidclip.pipeline.video import Sampling


@pytest.mark.parametrize(("n", "phrases", "top"), [(7, 30, 5), (1, 5, 5), (50, 1000, 3)])
def test_retrieval_equals_a_full_sort(rng, n, phrases, top):
    videos, known = rng.standard_normal((n, 24)), rng.standard_normal((phrases, 24)) * 4
    found = retrieve(videos, known, top)
    cosines = (videos @ known.T) / np.linalg.norm(videos, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    np.testing.assert_array_equal(found.top, np.argsort(-cosines, axis=1)[:, :top])
    np.testing.assert_allclose(found.similarity, -np.sort(-cosines, axis=1)[:, :top], atol=1e-5)
    assert found.recall is None


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_approximate_indexes_say_how_much_they_find(rng, index):
    centers = rng.standard_normal((20, 16))
    known = centers[rng.integers(20, size=4000)] + 0.3 * rng.standard_normal((4000, 16))
    videos = centers[rng.integers(20, size=200)] + 0.3 * rng.standard_normal((200, 16))
    found = retrieve(videos, known, 5, index=index)
    exact = retrieve(videos, known, 5)
    share = np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.top, exact.top, strict=True)]) / 5
    assert found.recall == pytest.approx(share)
    assert 0.7 < found.recall <= 1


@pytest.mark.gpu
def test_retrieval_on_a_gpu_equals_a_full_sort(rng):
    if not getattr(faiss, "get_num_gpus", lambda: 0)():
        pytest.skip("FAISS sees no GPU: this is faiss-cpu")
    videos, known = rng.standard_normal((300, 64)), rng.standard_normal((5000, 64)) * 4
    cosines = (videos @ known.T) / np.linalg.norm(videos, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    best = np.argsort(-cosines, axis=1)[:, :5]
    found = retrieve(videos, known, 5)
    np.testing.assert_allclose(found.similarity, np.take_along_axis(cosines, best, axis=1), atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(cosines, found.top, axis=1), found.similarity, atol=1e-4)
    assert np.mean(found.top == best) > 0.999
    lists = retrieve(videos, known, 5, index="ivf")
    hits = np.mean([len(np.intersect1d(a, b)) for a, b in zip(lists.top, best, strict=True)]) / 5
    assert lists.recall == pytest.approx(hits, abs=0.002)
    assert hits > 0.2


def test_what_cannot_be_retrieved(rng):
    with pytest.raises(AttributesError, match="6 attributes were asked for, and the lexicon has 5"):
        retrieve(rng.random((2, 4)), rng.random((5, 4)), 6)
    with pytest.raises(AttributesError, match="of different encoders"):
        retrieve(rng.random((2, 4)), rng.random((5, 3)), 1)
    with pytest.raises(ValueError, match="index must be one of exact, ivf, hnsw"):
        retrieve(rng.random((2, 4)), rng.random((5, 4)), 1, index="flat")


def test_the_sentence_has_the_released_form():
    assert attributes_sentence(["a ball", "running"]) == "a ball,running"


def attributes_of(cache, lexicons, *, retriever=None, **settings):
    """With the models named that the caches name."""
    models = [(each.identity.model, "") for each in (cache, retriever) if each is not None]
    load = settings.pop("load", EncoderLoader("cpu", models))
    found = attributes.attributes_of(
        cache, lexicons, attributes.AttributeSettings(**settings), retriever=retriever, load=load
    )
    return found.stored, found


@pytest.fixture(scope="module")
def encoders(tiny_model, other_tiny_model):
    return [load_encoder(model, device="cpu", precision="fp32") for model in (tiny_model, other_tiny_model)]


@pytest.fixture
def caches(write_cache, encoders, rng):
    """The same four videos by two encoders of 32 dimensions."""
    made = []
    for number, encoder in enumerate(encoders):
        records = []
        for id in ("b.mp4", "a.mp4", "d.mp4", "c.mp4"):
            record = a_record(id, rng)
            frames = rng.standard_normal((1, 4, 32)).astype(np.float32)
            records.append(type(record)(**{**vars(record), "frames": frames}))
        identity = cache_identity(encoder, Sampling(4))
        made.append(FeatureCache(write_cache(records, f"cache{number}", identity)))
    return made


def test_attributes_of_retrievers_in_other_precisions_are_kept_apart(caches, tmp_path):
    lexicon = Lexicon("things", ("a ball", "running"), ("a ball", "running"))
    found = {}
    for precision in ("fp32", "bf16"):
        source = caches[1]
        with CacheWriter(tmp_path / precision, source.identity, precision=precision) as writer:
            for i, video in enumerate(source.videos):
                frames, indices, seconds = (
                    source.frames([i]),
                    source.frame_indices([i]),
                    source.timestamps([i]),
                )
                if precision == "bf16":
                    frames = -frames  # so that another phrase is the nearest
                arrays = {
                    "frames": frames[0].astype(np.float32),
                    "frame_indices": indices[0],
                    "timestamps": seconds[0],
                }
                writer.add(VideoRecord(**vars(video), **arrays))
        retriever = FeatureCache(tmp_path / precision)
        _, found[precision] = attributes_of(caches[0], [lexicon], retriever=retriever, top=1)
    assert found["bf16"].computed, "those of the other retriever are not served"
    full, half = (found[precision].stored.top for precision in ("fp32", "bf16"))
    np.testing.assert_array_equal(half, 1 - full)


def test_attributes_by_hand(caches, encoders):
    lexicon = Lexicon(
        "things", ("a ball", "running", "beach", "a dog"), ("a ball", "running", "beach", "a dog")
    )
    stored, found = attributes_of(caches[0], [lexicon], top=2)
    assert found.computed
    texts = encoders[0].encode_text(lexicon.phrases)
    for row, id in enumerate(caches[0].ids):
        video = caches[0].frames([row]).astype(np.float64).reshape(-1, 32).mean(axis=0)
        cosines = texts.sentence @ video / np.linalg.norm(texts.sentence, axis=1) / np.linalg.norm(video)
        best = [lexicon.phrases[i] for i in np.argsort(-cosines)[:2]]
        assert (stored.ids[row], stored.of(row)) == (id, best)
        sentence = encoders[0].encode_text([f"This is a video about {best[0]},{best[1]}"]).sentence[0]
        np.testing.assert_allclose(stored.sentence[row], sentence, atol=1e-5)

    again, kept = attributes_of(caches[0], [lexicon], top=2, load=_never)
    assert not kept.computed, "kept in the cache"
    np.testing.assert_array_equal(again.sentence, stored.sentence)
    assert json.loads(json.dumps(released_form(stored)))["a.mp4"] == {"classname_topk": stored.of(0)}


def test_what_is_longer_than_the_context_is_named(caches):
    long = "jumping over " * 20
    _, found = attributes_of(caches[0], [Lexicon("l", ("a ball", long), ("a ball", long))], top=2)
    assert long in found.truncated
    assert any(text.startswith("a ball,") or text.endswith(",a ball") for text in found.truncated)


def _never(identity):
    raise AssertionError("nothing should have to be encoded")


def test_one_encoder_retrieves_and_another_reads(caches, encoders):
    lexicon = load_lexicon("hmdb51")
    alone, _ = attributes_of(caches[1], [lexicon])
    both, _ = attributes_of(caches[0], [lexicon], retriever=caches[1])
    assert [both.of(row) for row in range(4)] == [alone.of(row) for row in range(4)], "the other's eyes"
    expected = encoders[0].encode_text([f"This is a video about {','.join(both.of(0))}"]).sentence[0]
    np.testing.assert_allclose(both.sentence[0], expected, atol=1e-5)


def test_several_lexicons_are_joined_each_phrase_once(caches):
    first = Lexicon("one", ("a", "b"), ("a", "b"))
    second = Lexicon("two", ("b", "c"), ("b", "c"))
    stored, _ = attributes_of(caches[0], [first, second], top=3)
    assert stored.phrases == ("a", "b", "c")


def test_more_videos_make_the_stored_attributes_stale(caches, encoders, rng):

    lexicon = load_lexicon("hmdb51")
    attributes_of(caches[0], [lexicon])
    record = a_record("e.mp4", rng)
    frames = rng.standard_normal((1, 4, 32)).astype(np.float32)
    with CacheWriter(caches[0].folder, caches[0].identity) as writer:
        writer.add(type(record)(**{**vars(record), "frames": frames}))
    grown = FeatureCache(caches[0].folder)
    stored, found = attributes_of(grown, [lexicon])
    assert found.computed
    assert stored.ids[-1] == "e.mp4"


def test_a_video_that_was_read_anew_makes_the_stored_attributes_stale(caches, rng):

    lexicon = load_lexicon("hmdb51")
    attributes_of(caches[0], [lexicon])
    record = a_record("a.mp4", rng, generation=1)
    frames = rng.standard_normal((1, 4, 32)).astype(np.float32)
    with CacheWriter(caches[0].folder, caches[0].identity) as writer:
        writer.add(type(record)(**{**vars(record), "frames": frames}))
    renewed = FeatureCache(caches[0].folder)
    _, found = attributes_of(renewed, [lexicon])
    assert found.computed, "the ids are the same, the features are not"
    assert attributes_of(renewed, [lexicon], load=_never)[1].computed is False


def test_caches_of_different_videos_do_not_go_together(caches, write_cache, encoders):
    empty = FeatureCache(write_cache([], "empty", cache_identity(encoders[1], Sampling(4))))
    with pytest.raises(AttributesError, match=r"4 videos of .* are not in .*empty, the first is 'a\.mp4'"):
        attributes_of(caches[0], [load_lexicon("hmdb51")], retriever=empty)
    with pytest.raises(AttributesError, match="has no videos yet"):
        attributes_of(empty, [load_lexicon("hmdb51")])


def test_verify_reads_attributes_too(caches):
    lexicon = load_lexicon("hmdb51")
    attributes_of(caches[0], [lexicon])
    (path,) = caches[0].folder.glob("attributes-*.h5")
    assert [problem for checked in verify(caches[0].folder) for problem in checked.problems] == []
    shutil.copy(path, caches[1].folder / path.name)
    problems = [problem for checked in verify(caches[1].folder) for problem in checked.problems]
    assert len(problems) == 1
    assert "attributes that another encoder has read" in problems[0]


def test_a_damaged_file_is_named(caches):
    lexicon = load_lexicon("hmdb51")
    attributes_of(caches[0], [lexicon])
    (path,) = caches[0].folder.glob("attributes-*.h5")
    with h5py.File(path) as file:
        place = file["top"].id.get_offset()
    raw = path.read_bytes()
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with pytest.raises(CacheError, match=r"attributes-hmdb51"):
        read_attributes(path)
