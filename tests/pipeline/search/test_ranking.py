"""Exact search against a brute-force twin in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import a_record
from vidclip.cache import FeatureCache, TextEmbeddings
from vidclip.pipeline.scoring import ArrayFeatures, ConceptSpottingConfig, NotFinite
from vidclip.pipeline.search import (
    Query,
    QueryScorer,
    SearchError,
    SearchSettings,
    find_results,
    join_queries,
    search_videos,
    text_scorer,
)


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def brute_force(frames: np.ndarray, queries: np.ndarray, pool: str) -> np.ndarray:
    """[N, Q] float64 of frames [N, V, T, D]."""
    scores = np.empty((len(frames), len(queries)))
    for i, video in enumerate(frames.astype(np.float64)):
        rows = video.reshape(-1, video.shape[-1])
        for q, query in enumerate(unit(queries)):
            scores[i, q] = unit(rows.mean(axis=0)) @ query if pool == "mean" else (unit(rows) @ query).max()
    return scores


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("top", [1, 7, 3000])
def test_the_best_of_all_batches_are_those_of_brute_force(rng, pool, top):
    frames = (rng.standard_normal((2500, 2, 3, 8)) * rng.uniform(0.1, 9, (2500, 2, 3, 1))).astype(np.float16)
    queries = rng.standard_normal((3, 8))
    ranking = search_videos(ArrayFeatures(frames), QueryScorer(queries, pool, device="cpu"), top)
    expected = brute_force(frames, queries, pool)
    best = -np.sort(-expected, axis=0)[:top].T
    assert all(len(set(row)) == len(row) for row in ranking.videos.tolist())
    # Float32 does not tell some videos apart: they may change places.
    np.testing.assert_allclose(np.take_along_axis(expected.T, ranking.videos, axis=1), best, atol=1e-6)
    np.testing.assert_allclose(ranking.scores, best, atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("shape", [(5, 12, 45, 512), (40, 1, 1, 16)], ids=["many frames", "one frame"])
def test_videos_of_any_number_of_frames_have_the_scores_of_brute_force(rng, pool, shape):
    frames = (rng.standard_normal(shape) * rng.uniform(0.1, 9, (*shape[:3], 1))).astype(np.float16)
    queries = rng.standard_normal((2, shape[3]))
    ranking = search_videos(ArrayFeatures(frames), QueryScorer(queries, pool, device="cpu"), shape[0])
    expected = brute_force(frames, queries, pool)
    np.testing.assert_allclose(
        np.take_along_axis(expected.T, ranking.videos, axis=1), ranking.scores, atol=1e-6
    )


def test_among_some_videos_only_these_are_found(rng):
    frames = rng.standard_normal((50, 1, 2, 8)).astype(np.float16)
    query = rng.standard_normal((1, 8))
    some = np.array([40, 3, 17, 20])
    ranking = search_videos(ArrayFeatures(frames), QueryScorer(query, device="cpu"), 3, indices=some)
    scores = brute_force(frames, query, "mean")[some, 0]
    np.testing.assert_array_equal(ranking.videos[0], some[np.argsort(-scores)][:3])


def test_equal_scores_stand_in_the_order_of_the_cache(rng):
    frames = np.repeat(rng.standard_normal((1, 1, 2, 8)), 2100, axis=0).astype(np.float16)
    ranking = search_videos(ArrayFeatures(frames), QueryScorer(frames[0, 0, :1], "max", device="cpu"), 5)
    assert ranking.videos.tolist() == [[0, 1, 2, 3, 4]]


def test_concept_spotting_finds_by_the_frames_that_the_words_spot(rng):
    frames = rng.standard_normal((40, 1, 4, 8)).astype(np.float16)
    texts = TextEmbeddings(
        ("one", "two"), ("{}",), "name",
        rng.standard_normal((2, 8), np.float32), rng.standard_normal((3, 8), np.float32), np.array([0, 1, 3]),
    )  # fmt: skip
    config = ConceptSpottingConfig(temperature=0.1)
    ranking = search_videos(
        ArrayFeatures(frames), text_scorer(texts, "vcs", spotting=config, device="cpu"), 4
    )
    for q, (first, last) in enumerate([(0, 1), (1, 3)]):
        scores = []
        for video in unit(frames[:, 0]):
            logits = unit(texts.words[first:last]) @ video.T / 0.1  # [W, T]
            shares = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).mean(axis=0)
            scores.append(unit(shares @ video) @ unit(texts.sentence[q]))
        np.testing.assert_array_equal(ranking.videos[q], np.argsort(scores)[::-1][:4])


def test_a_video_is_not_among_its_own_results(rng):
    frames = rng.standard_normal((30, 1, 2, 8)).astype(np.float16)
    own = frames[4].astype(np.float32).mean(axis=(0, 1))
    cache = ArrayFeatures(frames)
    settings = SearchSettings(top=30)
    with_it = find_results(cache, [Query("v4", "file", own)], settings, device="cpu")[0]
    without = find_results(cache, [Query("v4", "video", own, own=4)], settings, device="cpu")[0]
    assert with_it[0].video == 4
    assert [each.video for each in without] == [each.video for each in with_it[1:]]


def test_joined_queries_are_found_by_the_mean_of_their_scores(rng):
    frames = rng.standard_normal((60, 1, 2, 8)).astype(np.float16)
    vectors = rng.standard_normal((3, 8)) * [[1], [50], [0.01]]  # lengths do not count
    joined = join_queries([Query(str(i), "text", vector) for i, vector in enumerate(vectors)])
    found = find_results(ArrayFeatures(frames), [joined], SearchSettings(top=60), device="cpu")[0]
    expected = np.argsort(-brute_force(frames, vectors, "mean").mean(axis=1))
    assert [each.video for each in found] == expected.tolist()


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found_in_any_batch(rng, pool, number):
    frames = rng.standard_normal((2100, 2, 3, 8)).astype(np.float16)
    frames[2077, 1, 0, 5] = number
    queries = np.eye(8)[:2]  # neither looks at the sixth dimension
    source = ArrayFeatures(frames, [f"v{i}" for i in range(2100)])
    with pytest.raises(NotFinite, match="the video 'v2077' hold numbers that are not finite"):
        search_videos(source, QueryScorer(queries, pool, device="cpu"))
    sound = [i for i in range(2100) if i != 2077]
    search_videos(source, QueryScorer(queries, pool, device="cpu"), indices=sound)
    with pytest.raises(ValueError, match="queries must be finite"):
        QueryScorer(np.full((1, 8), number), pool, device="cpu")


def test_damaged_features_are_named_and_nothing_is_searched_in_nothing(rng, write_cache):
    frames = rng.standard_normal((5, 1, 2, 8)).astype(np.float16)
    frames[3, 0, 1, 2] = np.nan
    scorer = QueryScorer(rng.standard_normal((1, 8)), device="cpu")
    with pytest.raises(NotFinite, match="video .e."):
        search_videos(ArrayFeatures(frames, list("abced")), scorer)
    with pytest.raises(SearchError, match="no videos"):
        search_videos(ArrayFeatures(frames[:0]), scorer)
    cache = FeatureCache(write_cache([a_record("v", rng)]))
    with pytest.raises(SearchError, match="16 dimensions, the queries 8: they are of different encoders"):
        search_videos(cache, scorer)
    with pytest.raises(SearchError, match="nothing to search for"):
        find_results(cache, [])
    with pytest.raises(SearchError, match="words of a text"):
        find_results(cache, [Query("v", "video", frames[0, 0, 0])], SearchSettings(pool="vcs"))
    for wrong in ({"top": 0}, {"pool": "vote"}, {"moments": True}, {"level": 2}):
        with pytest.raises(ValueError, match="must be|moments are found"):
            SearchSettings(**wrong)
