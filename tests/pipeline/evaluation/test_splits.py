"""Random splits: stratified, the same in any order; and videos that would be on both sides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import a_record
from vidclip.cache import FeatureCache
from vidclip.pipeline.evaluation import (
    EvaluationError,
    LabeledVideos,
    check_disjoint,
    drawn_split,
    draws_test_set,
    leave_out_trained,
    lexicon_from_labels,
    select_videos,
    stratified_split,
    training_set,
    video_fingerprints,
)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_each_class_gives_its_share_whatever_the_order(labels, share, seed, random):
    ids = [f"{label}/{i}" for i, label in enumerate(labels)]
    tested = stratified_split(ids, labels, share, seed=seed)
    for label, n in Counter(labels).items():
        of_class = sum(bool(t) for t, own in zip(tested, labels, strict=True) if own == label)
        if n == 1:
            assert of_class == 0, "a single video is trained on"
        else:
            assert 1 <= of_class <= n - 1, "both sides have one"
            assert abs(of_class - share * n) <= 1
    order = list(range(len(ids)))
    random.shuffle(order)
    again = stratified_split([ids[i] for i in order], [labels[i] for i in order], share, seed=seed)
    assert again.tolist() == tested[order].tolist()


def test_seeds_draw_other_videos_and_each_is_as_likely():
    ids, labels = [f"v{i}" for i in range(50)], [0] * 50
    draws = np.array([stratified_split(ids, labels, 0.2, seed=seed) for seed in range(1000)])
    assert (draws.sum(axis=1) == 10).all()
    assert len({draw.tobytes() for draw in draws}) == 1000
    assert np.abs(draws.mean(axis=0) / 0.2 - 1).max() < 0.3


def test_one_more_video_does_not_reshuffle_the_others():
    ids = [f"v{i}" for i in range(100)]
    before = stratified_split(ids, [0] * 100, 0.2)
    after = stratified_split([*ids, "new"], [0] * 101, 0.2)
    assert (before != after[:100]).sum() <= 1


def test_segments_of_a_file_stay_together():
    ids = [f"{file}#{part}" for file in "abcdefghij" for part in range(3)]
    sources = [id[0] for id in ids]
    labels = [part != "2" for *_, part in ids]  # the last segment of each has another class
    for seed in range(20):
        tested = stratified_split(ids, labels, 0.3, seed=seed, sources=sources)
        for file in "abcdefghij":
            assert len({t for t, source in zip(tested.tolist(), sources, strict=True) if source == file}) == 1
        assert tested.sum() == 9


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan"), 2])
def test_shares_beyond_all_and_nothing_are_refused(share):
    with pytest.raises(ValueError, match="must be above 0 and below 1"):
        stratified_split(["a", "b"], [0, 0], share)


@pytest.fixture
def videos(rng):
    return [a_record(f"{'xyz'[i % 3]}/{i:02}", rng, labels=("xyz"[i % 3],)) for i in range(30)]


def test_a_cache_without_splits_is_drawn_from(videos, write_cache):
    cache = FeatureCache(write_cache(videos))
    assert draws_test_set(cache, None, None)
    assert draws_test_set(cache, 0.5, "all")
    sides = drawn_split(cache, lexicon_from_labels(cache))
    assert np.bincount(sides.test.targets).tolist() == [2, 2, 2]
    assert sorted([*sides.train.indices, *sides.test.indices]) == list(range(30))
    assert sides.settings == {"test_share": 0.2, "split_seed": 0}
    assert (sides.test.split, sides.train.split) == ("20 %, seed 0", "80 %, seed 0")
    assert check_disjoint(cache, sides.train, sides.test) == []
    assert not draws_test_set(cache, None, "all"), "who names what to train on means all of it"
    assert len(training_set(cache, lexicon_from_labels(cache))) == 30


def test_a_share_is_drawn_from_the_training_split_alone(videos, write_cache):
    records = [replace(v, split="train" if i < 20 else "test") for i, v in enumerate(videos)]
    cache = FeatureCache(write_cache(records))
    assert not draws_test_set(cache, None, None)
    sides = drawn_split(cache, lexicon_from_labels(cache), None, 0.3, seed=4)
    both = [*sides.train.indices, *sides.test.indices]
    assert {cache.splits[row] for row in both} == {"train"}
    assert sides.test.split == "30 % of train, seed 4"
    single = [replace(v, id=v.id[0], split="") for v in videos[:3]]
    alone = FeatureCache(write_cache(single, "single"))
    with pytest.raises(EvaluationError, match="no class of .* has two videos"):
        drawn_split(alone, lexicon_from_labels(alone))


def test_videos_are_compared_and_not_names_of_splits(videos, write_cache):
    splits = ["train1 test2", "test1 train2", "train1 train2"]
    cache = FeatureCache(write_cache([replace(v, split=splits[i // 10]) for i, v in enumerate(videos)]))
    classes = lexicon_from_labels(cache)

    def of(split):
        return select_videos(cache, classes, split)

    assert check_disjoint(cache, of("train1"), of("test1")) == []
    with pytest.raises(EvaluationError, match="the 10 test videos of split 'test2' would be trained on"):
        check_disjoint(cache, of("train1"), of("test2"))
    with pytest.raises(EvaluationError, match="20 of the 30 test videos would be trained on and tested"):
        check_disjoint(cache, of("train1"), of("all"))


def test_files_on_both_sides_are_noted(videos, write_cache):
    records = [replace(v, split="train" if i < 20 else "test") for i, v in enumerate(videos)]
    records[25] = replace(records[25], path=records[3].path)
    cache = FeatureCache(write_cache(records))
    classes = lexicon_from_labels(cache)
    (note,) = check_disjoint(
        cache, select_videos(cache, classes, "train"), select_videos(cache, classes, "test")
    )
    assert note.startswith("1 of the 10 test videos come from files that are trained on too")
    assert repr(records[25].id) in note


def test_what_a_head_was_trained_on_is_known_by_its_features(videos, write_cache, rng):
    cache = FeatureCache(write_cache(videos, shards=[11, 19]))
    trained = video_fingerprints(cache, np.arange(20))
    every = LabeledVideos(np.arange(30), np.zeros(30, np.int64), notes=["known"])

    def left(cache, trained_on, asked_for=False, videos=every):
        found = leave_out_trained(cache, videos, {"h": trained_on}, asked_for=asked_for)
        assert found.notes[0] == "known"
        return found.indices.tolist(), found.notes[1:]

    kept, (note,) = left(cache, trained[::-1])
    assert kept == list(range(20, 30))
    assert note.startswith("20 of the 30 videos are not tested, because h was trained on them")
    kept, (note,) = left(cache, trained, asked_for=True)
    assert len(kept) == 30
    assert "h was trained on 20 of the 30 tested videos" in note
    with pytest.raises(EvaluationError, match="all 20 videos that would be tested were trained on by h"):
        left(cache, trained, videos=every.take(np.arange(30) < 20))
    renamed = FeatureCache(write_cache([replace(v, id=f"new {v.id}") for v in videos], "renamed"))
    kept, _ = left(renamed, trained)
    assert len(kept) == 10
    others = [replace(v, frames=rng.standard_normal(v.frames.shape).astype(np.float32)) for v in videos]
    other = FeatureCache(write_cache(others, "other"))
    kept, (note,) = left(other, trained)
    assert len(kept) == 30, "another data set may have files of the same names"
    assert "20 of the 30 videos have the ids of videos that h was trained on, and other features" in note
    kept, (note,) = left(cache, None)
    assert len(kept) == 30
    assert "h does not say which videos it was trained on" in note


def test_one_view_of_several_is_the_same_video(write_cache, rng):
    records = [a_record(f"{i}", rng, views=3, labels=("xy"[i % 2],)) for i in range(6)]
    cache = FeatureCache(write_cache(records))
    np.testing.assert_array_equal(
        video_fingerprints(cache, np.arange(6)), video_fingerprints(cache.single_view(), np.arange(6))
    )
