"""A cache gives back what was put in, to whoever reads it, while others write."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import a_record, an_identity, change_file
from vidclip.cache import (
    CacheBusy,
    CacheError,
    CacheMismatch,
    CacheWriter,
    Failure,
    FeatureCache,
    verify,
    where_writable,
    write_whole,
)


def test_a_cache_is_read_where_there_is_nothing_of_posix(write_cache, rng):
    """As on Windows: no fcntl, no resource, no pread, none of the flags of `open`. Nothing is written there."""
    folder = write_cache([a_record(f"{n}.mp4", rng) for n in range(3)])
    np.save(folder.parent / "expected.npy", FeatureCache(folder).frames())
    code = (
        "import json, os, sys, numpy as np\n"
        "sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "for name in ('pread', 'preadv', 'O_NONBLOCK', 'O_CLOEXEC'): delattr(os, name)\n"
        "from vidclip.cache import CacheError, FeatureCache, update_labels\n"
        "cache = FeatureCache(sys.argv[1])\n"
        "assert np.array_equal(cache.frames(), np.load(sys.argv[2])), 'other features'\n"
        "try: update_labels(cache.folder, {'0.mp4': (('a',), 'test')}, 3)\n"
        "except CacheError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(folder.parent / "expected.npy")],
        capture_output=True,
        text=True,
    )
    assert "They can be read here; write them on Linux or macOS" in done.stdout, done.stderr


def test_what_is_written_is_read(write_cache, rng):
    records = [
        a_record("b/2.mp4", rng, labels=("<b>bold</b>", "naïve 打篮球"), split="test", duration_seconds=1.5),
        a_record("a/1.mp4", rng, n_frames=9, readable_frames=7, repeated=True, decoder="pyav 14", note="why"),
    ]
    cache = FeatureCache(write_cache(records))

    assert cache.ids == ["a/1.mp4", "b/2.mp4"], "in the order of their ids"
    assert cache.shape == (2, 1, 4, 16)
    first, second = cache.videos
    assert (first.n_frames, first.readable_frames, first.repeated) == (9, 7, True)
    assert (first.decoder, first.note, first.labels) == ("pyav 14", "why", ())
    assert (second.labels, second.split, second.duration_seconds) == (
        ("<b>bold</b>", "naïve 打篮球"),
        "test",
        1.5,
    )
    np.testing.assert_array_equal(cache.frames()[1], records[0].frames.astype(np.float16))
    np.testing.assert_array_equal(cache.frame_indices()[0], records[1].frame_indices)
    np.testing.assert_array_equal(cache.timestamps()[0], records[1].timestamps)
    assert cache.index("b/2.mp4") == 1
    assert "b/2.mp4" in cache
    assert "c" not in cache


def test_the_file_that_was_read_is_remembered(write_cache, rng):
    known = a_record(
        "a", rng, root="/videos", source_bytes=2**40, source_modified_ns=1_700_000_000_123_456_789
    )
    first, second = FeatureCache(write_cache([known, a_record("b", rng)])).videos
    assert (first.root, first.source_bytes) == ("/videos", 2**40)
    assert first.source_modified_ns == 1_700_000_000_123_456_789
    assert (second.root, second.source_bytes, second.source_modified_ns) == ("", -1, -1)


def test_shards_that_do_not_know_their_files_are_read(write_cache, rng):
    folder = write_cache([a_record("a", rng, root="/videos", source_bytes=5)])

    def forget(columns, _):
        for name in ("root", "source_bytes", "source_modified_ns"):
            del columns[name]

    change_file(folder / "frames-00000.h5", forget)
    (video,) = FeatureCache(folder).videos
    assert (video.root, video.source_bytes, video.source_modified_ns) == ("", -1, -1)


def test_names_that_are_not_utf8_are_kept(write_cache, rng):
    name = os.fsdecode(b"caf\xe9.mp4")
    cache = FeatureCache(write_cache([a_record(name, rng, labels=(os.fsdecode(b"\xff"),))]))
    assert cache.ids == [name]
    assert os.fsencode(cache.labels[0][0]) == b"\xff"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_indices_from_any_shards(tmp_path_factory, data):
    n = data.draw(st.integers(1, 12))
    order = data.draw(st.permutations(range(n)))
    cuts = sorted(data.draw(st.sets(st.integers(1, n), max_size=3)) | {n})
    rng = np.random.default_rng(n)
    records = [a_record(f"{i:03}", rng) for i in order]
    folder = tmp_path_factory.mktemp("rows")
    with CacheWriter(folder, an_identity()) as writer:
        for i, record in enumerate(records, 1):
            writer.add(record)
            if i in cuts:
                writer.flush()
    cache = FeatureCache(folder)
    expected = np.stack([r.frames for r in sorted(records, key=lambda r: r.id)]).astype(np.float16)
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=8))
    np.testing.assert_array_equal(cache.frames(), expected)
    np.testing.assert_array_equal(cache.frames(rows), expected[rows])
    np.testing.assert_array_equal(cache.frames(slice(1, None, 2)), expected[1::2])
    batches = list(cache.batches(data.draw(st.integers(1, 5)), rows))
    assert [row for piece, _ in batches for row in piece] == rows
    if rows:
        np.testing.assert_array_equal(np.concatenate([frames for _, frames in batches]), expected[rows])


def test_rejects_indices_out_of_range(write_cache, rng):
    cache = FeatureCache(write_cache([a_record("a", rng)]))
    with pytest.raises(IndexError, match="between 0 and 0"):
        cache.frames([1])
    with pytest.raises(TypeError, match="flatnonzero"):
        cache.frames(np.array([True]))


def test_a_reader_sees_closed_shards_while_a_writer_works(tmp_path, rng):
    with CacheWriter(tmp_path, an_identity(), shard_videos=2) as writer:
        for id in "abc":
            writer.add(a_record(id, rng))
        cache = FeatureCache(tmp_path)
        assert cache.ids == ["a", "b"], "the third still gathers"
        writer.add(a_record("aa", rng))
        assert cache.ids == ["a", "b"]
        assert cache.refresh() == 2
        assert cache.ids == ["a", "aa", "b", "c"]
    assert len(FeatureCache(tmp_path)) == 4


def test_shards_are_bounded_in_videos_bytes_and_seconds(tmp_path, rng):
    for limit in ({"shard_videos": 1}, {"shard_bytes": 64}, {"shard_seconds": 0.0}):
        folder = tmp_path / next(iter(limit))
        with CacheWriter(folder, an_identity(), **limit) as writer:
            writer.add(a_record("a", rng))
            assert FeatureCache(folder).ids == ["a"]


def test_an_empty_cache_has_no_videos(write_cache):
    cache = FeatureCache(write_cache([]))
    assert len(cache) == 0
    assert cache.frames().shape == (0, 0, 0, 0)


def test_another_identity_is_refused_with_both_names(write_cache, rng, tmp_path):
    folder = write_cache([a_record("a", rng)])
    with pytest.raises(
        CacheMismatch, match=r"(?s)ViT-B-16 \(openai\), 4 frames.*this run asks for.*8 frames.*Use another"
    ):
        CacheWriter(folder, an_identity(frames=8))
    same_words = an_identity(resize=256)
    with pytest.raises(CacheMismatch, match=r"They differ in sampling.resize: None there, 256 here"):
        CacheWriter(folder, same_words)
    assert FeatureCache(folder).ids == ["a"]


def test_only_one_writer_unless_they_share_the_list(tmp_path, rng):
    with (
        CacheWriter(tmp_path, an_identity()),
        pytest.raises(CacheBusy, match="another extraction is writing"),
    ):
        CacheWriter(tmp_path, an_identity())
    with CacheWriter(tmp_path, an_identity(), part=(0, 2)) as first:
        with pytest.raises(CacheBusy):
            CacheWriter(tmp_path, an_identity())
        with pytest.raises(CacheBusy):
            CacheWriter(tmp_path, an_identity(), part=(0, 2))
        with pytest.raises(CacheBusy):
            CacheWriter(tmp_path, an_identity(), part=(1, 3))
        with CacheWriter(tmp_path, an_identity(), part=(1, 2)) as second:
            first.add(a_record("a", rng))
            second.add(a_record("b", rng))
    with CacheWriter(tmp_path, an_identity(), part=(1, 3)) as other:
        other.add(a_record("c", rng))
    assert FeatureCache(tmp_path).ids == ["a", "b", "c"]


def _hold(folder, ready):
    with CacheWriter(folder, an_identity()):
        ready.set()
        time.sleep(60)


def test_killing_a_writer_releases_its_lock(tmp_path, rng):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    (tmp_path / ".frames-00000.h5.1.tmp").write_bytes(b"half a shard")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with CacheWriter(tmp_path, an_identity()) as writer:
        writer.add(a_record("a", rng))
    assert FeatureCache(tmp_path).ids == ["a"]
    assert not list(tmp_path.glob(".*.tmp")), "what the killed one left is cleared"


def test_writing_a_file_clears_what_a_killed_writer_left_of_it(tmp_path):
    (tmp_path / ".head[1].bin.0123.tmp").write_bytes(b"half of it")
    (tmp_path / ".other.bin.0123.tmp").write_bytes(b"half of another")
    with (tmp_path / ".head[1].bin.4567.tmp").open("xb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)  # somebody else is writing it at this moment
        write_whole(tmp_path / "head[1].bin", b"all")
    left = [".head[1].bin.4567.tmp", ".other.bin.0123.tmp", "head[1].bin"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_what_a_killed_part_left_is_cleared_and_nothing_that_is_being_written(tmp_path):
    with CacheWriter(tmp_path, an_identity(), part=(0, 2)):
        (tmp_path / ".frames-1of2-00000.h5.0123.tmp").write_bytes(b"half a shard")
        with (tmp_path / ".text-x.h5.4567.tmp").open("xb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)  # as a process that is writing does
            with CacheWriter(tmp_path, an_identity(), part=(1, 2)):
                assert [path.name for path in tmp_path.glob(".*.tmp")] == [".text-x.h5.4567.tmp"]
        with CacheWriter(tmp_path, an_identity(), part=(1, 2)):
            assert not list(tmp_path.glob(".*.tmp"))


STARTING = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers import an_identity
from vidclip.cache import CacheBusy, CacheWriter, write_whole
folder, kind, number, start = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
for round in range(20):
    own = folder / str(round)
    time.sleep(max(0, start + round * 0.05 - time.time()))
    try:
        if kind == "file":
            own.mkdir(exist_ok=True)
            for i in range(4):
                write_whole(own / f"text-{number}-{i}.h5", b"text")
        else:
            part = (number, 4) if kind == "part" else None
            with CacheWriter(own, an_identity(), part=part):
                print("open")
                time.sleep(0.02)
    except CacheBusy:
        print("busy")
"""


@pytest.mark.parametrize("kind", ["part", "alone"])
def test_writers_that_start_at_one_moment(tmp_path, kind):
    """On a new folder, while others write files there: each begins, or finds it taken, and no file is lost."""
    command = [sys.executable, "-c", STARTING, str(Path(__file__).parents[1]), str(tmp_path)]
    start = time.time() + 2
    started = [
        subprocess.Popen(
            [*command, what, str(number), str(start)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, what in enumerate([kind] * 4 + ["file"] * 2)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [errors for _, errors in said] == [""] * 6
    words = Counter(word for output, _ in said for word in output.split())
    assert words["open"] == 80 if kind == "part" else words["open"] >= 20
    assert words["open"] + words["busy"] == 80
    for round in tmp_path.iterdir():
        assert FeatureCache(round).identity == an_identity()
        assert len(list(round.glob("text-*.h5"))) == 8
        assert not list(round.glob(".*.tmp"))


def test_an_identity_that_nothing_was_computed_for_may_be_replaced(tmp_path, rng):
    with CacheWriter(tmp_path, an_identity(frames=10**12)) as writer:
        writer.add_failure(Failure("a", "/a", "decode", "no room"))
        with pytest.raises(CacheBusy):
            CacheWriter(tmp_path, an_identity())
    with (
        CacheWriter(tmp_path, an_identity(frames=10**9), part=(0, 2)),
        pytest.raises(CacheMismatch),  # somebody is at work with it
    ):
        CacheWriter(tmp_path, an_identity(), part=(1, 2))
    with CacheWriter(tmp_path, an_identity(), part=(1, 2)) as writer:
        assert writer.failed_ids == set(), "that was another sampling's"
        writer.add(a_record("a", rng))
    assert FeatureCache(tmp_path).identity == an_identity()
    with pytest.raises(CacheMismatch):
        CacheWriter(tmp_path, an_identity(frames=8))
    assert FeatureCache(tmp_path).ids == ["a"]


READ_ONLY = """
import sys
from pathlib import Path
from vidclip.cache import where_writable, write_whole
folder = Path(sys.argv[1])
with where_writable(folder / "text-x.h5"):
    write_whole(folder / "text-x.h5", b"text")
print("went on")
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="needs the right to mount",
)
def test_a_read_only_file_system_is_logged(tmp_path):
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, READ_ONLY],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert "text-x.h5' could not be kept (Read-only file system)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_always_an_error(tmp_path):
    with pytest.raises(OSError, match="No space left"), where_writable(tmp_path / "text-x.h5"):
        Path("/dev/full").write_bytes(b"text")


def test_writer_rejects_unusable_embeddings(tmp_path, rng):
    with CacheWriter(tmp_path, an_identity()) as writer:
        writer.add(a_record("a", rng))
        with pytest.raises(ValueError, match="in .* already"):
            writer.add(a_record("a", rng))
        with pytest.raises(ValueError, match=r"shape \(1, 5, 16\), expected \(1, 4, 16\)"):
            writer.add(a_record("b", rng, frames=5))
        bad = a_record("c", rng)
        bad.frames[0, 0, 0] = 70000  # beyond float16
        with pytest.raises(ValueError, match="not finite"):
            writer.add(bad)
        empty = a_record("d", rng)
        empty.frames[0, 2] = 1e-9  # nothing is left of it in float16
        with pytest.raises(ValueError, match="'d' has embeddings that are all zero in float16"):
            writer.add(empty)
    assert FeatureCache(tmp_path).ids == ["a"]


def test_buffered_videos_are_kept_when_the_caller_fails(tmp_path, rng):
    with pytest.raises(KeyboardInterrupt), CacheWriter(tmp_path, an_identity()) as writer:
        writer.add(a_record("a", rng))
        raise KeyboardInterrupt
    assert FeatureCache(tmp_path).ids == ["a"]


FULL_DISK = """
import resource, signal, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from helpers import a_record, an_identity, change_file
from vidclip.cache import CacheWriter
rng = np.random.default_rng(0)
with CacheWriter(sys.argv[1], an_identity(), shard_videos=10) as writer:
    for i in range(10):
        writer.add(a_record(f"small{i}", rng))
    # No file may grow past 20 kB from here on: as good as a full disk, without being root.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    for i in range(500):
        writer.add(a_record(f"big{i}", rng, labels=("x" * 5000,)))
"""


def test_a_file_is_replaced_and_never_written_over(tmp_path):
    """Whoever has the old file open, or loses power, has the old content or the new: not some of each."""
    write_whole(tmp_path / "file", b"old content")
    (tmp_path / "seen by a reader").hardlink_to(tmp_path / "file")
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "seen by a reader").read_bytes() == b"old content"


def test_a_full_disk_leaves_a_whole_cache(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "c"), str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert FeatureCache(tmp_path / "c").ids == sorted(f"small{i}" for i in range(10))
    assert not list((tmp_path / "c").glob(".*.tmp"))


# --- failures


def test_failures_outlive_a_torn_line(tmp_path, rng):
    with CacheWriter(tmp_path, an_identity()) as writer:
        writer.add_failure(Failure("a", "/a", "open", "no such file"))
    with (tmp_path / "failures.jsonl").open("a") as file:
        file.write('{"id": "b", "pa')  # killed in the middle of a line
    with CacheWriter(tmp_path, an_identity()) as writer:
        assert writer.failed_ids == {"a"}
        writer.add_failure(Failure("c", "/c", "decode", "0 readable frames"))
        writer.add(a_record("a", rng))
    cache = FeatureCache(tmp_path)
    assert [failure.id for failure in cache.failures()] == ["c"], "a was read after all"
    assert cache.failures()[0].reason == "0 readable frames"


# --- files from strangers


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.write_bytes(b""), "does not begin like one"),
        (lambda path: path.write_bytes(b"not HDF5" * 100), "does not begin like one"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "it was cut off"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "another program wrote to it"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is no file"),
        (lambda path: (path.unlink(), path.mkdir()), "is no file"),
        (lambda path: change_file(path, lambda columns, _: columns.pop("frames")), "no column 'frames'"),
        (lambda path: change_file(path, lambda columns, _: columns.pop("id")), "no text 'id'"),
        (
            lambda path: change_file(path, lambda columns, _: columns.update(id=["a"])),
            "'id' has 1 rows, expected 2",
        ),
        (
            lambda path: change_file(path, lambda columns, _: columns.update(id=np.arange(2))),
            "no text 'id'",
        ),
        (
            lambda path: change_file(
                path, lambda columns, _: columns.update(label_offsets=np.array([0, 5, 9]))
            ),
            "label offsets",
        ),
        (
            lambda path: change_file(path, lambda _, attributes: attributes.update(format="other")),
            "is not a vidclip-frames",
        ),
        (
            lambda path: change_file(path, lambda _, attributes: attributes.update(identity="0")),
            "another encoder or sampling",
        ),
    ],
)
def test_damaged_and_foreign_shards_are_named(write_cache, rng, harm, message):
    folder = write_cache([a_record("a", rng), a_record("b", rng)])
    harm(folder / "frames-00000.h5")
    with pytest.raises(CacheError, match=message) as caught:
        FeatureCache(folder)
    assert "frames-00000.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (" " * 2**24 + "{}", "cannot be read .it has more than 16,777,216 bytes"),
        ("[]", "was not written by vidclip"),
        ('{"format": "vidclip-features", "version": 7}', "format version 7"),
        ('{"format": "vidclip-features", "version": 1, "encoder": {}}', "'sampling' is missing"),
    ],
)
def test_a_broken_identity_is_named(tmp_path, text, message):
    (tmp_path / "cache.json").write_text(text)
    with pytest.raises(CacheError, match=message) as caught:
        FeatureCache(tmp_path)
    assert "cache.json" in str(caught.value)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "pipe"])
def test_an_identity_that_is_no_file_is_named(tmp_path, target):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cache.json").symlink_to(target)
    with pytest.raises(CacheError, match=r"cache.json cannot be read \(it is no regular file\)"):
        FeatureCache(tmp_path)


def test_no_cache_says_how_to_make_one(tmp_path):
    with pytest.raises(CacheError, match="does not exist. Make one with `vidclip extract`"):
        FeatureCache(tmp_path / "nothing")
    with pytest.raises(CacheError, match=r"has no cache\.json"):
        FeatureCache(tmp_path)


def test_features_without_their_identity_are_not_adopted(write_cache, rng):
    folder = write_cache([a_record("a", rng)])
    (folder / "cache.json").unlink()
    with pytest.raises(CacheError, match="cannot be known what made them"):
        CacheWriter(folder, an_identity())


def test_identical_copies_of_a_video_count_once(write_cache, rng):
    records = [a_record("a", rng, labels=("x",)), a_record("b", rng)]
    folder = write_cache(records)
    shutil.copy(folder / "frames-00000.h5", folder / "frames-00001.h5")
    # Another job found the same video elsewhere, and listed another beside it.
    change_file(
        folder / "frames-00001.h5",
        lambda columns, _: columns.update(path=["/elsewhere/a", "/elsewhere/b"], id=["a", "c"]),
    )
    cache = FeatureCache(folder)
    assert cache.ids == ["a", "b", "c"]
    assert cache.videos[0].path == "/videos/a", "the first counts"
    np.testing.assert_array_equal(cache.frames([1]), cache.frames([2]))
    assert [problem for checked in verify(folder) for problem in checked.problems] == []


@pytest.mark.parametrize("column", ["frames", "frame_indices", "timestamps", "labels", "n_frames"])
def test_copies_of_a_video_that_differ_are_named(write_cache, rng, column):
    folder = write_cache([a_record("a", rng, labels=("x",))])
    shutil.copy(folder / "frames-00000.h5", folder / "frames-00001.h5")

    def change(columns, _):
        columns[column] = ["y"] if column == "labels" else columns[column] + columns[column].dtype.type(1)

    change_file(folder / "frames-00001.h5", change)
    with pytest.raises(
        CacheError,
        match=r"'a' twice, with different content, in frames-00000\.h5 and frames-00001\.h5. Delete",
    ):
        FeatureCache(folder)
    (problem,) = [problem for checked in verify(folder) for problem in checked.problems]
    assert (
        "frames-00001.h5 holds the video 'a', which is in frames-00000.h5 too, with different content"
        in problem
    )


def test_a_view_does_not_follow_its_caches_refresh(tmp_path, rng):
    identity = an_identity(crops=3)
    with CacheWriter(tmp_path, identity) as writer:
        writer.add(a_record("b", rng, views=3))
        writer.flush()
        cache = FeatureCache(tmp_path)
        view = cache.single_view()
        writer.add(a_record("a", rng, views=3))
        writer.flush()
        assert cache.refresh() == 1
    assert (view.ids, view.shape, len(view.frames())) == (["b"], (1, 1, 4, 16), 1)
    np.testing.assert_array_equal(view.frames()[0, 0], cache.frames()[1, 1])
    assert view.refresh() == 1, "and has its own"
    assert (view.ids, view.videos[0].id) == (cache.ids, "a")
    np.testing.assert_array_equal(view.frames()[:, 0], cache.frames()[:, 1])


def test_a_refresh_that_fails_changes_nothing(tmp_path, rng):
    with CacheWriter(tmp_path, an_identity(), shard_videos=1) as writer:
        writer.add(a_record("b", rng))
        cache = FeatureCache(tmp_path)
        writer.add(a_record("a", rng))
        (tmp_path / "frames-00002.h5").write_bytes(b"rubbish")
    with pytest.raises(CacheError, match=r"frames-00002\.h5"):
        cache.refresh()
    assert (cache.ids, len(cache), cache.frames().shape) == (["b"], 1, (1, 1, 4, 16))
    (tmp_path / "frames-00002.h5").unlink()
    assert cache.refresh() == 1
    assert cache.ids == ["a", "b"]


def test_the_identity_is_readable_json(write_cache, rng):
    document = json.loads((write_cache([]) / "cache.json").read_text())
    assert document["model"] == "ViT-B-16"
    assert document["encoder"]["activation"] == "gelu"
