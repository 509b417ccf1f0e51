"""Videos that are recognized by their content: which are, which are not, and what becomes of their earlier ids."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from helpers import a_record, an_identity, save_video, vidclip
from vidclip.cache import CacheWriter, FeatureCache, merge, verify
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import ExtractSettings, extract
from vidclip.pipeline.video import Sampling, content_digest


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu", precision="fp32")


@pytest.fixture
def run(encoder, tmp_path):
    def run(listed, cache="features", sampling=None, **options):
        settings = ExtractSettings(workers=1, batch_size=8, **options)
        return extract(read_videos(listed), encoder, tmp_path / cache, sampling or Sampling(2), settings)

    return run


def known(summary):
    return {each.video.id: each.before.id for each in summary.plan.known}


def assert_same_features(one, other):
    one, other = FeatureCache(one), FeatureCache(other)
    assert one.ids == other.ids
    for name in ("frames", "frame_indices", "timestamps"):
        np.testing.assert_array_equal(getattr(one, name)(), getattr(other, name)())
    fields = (
        "path",
        "root",
        "labels",
        "split",
        "duration_seconds",
        "n_frames",
        "source_bytes",
        "source_digest",
    )
    for mine, theirs in zip(one.videos, other.videos, strict=True):
        assert [getattr(mine, name) for name in fields] == [getattr(theirs, name) for name in fields]


def test_renamed_copied_and_touched_videos_are_not_read(tmp_path, run):
    folder = tmp_path / "videos"
    for number, name in enumerate(("a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4")):
        save_video(folder / name, frames=6, seed=number)
    run(folder)
    first = FeatureCache(tmp_path / "features").videos[0]
    assert first.source_digest == f"sha256:{hashlib.sha256((folder / 'a/1.mp4').read_bytes()).hexdigest()}"
    (folder / "c").mkdir()
    (folder / "a/1.mp4").rename(folder / "c/renamed.mp4")  # a label too: folders are labels
    (folder / "a/2.mp4").rename(folder / "a/1.mp4")  # into the place of another
    shutil.copyfile(folder / "b/3.mp4", folder / "b/copy.mp4")
    os.utime(folder / "b/4.mp4", (1e9, 1e9))
    summary = run(folder)
    assert summary.progress.encoded == 0
    assert known(summary) == {
        "a/1.mp4": "a/2.mp4", "b/4.mp4": "b/4.mp4", "b/copy.mp4": "b/3.mp4", "c/renamed.mp4": "a/1.mp4",
    }  # fmt: skip
    run(folder, "anew")
    assert_same_features(tmp_path / "features", tmp_path / "anew")
    assert FeatureCache(tmp_path / "features").removed == ["a/2.mp4"], (
        "its file is gone, and no list names it"
    )
    assert [problem for file in verify(tmp_path / "features") for problem in file.problems] == []
    again = run(folder)
    assert (known(again), again.progress.present) == ({}, 5)
    merge([tmp_path / "features"], tmp_path / "merged")
    assert_same_features(tmp_path / "merged", tmp_path / "anew")
    assert "1 video given back" in vidclip("remove", "--undo", "--cache", tmp_path / "features").stdout


def test_other_content_and_other_segments_are_read(tmp_path, run):
    path = save_video(tmp_path / "v/a.mp4", frames=20)
    with path.open("ab") as file:
        file.write(struct.pack(">I4s4s", 12, b"free", b"aaaa"))  # a box that players pass over
    (tmp_path / "list.csv").write_text("path,label,start,end\nv/a.mp4,jump,0,1\nv/a.mp4,run,1,2\n")
    run(tmp_path / "list.csv")
    path.rename(tmp_path / "v/b.mp4")
    (tmp_path / "list.csv").write_text("path,start,end\nv/b.mp4,0,1\nv/b.mp4,0.5,1.5\n")
    summary = run(tmp_path / "list.csv")
    assert known(summary) == {"v/b.mp4#t=0,1": "v/a.mp4#t=0,1"}
    assert summary.progress.encoded == 1
    cache = FeatureCache(tmp_path / "features")
    assert cache.ids == ["v/a.mp4#t=1,2", "v/b.mp4#t=0,1", "v/b.mp4#t=0.5,1.5"]
    assert cache.labels[1] == ("jump",), "a list without labels leaves those it had"
    content = bytearray((tmp_path / "v/b.mp4").read_bytes())
    content[-1] ^= 1
    (tmp_path / "v/b.mp4").unlink()
    (tmp_path / "v/c.mp4").write_bytes(content)
    (tmp_path / "list.csv").write_text("path,start,end\nv/c.mp4,0,1\n")
    summary = run(tmp_path / "list.csv")
    assert (known(summary), summary.progress.encoded) == ({}, 1), "one bit of a file of the same size"


def test_of_large_files_the_time_must_agree_too(tmp_path, run):
    path = save_video(tmp_path / "v/a.mp4", frames=6)
    with path.open("ab") as file:  # sparse: 70 MB that take no place
        file.write(struct.pack(">I4s", 70_000_000, b"free"))
        file.truncate(file.tell() + 70_000_000 - 8)
    run(tmp_path / "v")
    assert FeatureCache(tmp_path / "features").videos[0].source_digest.startswith("sha256-parts:")
    path.rename(tmp_path / "v/b.mp4")
    assert known(run(tmp_path / "v")) == {"b.mp4": "a.mp4"}
    os.utime(tmp_path / "v/b.mp4", (1e9, 1e9))
    assert run(tmp_path / "v").progress.encoded == 1, "parts prove less than the whole"


def test_frames_that_are_drawn_by_the_id_stay_with_it(tmp_path, run):
    drawn = Sampling(2, position="random", seed=0)
    path = save_video(tmp_path / "v/a.mp4", frames=30)
    run(tmp_path / "v", sampling=drawn)
    os.utime(path, (1e9, 1e9))
    assert known(run(tmp_path / "v", sampling=drawn)) == {"a.mp4": "a.mp4"}
    path.rename(tmp_path / "v/b.mp4")
    assert run(tmp_path / "v", sampling=drawn).progress.encoded == 1


def test_digests_of_folders_and_of_what_is_no_video(tmp_path):
    for folder, names in (("one", ("1", "2", "10")), ("two", ("img_1", "img_2", "img_3")), ("other", "132")):
        (tmp_path / folder).mkdir()
        for name, gray in zip(names, (10, 20, 30), strict=True):
            Image.new("L", (8, 8), gray).save(tmp_path / folder / f"{name}.png")
    one, two, other = (content_digest(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two, "names do not count"
    assert one.startswith("sha256-images:")
    assert one != other, "the order of showing does"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert [content_digest(tmp_path / name) for name in ("pipe.mp4", "none.mp4", "")] == ["", "", ""]


def test_a_cache_without_digests_goes_on_working(tmp_path, rng):
    """What of a shard's columns are optional is held by `test_format.py`; here, what an extraction makes of it."""
    from vidclip.pipeline.extraction.plan import plan_extraction

    path = save_video(tmp_path / "v/new.mp4", frames=6)
    size = path.stat().st_size
    for name, digest in (("older", ""), ("newer", content_digest(path))):
        with CacheWriter(tmp_path / name, an_identity()) as writer:
            writer.add(
                a_record("old.mp4", rng, source_bytes=size, source_modified_ns=1, source_digest=digest)
            )
        plan = plan_extraction(read_videos(tmp_path / "v"), FeatureCache(tmp_path / name), ExtractSettings())
        assert [each.before.id for each in plan.known] == (["old.mp4"] if digest else [])
        assert len(plan.todo) == (0 if digest else 1)
