"""A video whose file was replaced: its new features count, its old ones stay where readers have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers import a_record, an_identity
from vidclip.cache import CacheWriter, Failure, FeatureCache, merge, verify


def problems(folder):
    return [problem for checked in verify(folder) for problem in checked.problems]


@pytest.fixture
def old_and_new(rng):
    return a_record("a", rng), a_record("a", rng, generation=1, source_bytes=7)


def test_the_highest_generation_counts(write_cache, rng, old_and_new):
    old, new = old_and_new
    folder = write_cache([old, a_record("b", rng)])
    reader = FeatureCache(folder)
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(new)
        with pytest.raises(ValueError, match="'a' is in"):
            writer.add(new)
    cache = FeatureCache(folder)
    assert (cache.ids, cache.replaced, cache.videos[0].source_bytes) == (["a", "b"], 1, 7)
    np.testing.assert_array_equal(cache.frames([0])[0], new.frames.astype(np.float16))
    np.testing.assert_array_equal(reader.frames([0])[0], old.frames.astype(np.float16))
    assert reader.refresh() == 0, "no more videos than before"
    np.testing.assert_array_equal(reader.frames([0])[0], new.frames.astype(np.float16))
    assert problems(folder) == []


def test_the_order_of_the_shards_does_not_matter(tmp_path, rng, old_and_new):
    old, new = old_and_new
    with CacheWriter(tmp_path, an_identity(), part=(1, 2)) as writer:
        writer.add(old)
    with CacheWriter(tmp_path, an_identity(), part=(0, 2)) as writer:
        writer.add(new)
    assert FeatureCache(tmp_path).videos[0].generation == 1
    assert [checked.path.name for checked in verify(tmp_path)] == [
        "frames-0of2-00000.h5",
        "frames-1of2-00000.h5",
    ]


def test_a_changed_file_that_cannot_be_read_has_no_features(write_cache, rng, old_and_new):
    old, new = old_and_new
    folder = write_cache([old, a_record("b", rng)])
    with CacheWriter(folder, an_identity()) as writer:
        writer.add_failure(Failure("a", "/a", "open", "0 bytes", generation=1))
        assert ("a" in writer, "b" in writer) == (False, True)
    cache = FeatureCache(folder)
    assert (cache.ids, [failure.id for failure in cache.failures()]) == (["b"], ["a"])
    assert cache.next_generation("a") == 1
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(new)
    cache = FeatureCache(folder)
    assert (cache.ids, cache.failures()) == (["a", "b"], [])
    assert cache.next_generation("a") == 2


def test_a_failure_of_the_file_of_today_does_not_hide_its_features(write_cache, rng):
    folder = write_cache([a_record("a", rng)])
    with CacheWriter(folder, an_identity()) as writer:
        writer.add_failure(Failure("a", "/a", "timeout", "60 s"))
    assert FeatureCache(folder).ids == ["a"]


def test_merging_leaves_out_what_was_replaced(write_cache, rng, old_and_new, tmp_path):
    old, new = old_and_new
    folder = write_cache([old, a_record("b", rng)])
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(new)
    merge([folder], tmp_path / "joined")
    joined = FeatureCache(tmp_path / "joined")
    assert (joined.ids, joined.replaced) == (["a", "b"], 0)
    np.testing.assert_array_equal(joined.frames([0])[0], new.frames.astype(np.float16))
    assert problems(tmp_path / "joined") == []


def test_copies_of_one_generation_that_differ_are_an_error(write_cache, rng):
    folder = write_cache([a_record("a", rng)])
    other = write_cache([replace(a_record("a", rng), generation=0)], "other")
    (other / "frames-00000.h5").rename(folder / "frames-00001.h5")
    assert any("'a'" in problem for problem in problems(folder))
