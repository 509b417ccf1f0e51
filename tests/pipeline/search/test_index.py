"""The kept index: what it finds, that it is of these features, and what damage does."""

from __future__ import annotations

import os

import numpy as np
import pytest

from helpers import a_record, an_identity
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.pipeline.search import (
    CompressedIndex,
    IndexFacts,
    IndexFile,
    IndexWriter,
    QueryScorer,
    SearchError,
    StaleIndex,
    build_index,
    index_path,
    near_videos,
    search_videos,
)


@pytest.fixture
def cache(tmp_path, rng) -> FeatureCache:
    """400 videos around eight centers, two views of four frames."""
    with CacheWriter(tmp_path / "features", an_identity()) as writer:
        for i in range(400):
            record = a_record(f"v{i:03}", rng, views=2)
            record.frames[:] += 3 * np.eye(16)[i % 8]
            writer.add(record)
    return FeatureCache(tmp_path / "features")


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_what_is_found_has_the_scores_of_the_exact_search(cache, rng, pool):
    queries = rng.standard_normal((20, 16)).astype(np.float32)
    index = build_index(cache, pool, {"text": queries}, device="cpu")
    assert set(index.facts.recall) == {"text", "video"}
    assert min(index.facts.recall.values()) >= 0.99
    exact = search_videos(cache, QueryScorer(queries, pool, device="cpu"), 10)
    found = CompressedIndex(cache, pool).search(queries, 10, device="cpu")
    hits = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found.videos, exact.videos, strict=True)])
    assert hits >= index.facts.recall["text"] - 1e-9
    for one, other, scores, true in zip(found.videos, exact.videos, found.scores, exact.scores, strict=True):
        same = one == other
        assert same.any()
        np.testing.assert_allclose(scores[same], true[same], atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_an_index_made_and_searched_on_a_gpu_finds_what_a_cpu_finds(cache, rng, pool):
    queries = rng.standard_normal((20, 16)).astype(np.float32)
    exact = search_videos(cache, QueryScorer(queries, pool, device="cpu"), 10)
    own = search_videos(cache, QueryScorer(queries, pool, device="cuda"), 10)
    np.testing.assert_allclose(own.scores, exact.scores, atol=1e-5)
    assert np.mean(own.videos == exact.videos) > 0.99
    index = build_index(cache, pool, {"text": queries}, device="cuda")
    found = index.search(queries, 10, device="cuda")
    hits = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found.videos, exact.videos, strict=True)])
    assert hits >= index.facts.recall["text"] - 0.01
    assert index.facts.recall["text"] > 0.5


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_all_components_in_eight_bits_give_the_cosines(cache, rng, pool):
    """In all D components a code differs from its vector by half a step in each; the best of a video's vectors counts."""
    queries = rng.standard_normal((4, 16)).astype(np.float32)
    build_index(cache, pool, {}, components=16, device="cpu").close()
    file = IndexFile(index_path(cache.folder, "videos" if pool == "mean" else "frames"))
    rough = near_videos(file, queries, len(cache))
    frames = cache.frames().astype(np.float64).reshape(400, 8, 16)
    vectors = frames if pool == "max" else frames.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    true = (vectors @ asked.T).max(axis=1).T  # [Q, N]
    steps = np.abs(vectors @ file.projection / np.square(file.projection).sum(axis=0)).max(axis=(0, 1))
    assert (steps <= 140).all(), "of 127, but for what the sample has not seen"
    np.testing.assert_allclose(rough.scores, np.take_along_axis(true, rough.videos, axis=1), atol=0.02)
    assert (np.sort(rough.videos, axis=1) == np.arange(400)).all()
    np.testing.assert_allclose(
        file.background, (frames / np.linalg.norm(frames, axis=2, keepdims=True)).mean(axis=(0, 1)), atol=1e-5
    )


def test_the_recall_that_it_says_is_that_of_new_queries(tmp_path, rng):
    """Where one component of 16 is kept, not even 4,096 videos hold the best ten; the index says so."""
    with CacheWriter(tmp_path / "features", an_identity()) as writer:
        for i in range(6000):
            writer.add(a_record(f"v{i:04}", rng, frames=1))
    cache = FeatureCache(tmp_path / "features")
    asked = rng.standard_normal((400, 16)).astype(np.float32)
    index = build_index(cache, "mean", {"text": asked[:200]}, components=1, device="cpu")
    exact = search_videos(cache, QueryScorer(asked[200:], device="cpu"), 10)
    found = [index.search(query[None], 10, device="cpu").videos[0] for query in asked[200:]]
    hits = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, exact.videos, strict=True)])
    assert index.facts.depth == 4096
    assert index.facts.recall["text"] < 0.95
    assert index.facts.recall["text"] == pytest.approx(hits, abs=0.05)


def test_the_depth_is_the_least_that_finds_enough(cache, rng):
    queries = rng.standard_normal((30, 16)).astype(np.float32)
    few = build_index(cache, "mean", {"text": queries}, components=10, device="cpu").facts.depth
    many = build_index(cache, "mean", {"text": queries}, components=16, device="cpu").facts.depth
    assert many == 32 < few
    exact = search_videos(cache, QueryScorer(queries, device="cpu"), 10).videos
    build_index(cache, "mean", {"text": queries}, components=10, device="cpu")
    file = IndexFile(index_path(cache.folder, "videos"))
    recall = {
        depth: np.mean(
            [
                np.isin(a, b).mean()
                for a, b in zip(exact, near_videos(file, queries, depth).videos, strict=True)
            ]
        )
        for depth in (few // 2, few)
    }
    assert recall[few // 2] < 0.99 <= recall[few]


def test_an_index_of_other_features_is_refused(cache, rng, tmp_path):
    build_index(cache, "mean", device="cpu").close()
    CompressedIndex(cache, "mean").close()
    with pytest.raises(StaleIndex, match="not measured with queries of the kind text"):
        CompressedIndex(cache, "mean", measured=["text"])
    with CacheWriter(cache.folder, cache.identity) as writer:
        writer.add(a_record("one more", rng, views=2))
    with pytest.raises(StaleIndex, match="is of other features than .* has now: build it anew"):
        CompressedIndex(FeatureCache(cache.folder), "mean")
    with pytest.raises(FileNotFoundError):
        CompressedIndex(cache, "max")
    assert len(list(cache.folder.glob(".*search*"))) == 0, "nothing half is left"


def test_a_damaged_index_is_an_error_and_never_a_wrong_result(cache, rng):
    queries = rng.standard_normal((5, 16)).astype(np.float32)
    index = build_index(cache, "mean", {"text": queries}, device="cpu")
    expected = index.search(queries, 5, device="cpu").videos
    path = index_path(cache.folder, "videos")
    sound = path.read_bytes()
    refused = 0
    for place in range(0, len(sound), 97):
        damaged = bytearray(sound)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            found = CompressedIndex(cache, "mean").search(queries, 5, device="cpu").videos
        except SearchError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert refused > 50
    path.write_bytes(sound[:8] + b"\x01" + sound[9:])  # the inverted lists of version 1
    with pytest.raises(StaleIndex, match="of another version of vidclip: build it anew"):
        CompressedIndex(cache, "mean")
    for part in (b"", sound[:40], sound[:-1], sound + b"x"):
        path.write_bytes(part)
        with pytest.raises(SearchError, match="is damaged .*: delete it, and the next search builds it anew"):
            CompressedIndex(cache, "mean")
    path.unlink()
    os.mkfifo(path)  # is not waited for
    with pytest.raises((SearchError, OSError)):
        CompressedIndex(cache, "mean")


def test_codes_may_be_written_in_any_order(tmp_path, rng):
    facts = IndexFacts("", "frames", 40, 3, 5, 2, 32, {}, {})
    codes = rng.integers(-127, 128, (40, 3, 2)).astype(np.int8)
    order = np.concatenate([np.arange(20, 40), rng.permutation(20)])
    with (tmp_path / "x.index").open("x+b") as file:
        writer = IndexWriter(file, facts)
        for some in np.array_split(order, 3):
            writer.put(some, codes[some])
        writer.finish(facts, np.ones((5, 2)), np.ones(5))
    np.testing.assert_array_equal(
        np.concatenate([c for _, c in IndexFile(tmp_path / "x.index").blocks()]), codes
    )
