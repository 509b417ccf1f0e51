"""`vidclip compact`: what it says, and what it asks."""

from __future__ import annotations

import pytest

from helpers import a_record, vidclip
from vidclip.cache import FeatureCache, remove_videos


@pytest.fixture
def cache(write_cache, rng):
    return write_cache([a_record(f"v{i}", rng) for i in range(6)], shards=[2, 2, 2])


def test_small_files_are_joined(cache, tmp_path):
    done = vidclip("compact", cwd=tmp_path)
    assert "features: 6 videos of 3 shards are in 1 shard now (1.2 kB of features)." in done.stdout
    assert (cache / "cache.index").exists()
    assert "there is nothing to join; the index is written" in vidclip("compact", cwd=tmp_path).stdout
    assert "there is nothing to join" in vidclip("compact", "--all", cwd=tmp_path).stdout
    assert "2 files with 6 videos, all sound" in vidclip("verify", cwd=tmp_path).stdout, "the index is one"


def test_what_was_removed_goes_after_a_question(cache, tmp_path):
    remove_videos(cache, ["v1", "v4"])
    done = vidclip("compact", cwd=tmp_path)
    assert "The features of 2 videos that were taken out of features go for good:\n  v1\n  v4" in done.stdout
    assert "`vidclip remove --undo` cannot give them back then" in done.stderr
    assert (done.returncode, "nothing was changed" in done.stderr) == (2, True)
    assert len(FeatureCache(cache).shards) == 3
    done = vidclip("compact", "--yes", cwd=tmp_path)
    assert (
        "4 videos of 3 shards are in 1 shard now (768 bytes of features), 2 rows that did not count"
        in done.stdout
    )
    done = vidclip("remove", "--undo", cwd=tmp_path)
    assert "has nothing to give back" in done.stderr
    assert FeatureCache(cache).ids == ["v0", "v2", "v3", "v5"]
