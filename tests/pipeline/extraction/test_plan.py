"""What an extraction remembers of files and lists, and what it does again."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import a_record, an_identity, save_video, vidclip
from vidclip.cache import CacheMismatch, CacheWriter, FeatureCache, VideoRecord, verify
from vidclip.pipeline.datasets import Video, VideoList, read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import (
    ExtractSettings,
    SourceChanged,
    Stamp,
    extract,
    root_of,
    stamp_of,
    videos_of_part,
)
from vidclip.pipeline.video import Sampling


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu", precision="fp32")


@pytest.fixture
def run(encoder, tmp_path):
    def run(listed, cache="features", **options):
        videos = listed if isinstance(listed, VideoList) else read_videos(listed)
        settings = ExtractSettings(workers=1, batch_size=8, **options)
        return extract(videos, encoder, tmp_path / cache, Sampling(2), settings)

    return run


@pytest.fixture
def days(tmp_path):
    """Two folders with a video of one name, and one more in the first."""
    save_video(tmp_path / "monday/clip001.mp4", frames=6, seed=1)
    save_video(tmp_path / "monday/clip002.mp4", frames=6, seed=2)
    save_video(tmp_path / "tuesday/clip001.mp4", frames=8, seed=3)
    return tmp_path


def frames_of(folder, id):
    cache = FeatureCache(folder)
    return cache.frames([cache.index(id)])[0]


def rewrite(path, seed):
    """Another video in the place of this one."""
    save_video(path, frames=7, seed=seed)
    os.utime(path, ns=(10**18 + seed, 10**18 + seed))


# --- files


def test_size_time_and_root_are_written_down(days, run, tmp_path):
    run(days / "monday")
    (video, _) = FeatureCache(tmp_path / "features").videos
    status = (days / "monday/clip001.mp4").stat()
    assert (video.source_bytes, video.source_modified_ns) == (status.st_size, status.st_mtime_ns)
    assert (video.root, video.generation) == (str(days / "monday"), 0)


def test_a_replaced_file_is_read_again(days, run, tmp_path):
    run(days / "monday")
    before = frames_of(tmp_path / "features", "clip001.mp4")
    reader = FeatureCache(tmp_path / "features")
    rewrite(days / "monday/clip001.mp4", 9)
    summary = run(days / "monday")
    assert (summary.progress.encoded, summary.progress.present) == (1, 1)
    assert [change.video.id for change in summary.changed] == ["clip001.mp4"]
    run(days / "monday", "anew")
    expected = frames_of(tmp_path / "anew", "clip001.mp4")
    np.testing.assert_array_equal(frames_of(tmp_path / "features", "clip001.mp4"), expected)
    np.testing.assert_array_equal(reader.frames([0])[0], before, "who reads is not disturbed")
    assert [problem for checked in verify(tmp_path / "features") for problem in checked.problems] == []
    assert run(days / "monday").progress.present == 2, "and once is enough"


def test_two_videos_of_one_id_are_an_error(days, run, tmp_path):
    run(days / "monday")
    with pytest.raises(SourceChanged) as error:
        run(days / "tuesday")
    for text in (
        "two videos are called 'clip001.mp4'",
        f"features of {days}/monday/clip001.mp4",
        f"names {days}/tuesday/clip001.mp4",
        f"--root {days})",
        "--changed replace",
    ):
        assert text in str(error.value)
    above = read_videos(days / "tuesday", root=days)
    assert run(above).progress.encoded == 1, "as the message says"
    assert FeatureCache(tmp_path / "features").ids == ["clip001.mp4", "clip002.mp4", "tuesday/clip001.mp4"]


def test_replace_keep_and_error(days, run, tmp_path):
    run(days / "monday")
    monday = frames_of(tmp_path / "features", "clip001.mp4")
    kept = run(days / "tuesday", changed="keep")
    assert (kept.progress.encoded, len(kept.plan.kept), len(kept.changed)) == (0, 1, 0)
    np.testing.assert_array_equal(frames_of(tmp_path / "features", "clip001.mp4"), monday)
    with pytest.raises(SourceChanged, match="1 video of .* has another file today"):
        run(days / "tuesday", changed="error")
    replaced = run(days / "tuesday", changed="replace")
    assert str(replaced.changed[0]) == (
        f"clip001.mp4: {days}/monday/clip001.mp4 before, {days}/tuesday/clip001.mp4 now"
    )
    run(days / "tuesday", "alone")
    expected = frames_of(tmp_path / "alone", "clip001.mp4")
    np.testing.assert_array_equal(frames_of(tmp_path / "features", "clip001.mp4"), expected)
    with pytest.raises(ValueError, match="changed must be one of"):
        run(days / "monday", changed="sometimes")


def test_a_moved_video_that_changed_is_read_again(days, run):
    run(days / "monday")
    shutil.rmtree(days / "monday")
    assert len(run(days / "tuesday").changed) == 1


def test_a_moved_or_copied_folder_is_the_same_videos(days, run):
    run(days / "monday")
    shutil.copytree(days / "monday", days / "copy")
    assert run(days / "copy").progress.present == 2
    (days / "monday").rename(days / "moved")
    assert run(days / "moved").progress.present == 2


def test_times_are_compared_as_exactly_as_both_are_stored():
    exact, seconds, microseconds = Stamp(5, 123_456_789_012), Stamp(5, 123 * 10**9), Stamp(5, 123_456_789_000)
    assert exact.same(seconds)
    assert microseconds.same(exact)
    assert not exact.same(Stamp(5, 123_456_789_013))
    assert not exact.same(Stamp(6, 123_456_789_012))
    assert not exact.same(Stamp(5, 124 * 10**9))


def test_the_stamp_of_a_folder_is_that_of_its_images(tmp_path, run):
    for number in range(4):
        path = tmp_path / f"frames/jump/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number * 50, 0, 0)).save(path)
    run(tmp_path / "frames")
    (tmp_path / "frames/jump/notes.txt").write_text("no image")
    assert run(tmp_path / "frames").progress.present == 1
    Image.new("RGB", (40, 40), (0, 99, 0)).save(tmp_path / "frames/jump/2.png")
    assert len(run(tmp_path / "frames").changed) == 1
    (tmp_path / "frames/jump/3.png").unlink()
    assert len(run(tmp_path / "frames").changed) == 1
    assert not stamp_of(tmp_path / "nowhere").known


def test_a_changed_file_that_cannot_be_read_is_a_failure_and_nothing_else(days, run, tmp_path):
    run(days / "monday")
    (days / "monday/clip001.mp4").write_bytes(b"cut short")
    summary = run(days / "monday")
    assert [failure.id for failure in summary.new_failures] == ["clip001.mp4"]
    assert FeatureCache(tmp_path / "features").ids == ["clip002.mp4"], "features of a file that is no more"
    assert run(days / "monday").new_failures == []
    rewrite(days / "monday/clip001.mp4", 5)
    assert run(days / "monday").progress.encoded == 1, "mended: read without being asked"
    assert FeatureCache(tmp_path / "features").ids == ["clip001.mp4", "clip002.mp4"]


def older(folder, to):
    """The same cache as versions wrote it that did not look at files."""
    cache = FeatureCache(folder)
    with CacheWriter(to, cache.identity) as writer:
        for index, video in enumerate(cache.videos):
            arrays = {
                name: getattr(cache, name)([index])[0] for name in ("frames", "frame_indices", "timestamps")
            }
            writer.add(VideoRecord(video.id, video.path, duration_seconds=video.duration_seconds, **arrays))


def test_caches_of_older_versions_say_what_they_can(days, run, tmp_path):
    run(days / "monday")
    older(tmp_path / "features", tmp_path / "older")
    summary = run(days / "monday", "older")
    assert (summary.progress.present, summary.plan.unknown) == (2, 2), (
        "nobody knows whether the files have changed"
    )
    shutil.copytree(days / "monday", days / "copy")
    assert run(days / "copy", "older").plan.unknown == 0, "the files from before are there to compare with"
    with pytest.raises(SourceChanged, match="two videos are called"):
        run(days / "tuesday", "older")
    (days / "monday").rename(days / "moved")
    assert run(days / "moved", "older").plan.unknown == 2


def test_segments_begin_where_their_video_does(tmp_path):
    save_video(tmp_path / "v/a.mp4", frames=20)
    (tmp_path / "list.csv").write_text("path,start,end\nv/a.mp4,0,1\n")
    (video,) = read_videos(tmp_path / "list.csv")
    assert (video.id, root_of(video)) == ("v/a.mp4#t=0,1", str(tmp_path))


# --- lists


def write_list(path: Path, rows: dict[str, tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label", "split"), *((name, *rest) for name, rest in rows.items())]
        )
    return path


def test_a_new_list_changes_labels_and_encodes_nothing(days, run, tmp_path):
    names = ("monday/clip001.mp4", "monday/clip002.mp4")
    first = write_list(tmp_path / "first.csv", dict.fromkeys(names, ("jump", "train")))
    run(first)
    second = write_list(tmp_path / "second.csv", {names[0]: ("run", "test")})
    summary = run(second)
    assert (summary.progress.encoded, summary.plan.relabeled) == (0, 1)
    cache = FeatureCache(tmp_path / "features")
    assert cache.labels == [("run",), ("jump",)], "what a list does not mention it leaves alone"
    assert cache.splits == ["test", "train"]
    assert run(second).plan.relabeled == 0
    (tmp_path / "bare.csv").write_text(f"path\n{names[0]}\n")
    assert run(tmp_path / "bare.csv").plan.relabeled == 0, "a list without labels says nothing of them"
    rewrite(days / names[0], 4)
    run(tmp_path / "bare.csv")
    cache = FeatureCache(tmp_path / "features")
    assert (cache.labels[0], cache.splits[0], cache.videos[0].generation) == (("run",), "test", 1)


def test_a_second_list_leaves_the_first_ones_missing_videos(days, run, tmp_path):
    def gone():
        return [video.id for video in FeatureCache(tmp_path / "features").missing()]

    rows = dict.fromkeys(("monday/clip001.mp4", "monday/gone.mp4"), ("", ""))
    first = read_videos(write_list(tmp_path / "first.csv", rows), allow_missing=True)
    run(first)
    run(read_videos(days / "monday", root=days))
    assert gone() == ["monday/gone.mp4"]
    save_video(days / "monday/gone.mp4", frames=5)
    run(read_videos(days / "monday", root=days))
    assert gone() == []
    assert not (tmp_path / "features/missing.jsonl").exists()


def test_a_video_that_appears_between_two_jobs_is_encoded_once(tmp_path, run):
    for number in range(10):
        save_video(tmp_path / f"v/{number}.mp4", frames=4, seed=number)
    run(tmp_path / "v", part=(0, 2))
    save_video(tmp_path / "v/00.mp4", frames=4, seed=77)  # in front: all others move on by one
    run(tmp_path / "v", part=(1, 2))
    run(tmp_path / "v", part=(0, 2))
    cache = FeatureCache(tmp_path / "features")
    assert (len(cache), sum(shard.num_videos for shard in cache.shards)) == (11, 11)


def test_parts_are_a_digest_of_the_id():
    # From `printf %s a.mp4 | sha256sum`: the first 16 hexadecimal digits, modulo n.
    digest = subprocess.run(["sha256sum"], input=b"a.mp4", capture_output=True, check=True).stdout
    videos = VideoList([Video("a.mp4", Path("/a.mp4"))])
    assert len(videos_of_part(videos, (int(digest[:16], 16) % 7, 7))) == 1
    videos = VideoList(Video(f"{number}.mp4", Path(f"/{number}.mp4")) for number in range(4000))
    assert min(len(videos_of_part(videos, (i, 4))) for i in range(4)) > 900, "about as many in each"


def test_parts_have_no_video_in_common(days):
    videos = read_videos(days / "monday")
    parts = [{video.id for video in videos_of_part(videos, (i, 3))} for i in range(3)]
    assert sorted(id for part in parts for id in part) == [video.id for video in videos]


# --- precision and embeddings


def test_a_cache_keeps_its_precision(days, encoder, run, tmp_path, tiny_model):
    run(days / "monday")
    other = load_encoder(tiny_model, device="cpu", precision="bf16")
    with pytest.raises(CacheMismatch, match="computed in fp32; this run would add some in bf16"):
        extract(read_videos(days / "tuesday", root=days), other, tmp_path / "features", Sampling(2))
    assert len(FeatureCache(tmp_path / "features")) == 2


def test_embeddings_that_are_all_zeros_are_failures(days, tmp_path, tiny_model):
    broken = load_encoder(tiny_model, device="cpu", precision="fp32")
    broken.network.visual.proj.data.mul_(0)
    summary = extract(read_videos(days / "monday"), broken, tmp_path / "features", Sampling(2))
    assert [failure.stage for failure in summary.failures] == ["encode", "encode"]
    assert "all zeros" in summary.failures[0].reason
    assert len(FeatureCache(tmp_path / "features")) == 0


# --- the command


@pytest.fixture
def command(tmp_path, tiny_model):
    def command(*arguments, **environment):
        settings = ("--model", tiny_model, "--frames", 2, "--device", "cpu", "--workers", 1)
        return vidclip("extract", *arguments, *settings, cwd=tmp_path, **environment)

    return command


def test_the_summary_says_what_was_read_again_and_relabeled(days, command):
    assert command("monday").returncode == 0
    refused = command("tuesday")
    assert refused.returncode == 2
    assert "Error: two videos are called 'clip001.mp4'" in refused.stderr
    assert "Left as before: 1 video" in command("tuesday", "--changed", "keep").stdout
    done = command("tuesday", "--changed", "replace")
    assert f"Read again: 1 video whose files had changed, such as clip001.mp4: {days}/monday/" in done.stdout
    rows = {"tuesday/clip001.mp4": ("run", "test")}
    write_list(days / "list.csv", rows)
    assert command("list.csv").returncode == 0
    write_list(days / "list.csv", {"tuesday/clip001.mp4": ("jump", "test")})
    assert "those of 1 video now follow this list" in command("list.csv").stdout


def test_auto_is_the_precision_of_the_cache(days, command):
    assert command("monday", "--precision", "bf16").returncode == 0
    assert command(".", "--root", ".").returncode == 0, "resumed"
    cache = FeatureCache(days / "features")
    assert (len(cache), {shard.precision for shard in cache.shards}) == (5, {"bf16"})
    refused = command(".", "--root", ".", "--precision", "fp32")
    assert refused.returncode == 2
    assert "Use --precision bf16, or leave --precision out" in refused.stderr


def test_the_handler_of_sigterm_is_restored(days, command):
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        assert command("monday").returncode == 0
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_it_runs_beside_the_main_thread(days, tiny_model):
    from vidclip.cli.main import main

    statuses = []
    arguments = ["extract", str(days / "monday"), "--model", tiny_model, "--cache", str(days / "f")]

    def job():
        try:
            main([*arguments, "--frames", "2", "--device", "cpu", "--workers", "1"])
        except SystemExit as end:
            statuses.append(end.code)

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert statuses == [0]


def test_progress_lines_without_a_terminal(days, command, monkeypatch):
    monkeypatch.setattr("vidclip.cli.progress.LINE_SECONDS", 0.01)
    (days / "monday/broken.mp4").write_bytes(b"")
    lines = re.findall(r"^[\d.:]+(?: s)?: .*$", command("monday").stderr, re.MULTILINE)
    assert lines[0].endswith(" s: 0 of 3 videos")
    assert len(lines) > 3
    assert [line for line in lines if " of 3 videos" not in line] == []
    assert any("1 failed" in line and "left" in line for line in lines)


def test_a_file_that_gets_a_second_id_is_told(days, command):
    (days / "monday/a_copy.mp4").write_bytes((days / "monday/clip001.mp4").read_bytes())
    assert "In the cache twice" not in command("monday").stdout
    printed = command("monday", "tuesday").stdout
    assert (
        "In the cache twice: 3 videos whose file the cache has under another id too, such as a_copy.mp4."
        in printed
    )
    (days / "monday/clip003.mp4").write_bytes((days / "monday/clip001.mp4").read_bytes())
    copied = command("monday", "tuesday").stdout
    assert "Recognized: 1 video with the content of others" in copied
    assert "In the cache twice" not in copied, "a copy is another file"


def test_the_summary_names_the_command_for_damage_with_its_cache(days, command):
    clip = save_video(days / "broken/clip.mp4", frames=60, seed=4)
    whole = clip.read_bytes()
    third = len(whole) // 3  # the index of the container is at the end
    clip.write_bytes(whole[:third] + bytes(third // 2) + whole[third + third // 2 :])
    printed = command("broken", "--cache", "of mine").stdout
    assert "1 video was read with damage; `vidclip info 'of mine'` names it" in printed


def test_info_names_what_was_read_with_damage_or_again(tmp_path, write_cache, rng):
    notes = {"a": "damaged: 3 frames could not be read", "b": "", "c": "images without times"}
    records = [a_record(id, rng, note=note) for id, note in notes.items()]
    folder = write_cache([*records, *(a_record(f"d{n}", rng, note="damaged: odd") for n in range(6))])
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(a_record("b", rng, generation=1))
    printed = vidclip("info", folder).stdout
    assert "7 in all were read with damage:" in printed
    assert "  a: damaged: 3 frames could not be read" in printed
    assert "... and 2 more" in printed
    assert "images without times" not in printed
    assert "replaced   features of 1 video from before it was read again" in printed


# --- nothing to do

ALONE = """
import sys
from vidclip.cli.main import main
try:
    main()
finally:
    print("torch" in sys.modules)
"""


def alone(*arguments, cwd):
    """In a process of its own: (exit status, what it printed, whether it loaded torch)."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )
    *printed, loaded = done.stdout.splitlines()
    return done.returncode, "\n".join(printed) + done.stderr, loaded == "True"


@pytest.fixture
def settled(days, tiny_model, monkeypatch):
    """Extracted with a model folder whose files count as having lain there for a while."""
    monkeypatch.setattr("vidclip.pipeline.encoders.files.SETTLED_NS", -(10**18))
    model = shutil.copytree(tiny_model.removeprefix("local-dir:"), days / "model")
    settings = ("--model", f"local-dir:{model}", "--frames", 2, "--device", "cpu", "--workers", 1)
    assert vidclip("extract", "monday", *settings, cwd=days).returncode == 0
    return settings


def test_with_nothing_to_do_no_weights_are_loaded(days, settled):
    status, printed, loaded = alone("extract", "monday", *settled, cwd=days)
    assert (status, loaded) == (0, False)
    assert "0 videos encoded" in printed
    assert "2 done before" in printed
    (days / "monday/clip002.mp4").rename(days / "monday/renamed.mp4")
    status, printed, loaded = alone("extract", "monday", *settled, cwd=days)
    assert (status, loaded) == (0, False)
    assert "Recognized: 1 video renamed or moved, by content, such as clip002.mp4 -> renamed.mp4." in printed
    assert FeatureCache(days / "features").ids == ["clip001.mp4", "renamed.mp4"]
    write_list(days / "list.csv", {"clip001.mp4": ("run", "test")})
    status, printed, loaded = alone("extract", "list.csv", "--root", "monday", *settled, cwd=days)
    assert (status, loaded) == (0, False)
    assert "those of 1 video now follow this list" in printed
    assert FeatureCache(days / "features").labels[0] == ("run",)


@pytest.mark.parametrize("what", ["weights", "sampling", "file", "precision", "device"])
def test_the_encoder_is_loaded_where_anything_is_uncertain(days, settled, what, other_tiny_model):
    weights = days / "model/open_clip_model.safetensors"
    arguments, expected, message = ["monday"], 2, ""
    if what == "weights":  # of the same size and time
        before = weights.stat()
        shutil.copy(Path(other_tiny_model.removeprefix("local-dir:")) / weights.name, weights)
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert weights.stat().st_size == before.st_size
        message = "weights_sha256"
    elif what == "sampling":
        arguments, message = [*arguments, "--position", "middle"], "this run asks for"
    elif what == "file":
        (days / "model/another.safetensors").write_bytes(b"")
        expected = 0
    elif what == "precision":
        # auto took fp32 or bf16, by the processor
        arguments, message = [*arguments, "--precision", "fp16"], "this run would add some in fp16"
    elif what == "device":
        arguments, message = [*arguments, "--device", "gpu7"], "gpu7"
    settings = [*settled[:4], *settled[6:]] if what == "device" else settled
    done = vidclip("extract", *settings, *arguments, cwd=days)
    assert done.returncode == expected, done.stderr
    assert message in done.stderr


def test_files_that_were_written_just_now_are_not_trusted(days, command, monkeypatch):
    monkeypatch.setattr("vidclip.pipeline.encoders.files.SETTLED_NS", 10**18)
    assert command("monday").returncode == 0
    assert not (days / "features/encoder.json").exists()


def test_a_list_of_files_that_is_damaged_or_foreign_is_not_trusted(days, settled):
    path = days / "features/encoder.json"
    for text in ("", "[" * 100_000, "[]", '{"files": 3}', path.read_text().replace("ViT", "vit")[:-9]):
        path.write_text(text)
        done = vidclip("extract", "monday", *settled, cwd=days)
        assert (done.returncode, done.stderr) == (0, "")
