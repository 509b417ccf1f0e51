"""Videos that are taken out of a cache: no shard changes, readers honor it, and it can be undone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers import a_record, an_identity, vidclip
from vidclip.cache import (
    CacheBusy,
    CacheError,
    CacheWriter,
    Failure,
    FeatureCache,
    merge,
    remove_videos,
    restore_videos,
    verify,
)


def problems(folder):
    return [problem for checked in verify(folder) for problem in checked.problems]


@pytest.fixture
def records(rng):
    return {id: a_record(id, rng, labels=(id,)) for id in "abcd"}


@pytest.fixture
def folder(write_cache, records):
    return write_cache(list(records.values()), shards=[2, 2])


def test_removed_videos_do_not_count_and_the_others_are_as_before(folder, records):
    reader = FeatureCache(folder)
    shards = {path.name: path.read_bytes() for path in folder.glob("*.h5")}
    assert remove_videos(folder, ["c", "a", "c", "nowhere"]) == ["c", "a"]
    cache = FeatureCache(folder)
    assert (cache.ids, cache.labels, sorted(cache.removed), cache.replaced) == (
        ["b", "d"],
        [("b",), ("d",)],
        ["a", "c"],
        0,
    )
    np.testing.assert_array_equal(cache.frames(), [records[id].frames.astype(np.float16) for id in "bd"])
    assert reader.ids == list("abcd")
    np.testing.assert_array_equal(reader.frames([0])[0], records["a"].frames.astype(np.float16))
    reader.refresh()
    assert reader.ids == ["b", "d"]
    assert {path.name: path.read_bytes() for path in folder.glob("*.h5")} == shards
    assert problems(folder) == []


def test_undoing_gives_back_the_last_removal_or_the_named(folder, records):
    remove_videos(folder, ["a"])
    remove_videos(folder, ["b", "c"])
    reader = FeatureCache(folder)
    assert restore_videos(folder) == ["b", "c"]
    assert FeatureCache(folder).ids == ["b", "c", "d"]
    reader.refresh()
    assert reader.ids == ["b", "c", "d"]
    np.testing.assert_array_equal(reader.frames([0])[0], records["b"].frames.astype(np.float16))
    remove_videos(folder, ["d"])
    assert restore_videos(folder, ["a", "b"]) == ["a"]
    assert FeatureCache(folder).ids == ["a", "b", "c"]
    assert restore_videos(folder) == ["d"]
    assert restore_videos(folder) == []
    assert not (folder / "removed.jsonl").exists()


def test_a_removed_video_that_is_encoded_anew_is_there_again(folder, rng):
    remove_videos(folder, ["a", "b"])
    assert FeatureCache(folder).next_generation("a") == 1
    new = a_record("a", rng)
    with CacheWriter(folder, an_identity()) as writer:
        assert [id in writer for id in "abcd"] == [False, False, True, True]
        writer.add(new)
    cache = FeatureCache(folder)
    assert (cache.ids, cache.removed) == (["a", "c", "d"], ["b"])
    np.testing.assert_array_equal(cache.frames([0])[0], new.frames.astype(np.float16))
    assert restore_videos(folder) == ["b"]
    np.testing.assert_array_equal(FeatureCache(folder).frames([0])[0], new.frames.astype(np.float16))
    remove_videos(folder, ["a"])
    assert FeatureCache(folder).ids == ["b", "c", "d"], "removed again, in its new generation"
    assert problems(folder) == []


def test_failures_from_before_are_removed_too_and_later_ones_stand(folder):
    with CacheWriter(folder, an_identity()) as writer:
        writer.add_failure(Failure("a", "/a", "timeout", "60 s"))
    remove_videos(folder, ["a"])
    assert FeatureCache(folder).failures() == [], "else an extraction would not try it"
    with CacheWriter(folder, an_identity()) as writer:
        assert writer.failed_ids == set()
        writer.add_failure(Failure("a", "/a", "open", "0 bytes"))
    assert [failure.stage for failure in FeatureCache(folder).failures()] == ["open"]


def test_merging_leaves_removed_videos_behind(folder, tmp_path):
    remove_videos(folder, ["a", "c"])
    assert merge([folder], tmp_path / "new").videos == 2
    cache = FeatureCache(tmp_path / "new")
    assert (cache.ids, cache.removed) == (["b", "d"], [])


def test_what_the_output_has_removed_is_not_brought_back(folder, tmp_path):
    merge([folder], tmp_path / "new")
    remove_videos(tmp_path / "new", ["b"])
    merged = merge([folder], tmp_path / "new")
    assert (merged.videos, merged.left_out, merged.already_there) == (0, 1, 3)
    assert FeatureCache(tmp_path / "new").ids == list("acd")
    restore_videos(tmp_path / "new")
    assert FeatureCache(tmp_path / "new").ids == list("abcd")


def test_what_a_source_has_removed_comes_from_no_other(folder, write_cache, records, rng, tmp_path):
    other = write_cache([records["a"], a_record("e", rng)], name="other")
    remove_videos(folder, ["a"])
    for number, sources in enumerate(([folder, other], [other, folder])):
        merged = merge(sources, tmp_path / str(number))
        assert (merged.videos, merged.left_out, merged.already_there) == (4, 1, 0)
        assert FeatureCache(tmp_path / str(number)).ids == list("bcde")
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(records["a"])  # it is read again
    assert merge([folder, other], tmp_path / "0").videos == 1
    remove_videos(other, ["a"])
    merged = merge([folder, other], tmp_path / "0")
    assert (merged.videos, merged.left_out, merged.kept) == (0, 0, 1)
    assert "a" in FeatureCache(tmp_path / "0"), "it is there from before, and that is said"
    done = vidclip("merge", folder, other, "--output", tmp_path / "0")
    assert "1 video that a source has removed stay" in done.stderr
    assert (
        "1 left out that had been removed"
        in vidclip("merge", folder, other, "--output", tmp_path / "n").stdout
    )


def test_nothing_is_removed_while_another_writes(folder):
    with CacheWriter(folder, an_identity()):
        for act in (lambda: remove_videos(folder, ["a"]), lambda: restore_videos(folder)):
            with pytest.raises(CacheBusy):
                act()
    assert len(FeatureCache(folder)) == 4


def no_generation(data):
    return data.replace(b'"generation": 1', b'"generation": 0')


@pytest.mark.parametrize(
    "damage", [no_generation, lambda data: data[:-3], lambda _: b"", lambda _: b"[" * 99_999]
)
def test_a_damaged_file_is_named(folder, damage):
    remove_videos(folder, ["a"])
    path = folder / "removed.jsonl"
    assert json.loads(path.read_text().splitlines()[1])["id"] == "a"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CacheError, match=r"removed\.jsonl is damaged .* Delete it"):
        FeatureCache(folder)
    assert any("removed.jsonl is damaged" in problem for problem in problems(folder))


def test_no_cache_is_made_where_there_is_none(tmp_path):
    with pytest.raises(CacheError, match="does not exist"):
        remove_videos(tmp_path / "none", ["a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CacheError, match=r"no cache\.json"):
        remove_videos(tmp_path / "empty", ["a"])
    assert list((tmp_path / "empty").iterdir()) == []
