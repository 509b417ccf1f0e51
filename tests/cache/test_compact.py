"""Compaction: the same cache in fewer files, whenever it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import a_record, an_identity, as_version1
from vidclip.cache import (
    CacheBusy,
    CacheError,
    CacheWriter,
    Failure,
    FeatureCache,
    ListFacts,
    compact,
    plan_compaction,
    remove_videos,
    restore_videos,
    update_labels,
    verify,
)

ROW = 4 * (2 * 16 + 16)
"""Bytes of features and times of a test's record."""
N = 12


@pytest.fixture
def folder(write_cache, rng):
    """Twelve videos in six shards, in no order; one was removed, one read again, one labeled otherwise."""
    order = rng.permutation(N).tolist()
    records = [
        a_record(f"v{i:02}", rng, labels=(f"c{i % 3}",) * (i % 2), split="test", note="odd" if i == 4 else "")
        for i in order
    ]
    folder = write_cache(records, shards=[2] * 6)
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(a_record("v03", rng, generation=1))
        writer.add_failure(Failure("v99", "/v99", "open", "0 bytes"))
    remove_videos(folder, ["v05", "v99"])
    update_labels(folder, {"v07": ListFacts(("other",), "train")}, N)
    (folder / "text-x.h5").write_bytes(b"not looked at")
    return folder


def content(folder: Path) -> tuple[object, ...]:
    cache = FeatureCache(folder)
    arrays = cache.frames().tobytes(), cache.frame_indices().tobytes(), cache.timestamps().tobytes()
    failed = [failure.id for failure in cache.failures()]
    return list(cache.videos), *arrays, failed, cache.precisions


def problems(folder: Path) -> list[str]:
    (folder / "text-x.h5").unlink(missing_ok=True)
    return [problem for checked in verify(folder) for problem in checked.problems]


def test_a_compacted_cache_is_the_same_in_fewer_files(folder):
    before = content(folder)
    old = sorted(folder.glob("frames-*.h5"))
    plan = plan_compaction(FeatureCache(folder), shard_bytes=5 * ROW)
    assert (plan.removed, plan.dropped, plan.videos, plan.new_shards) == (["v05"], 2, 11, 3)
    done = compact(folder, shard_bytes=5 * ROW)
    assert (len(done.shards), done.new_shards, done.num_bytes) == (7, 3, 11 * ROW)
    cache = FeatureCache(folder)
    assert content(folder) == before
    assert not {shard.path for shard in cache.shards} & set(old)
    assert [shard.num_videos for shard in cache.shards] == [5, 5, 1]
    assert cache.storage_order().tolist() == list(range(11)), "in the order of the ids"
    assert all(shard.indexed for shard in cache.shards)
    assert (cache.replaced, cache.removed, cache.removals) == (0, [], {})
    assert restore_videos(folder) == []
    assert "v05" not in FeatureCache(folder)
    assert (folder / "text-x.h5").read_bytes() == b"not looked at"
    assert problems(folder) == []


def test_what_was_removed_can_be_extracted_again(folder, rng):
    compact(folder)
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(a_record("v05", rng))
    assert "v05" in FeatureCache(folder)


def test_large_shards_are_left_alone_unless_all_are_meant(folder, rng):
    compact(folder, shard_bytes=1, everything=True)  # a shard for each video
    shards = [shard.path for shard in FeatureCache(folder).shards]
    assert len(shards) == 11
    done = compact(folder, shard_bytes=1)
    assert (done.shards, done.new_shards) == ([], 0)
    assert [shard.path for shard in FeatureCache(folder).shards] == shards
    remove_videos(folder, ["v00"])
    done = compact(folder, shard_bytes=1)
    assert (len(done.shards), done.new_shards, done.dropped) == (1, 0, 1)
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(a_record("u", rng))
    assert FeatureCache(folder).storage_order()[0] != 0
    assert compact(folder, shard_bytes=1).shards == []
    assert len(compact(folder, shard_bytes=3 * ROW, everything=True).shards) == 11
    assert FeatureCache(folder).storage_order().tolist() == list(range(11))
    assert compact(folder, shard_bytes=3 * ROW, everything=True).shards == [], "it is in order already"


def test_precisions_are_kept_apart(folder, rng):
    with CacheWriter(folder, an_identity(), precision="fp16", shard_videos=1) as writer:
        for id in ("w1", "a1"):
            writer.add(a_record(id, rng))
    compact(folder)
    assert [(shard.precision, shard.num_videos) for shard in FeatureCache(folder).shards] == [
        ("fp32", 11),
        ("fp16", 2),
    ]


def test_patch_tokens_and_version_1_come_along(tmp_path, rng):
    with CacheWriter(tmp_path, an_identity(), shard_videos=1) as writer:
        for id in "cab":
            writer.add(a_record(id, rng, patches=rng.standard_normal((1, 3, 8)).astype(np.float16)))
    as_version1(tmp_path / "frames-00001.h5")
    before = FeatureCache(tmp_path).patches()
    compact(tmp_path)
    cache = FeatureCache(tmp_path)
    np.testing.assert_array_equal(cache.patches(), before)
    assert [(shard.num_videos, shard.indexed) for shard in cache.shards] == [(3, True)]


def test_nothing_is_begun_where_it_cannot_end(folder, monkeypatch):
    before = sorted(folder.iterdir())
    with CacheWriter(folder, an_identity()), pytest.raises(CacheBusy):
        compact(folder)
    with pytest.raises(CacheError, match="1 videos were taken out .* since it was asked"):
        compact(folder, removed=[])
    shard = folder / "frames-00003.h5"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:900] + bytes([whole[900] ^ 1]) + whole[901:])
    free = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=100))
    with pytest.raises(CacheError, match=r"needs .* GB beside what is there, and 0\.0 GB are free"):
        compact(folder)
    assert sorted(folder.iterdir()) == before


def test_a_damaged_shard_is_named_and_nothing_deleted(folder):
    cache = FeatureCache(folder)
    shard = cache.shards[3]
    place = shard.contents.columns["frames"].offset
    whole = shard.path.read_bytes()
    shard.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(CacheError, match=r"frames-00003\.h5 has changed"):
        compact(folder)
    assert {each.path for each in cache.shards} <= set(folder.iterdir())
    shard.path.write_bytes(whole)
    before = content(folder)
    compact(folder)
    assert content(folder) == before


def killed_at(number: int, folder: Path) -> bool:
    """Compact in a process that kills itself before the n-th time it makes, renames or deletes a file; whether it did."""
    child = os.fork()
    if not child:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            writes = event == "open" and str(folder) in str(arguments[0]) and str(arguments[1])[:1] in "wxa"
            if writes or event in ("os.rename", "os.remove"):
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            compact(folder, shard_bytes=5 * ROW)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WIFSIGNALED(status)
    return status != 0


def test_it_may_be_killed_at_any_moment(folder, tmp_path):
    before = content(folder)
    number, seen = 0, set()
    again = tmp_path / "again"
    killed = True
    while killed:
        number += 1
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(folder, again)
        killed = killed_at(number, again)
        assert content(again) == before, number
        assert FeatureCache(again).removals.keys() <= {"v05", "v99"}
        seen.add(len(list(again.glob("frames-*.h5"))))
        compact(again, shard_bytes=5 * ROW)
        assert content(again) == before, number
        shards = FeatureCache(again).shards
        assert sum(shard.num_videos for shard in shards) == 11, "nothing stands twice"
        assert not list(again.glob(".*.tmp"))
    assert problems(again) == []
    assert seen == set(range(3, 11)), "with every mixture of old and new shards"
