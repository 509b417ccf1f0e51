"""Labels and splits are facts of a list: a later list changes them, and no shard with them."""

from __future__ import annotations

import json
import os
import threading

import pytest

from helpers import a_record, an_identity
from vidclip.cache import (
    CacheError,
    CacheWriter,
    FeatureCache,
    ListFacts,
    MissingVideo,
    merge,
    update_labels,
    update_missing,
    verify,
    write_missing,
)


def problems(folder):
    return [problem for checked in verify(folder) for problem in checked.problems]


@pytest.fixture
def folder(write_cache, rng):
    return write_cache([a_record(id, rng, labels=("old",), split="train") for id in "abc"])


def test_labels_of_a_later_list_replace_those_of_the_shards(folder):
    reader = FeatureCache(folder)
    shards = {path.name: path.read_bytes() for path in folder.glob("*.h5")}
    odd = (os.fsdecode(b"caf\xe9"), "打篮球", "")
    update_labels(folder, {"a": ListFacts(("new",), "test")}, 3)
    update_labels(folder, {"b": ListFacts(odd, "")}, 3)
    cache = FeatureCache(folder)
    assert cache.labels == [("new",), odd, ("old",)]
    assert cache.splits == ["test", "", "train"]
    assert [video.labels for video in cache.videos] == cache.labels
    assert reader.labels == [("old",)] * 3, "as it was when it was opened"
    reader.refresh()
    assert reader.labels == cache.labels
    assert problems(folder) == []
    assert shards == {path.name: path.read_bytes() for path in folder.glob("*.h5")}


def test_concurrent_jobs_keep_each_others_labels(folder):
    jobs = [
        threading.Thread(target=update_labels, args=(folder, {f"{job}": ListFacts((f"{job}",), "")}, 3))
        for job in range(8)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len((folder / "labels.jsonl").read_text().splitlines()) == 9


def test_merging_applies_them(folder, tmp_path):
    joined = tmp_path / "joined"
    merge([folder], joined)
    assert not (joined / "labels.jsonl").exists()
    update_labels(folder, {"a": ListFacts(("new",), "test")}, 3)
    assert merge([folder], tmp_path / "later").videos == 3
    assert FeatureCache(tmp_path / "later").labels[0] == ("new",)
    again = merge([folder], joined)
    assert (again.videos, again.already_there, again.relabeled) == (0, 3, 1)
    assert FeatureCache(joined).labels[0] == ("new",)
    assert merge([folder], joined).relabeled == 0


def test_merging_again_updates_what_was_read_again(write_cache, rng, tmp_path):
    first = write_cache([a_record("a", rng, source_bytes=1, source_modified_ns=1)], "first")
    second = write_cache([a_record("a", rng, source_bytes=2, source_modified_ns=2)], "second")
    joined = tmp_path / "joined"
    merge([first, second], joined)
    assert merge([first, second], joined).videos == 0
    with CacheWriter(first, an_identity()) as writer:
        writer.add(a_record("a", rng, source_bytes=3, source_modified_ns=3, generation=1))
    assert merge([first, second], joined).videos == 1
    assert [video.source_bytes for video in FeatureCache(joined).videos] == [3]
    assert merge([first, second], joined).videos == 0
    assert problems(joined) == []


def flip(data):
    return data.replace(b"new", b"now")


def deep(data):
    return b"[" * 100_000


def other_types(data):
    head, rest = json.loads(data.splitlines()[0]), b'{"id": 3, "labels": "x", "split": ""}\n'
    import hashlib

    head["sha256"] = hashlib.sha256(rest).hexdigest()
    return json.dumps(head).encode() + b"\n" + rest


@pytest.mark.parametrize("damage", [flip, deep, other_types, lambda data: data[:-4], lambda _: b""])
def test_a_damaged_file_is_named(folder, damage):
    update_labels(folder, {"a": ListFacts(("new",), "test")}, 3)
    path = folder / "labels.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CacheError, match=r"labels\.jsonl is damaged .* Delete it and run"):
        FeatureCache(folder)
    assert any("labels.jsonl is damaged" in problem for problem in problems(folder))
    path.unlink()
    assert FeatureCache(folder).labels == [("old",)] * 3


def test_a_file_far_too_large_for_its_cache_is_not_read(folder):
    with (folder / "labels.jsonl").open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(CacheError, match="bytes, for 3 videos"):
        FeatureCache(folder)


# --- what lists miss


def test_each_list_replaces_its_own_missing_videos(folder):
    def ids():
        return [video.id for video in FeatureCache(folder).missing()]

    update_missing(folder, [MissingVideo("x", source="one"), MissingVideo("y", source="one")], "one", ())
    update_missing(folder, [MissingVideo("z", source="two")], "two", ())
    assert ids() == ["x", "y", "z"]
    update_missing(folder, [MissingVideo("y", source="one")], "one", ())
    assert ids() == ["z", "y"], "the list does not name x any more"
    update_missing(folder, [], "three", {"z"})
    assert ids() == ["y"], "z was found"
    update_missing(folder, [], "one", ())
    assert not (folder / "missing.jsonl").exists()


def test_entries_without_a_source_stay_until_they_are_found(folder):
    write_missing(folder, [MissingVideo("x"), MissingVideo("y")])
    update_missing(folder, [MissingVideo("y", source="one")], "one", {"x"})
    assert [(video.id, video.source) for video in FeatureCache(folder).missing()] == [("y", "one")]
