"""The kept index: what it finds, that it is of these features, and what damage does."""

from __future__ import annotations

import os

import numpy as np
import pytest

from helpers import a_record, an_identity
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.pipeline.search import (
    InvertedLists,
    QueryScorer,
    SearchError,
    StaleIndex,
    build_index,
    index_path,
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
def test_all_lists_find_what_the_exact_search_finds(cache, rng, pool):
    queries = rng.standard_normal((20, 16)).astype(np.float32)
    index = build_index(cache, pool, {"text": queries}, lists=8, device="cpu")
    assert set(index.facts.recall) == {"text", "video"}
    exact = search_videos(cache, QueryScorer(queries, pool, device="cpu"), 10)
    found = InvertedLists(cache, pool).search(queries, 10, device="cpu")
    hits = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found.videos, exact.videos, strict=True)])
    assert hits >= index.facts.recall["text"] - 1e-9, (
        "what is measured is what is found, before scores are exact"
    )
    for one, other, scores, true in zip(found.videos, exact.videos, found.scores, exact.scores, strict=True):
        same = one == other
        np.testing.assert_allclose(scores[same], true[same], atol=1e-6)


def test_the_recall_that_it_says_is_that_of_few_lists(cache, rng):
    # Queries far from all centers: half of the lists do not hold all of the best ten.
    queries = rng.standard_normal((200, 16)).astype(np.float32)
    index = build_index(cache, "mean", {"text": queries}, lists=2, device="cpu")
    exact = search_videos(cache, QueryScorer(queries, device="cpu"), 10)
    found = [index.search(query[None], 10, device="cpu").videos[0] for query in queries]
    hits = [len(np.intersect1d(a, b)) / 10 for a, b in zip(found, exact.videos, strict=True)]
    assert index.facts.probes == 1
    assert index.facts.recall["text"] < 0.95
    assert index.facts.recall["text"] == pytest.approx(np.mean(hits), abs=0.02)


def test_an_index_of_other_features_is_refused(cache, rng, tmp_path):
    build_index(cache, "mean", device="cpu").close()
    InvertedLists(cache, "mean").close()
    with pytest.raises(StaleIndex, match="not measured with queries of the kind text"):
        InvertedLists(cache, "mean", measured=["text"])
    with CacheWriter(cache.folder, cache.identity) as writer:
        writer.add(a_record("one more", rng, views=2))
    with pytest.raises(StaleIndex, match="is of other features than .* has now: build it anew"):
        InvertedLists(FeatureCache(cache.folder), "mean")
    with pytest.raises(FileNotFoundError):
        InvertedLists(cache, "max")
    assert len(list(cache.folder.glob(".*search*"))) == 0, "nothing half is left"


def test_a_damaged_index_is_an_error_and_never_a_wrong_result(cache, rng):
    queries = rng.standard_normal((5, 16)).astype(np.float32)
    index = build_index(cache, "mean", {"text": queries}, lists=4, device="cpu")
    expected = index.search(queries, 5, device="cpu").videos
    path = index_path(cache.folder, "videos")
    sound = path.read_bytes()
    refused = 0
    for place in range(0, len(sound), 97):
        damaged = bytearray(sound)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            found = InvertedLists(cache, "mean").search(queries, 5, device="cpu").videos
        except SearchError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert refused > 50
    for part in (b"", sound[:40], sound[:-1], sound + b"x"):
        path.write_bytes(part)
        with pytest.raises(SearchError, match="is damaged .*: delete it, and the next search builds it anew"):
            InvertedLists(cache, "mean")
    path.unlink()
    os.mkfifo(path)  # is not waited for
    with pytest.raises((SearchError, OSError)):
        InvertedLists(cache, "mean")
