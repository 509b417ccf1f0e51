"""Extraction: what comes out, what it survives, and that nothing is lost in silence."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import open_clip
import pytest
import torch

from helpers import save_copy, save_video
from vidclip.cache import CacheBusy, CacheWriter, FeatureCache, verify
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import EncoderError, load_encoder
from vidclip.pipeline.extraction import ExtractSettings, cache_identity, extract
from vidclip.pipeline.video import Sampling

SAMPLING = Sampling(frames=4)


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for number in range(14):
        save_video(root / f"label{number % 3}" / f"{number}.mp4", frames=6 + number, seed=number)
    return read_videos(root)


def run(videos, encoder, folder, sampling=SAMPLING, **options):
    return extract(videos, encoder, folder, sampling, ExtractSettings(**{"batch_size": 8, **options}))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_extracts_what_a_cpu_does(videos, tiny_model, tmp_path, precision):
    """Batches of six cut videos of four frames, and the next fills while one is computed: no frame may take another's place."""
    exact = load_encoder(tiny_model, device="cpu", precision="fp32")
    own = load_encoder(tiny_model, device="cuda", precision=precision)
    found = []
    for encoder in (exact, own):
        assert run(videos, encoder, tmp_path / encoder.device.type, batch_size=6).failures == []
        cache = FeatureCache(tmp_path / encoder.device.type)
        rows = [cache.index(video.id) for video in videos]
        found.append(cache.frames(rows).astype(np.float64).reshape(-1, 32))
    expected, mine = (each - found[0].mean(axis=0) for each in found)  # frames of one model are much alike
    lengths = np.linalg.norm(expected, axis=1)
    assert (np.linalg.norm(mine - expected, axis=1) < 0.1 * lengths).all()
    others = np.linalg.norm(expected[:, None] - expected[None], axis=2) + np.eye(len(expected)) * 1e9
    assert np.median(others.min(axis=1) / lengths) > 0.2, "frames that are mistaken for others would be seen"


def test_embeddings_equal_open_clips_on_the_same_frames(videos, encoder, tiny_model, tmp_path):
    summary = run(videos, encoder, tmp_path)
    assert (summary.progress.encoded, summary.progress.frames, summary.failures) == (14, 56, [])
    cache = FeatureCache(tmp_path)
    assert cache.shape == (14, 1, 4, 32)
    network, _, preprocess = open_clip.create_model_and_transforms(tiny_model)
    for video in videos:
        row = cache.index(video.id)
        assert (cache.labels[row], cache.videos[row].path) == (video.labels, str(video.path))
        with av.open(str(video.path)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
        indices = [len(frames) * i // 4 for i in range(4)]
        assert cache.frame_indices([row])[0, 0].tolist() == indices
        with torch.inference_mode():
            expected = (
                network.eval().encode_image(torch.stack([preprocess(frames[i]) for i in indices])).numpy()
            )
        found = cache.frames([row])[0, 0].astype(np.float32)
        cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > 0.999
        np.testing.assert_allclose(cache.timestamps([row])[0, 0], np.array(indices) / 10, atol=1e-3)


def test_one_of_several_views_is_what_an_extraction_of_one_keeps(encoder, tmp_path):
    for number in range(2):
        save_video(tmp_path / "wide" / f"{number}.mp4", frames=12, seed=number, widths=3)
    wide = read_videos(tmp_path / "wide")
    run(wide, encoder, tmp_path / "one", Sampling(frames=2))
    run(wide, encoder, tmp_path / "many", Sampling(frames=2, clips=4, crops=3))
    one, many = FeatureCache(tmp_path / "one"), FeatureCache(tmp_path / "many")
    single = many.single_view()
    assert (many.shape, single.shape) == ((2, 12, 2, 32), (2, 1, 2, 32))
    np.testing.assert_allclose(single.frames(), one.frames(), atol=2e-3)
    np.testing.assert_array_equal(single.frame_indices(), one.frame_indices())
    (rows, batch), *_ = single.batches(2)
    np.testing.assert_array_equal(batch, single.frames(rows))
    others = [v for v in range(12) if np.allclose(many.frames()[:, v : v + 1], one.frames(), atol=2e-3)]
    assert others == [1], "the center crop of the first clip, and no other view"


def test_views_are_clips_by_crops(videos, encoder, tmp_path):
    run(videos[:3], encoder, tmp_path / "views", Sampling(frames=2, clips=2, crops=3))
    cache = FeatureCache(tmp_path / "views")
    assert cache.shape == (3, 6, 2, 32)
    indices = cache.frame_indices()
    np.testing.assert_array_equal(indices[:, 0], indices[:, 2], "crops of a clip share its frames")
    assert (indices[:, 0] != indices[:, 3]).any()
    run(videos[:3], encoder, tmp_path / "one", Sampling(frames=2, clips=2, crops=1))
    one = FeatureCache(tmp_path / "one").frames()
    np.testing.assert_allclose(
        cache.frames()[:, [1, 4]], one, atol=2e-3, err_msg="the middle crop is the only one"
    )


def test_embeddings_do_not_depend_on_the_other_videos(videos, encoder, tmp_path):
    run(videos, encoder, tmp_path / "all")
    run(videos[5:6], encoder, tmp_path / "alone")
    alone, together = FeatureCache(tmp_path / "alone"), FeatureCache(tmp_path / "all")
    np.testing.assert_array_equal(alone.frames()[0], together.frames([together.index(alone.ids[0])])[0])


def test_every_video_has_features_or_a_failure(videos, encoder, tmp_path):
    bad = tmp_path / "videos"
    save_video(bad / "good.mp4", frames=5)
    (bad / "empty.mp4").write_bytes(b"")
    whole = save_video(bad / "cut.mp4", frames=30).read_bytes()
    (bad / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (bad / "text.avi").write_text("not a video")
    videos = read_videos(bad)
    summary = run(videos, encoder, tmp_path / "c")
    cache = FeatureCache(tmp_path / "c")
    assert {failure.id for failure in summary.failures} | set(cache.ids) == {video.id for video in videos}
    assert not {failure.id for failure in summary.failures} & set(cache.ids)
    assert {"empty.mp4", "text.avi"} <= {failure.id for failure in summary.failures}
    assert all(len(failure.reason) > 5 for failure in summary.failures)
    assert summary.progress.done == summary.progress.listed == 4

    again = run(videos, encoder, tmp_path / "c")
    assert (again.progress.present, again.progress.encoded, again.progress.failed) == (4, 0, 0)
    assert [f.id for f in again.failures] == [f.id for f in summary.failures], "still told of"
    retried = run(videos, encoder, tmp_path / "c", retry_failed=True)
    assert retried.progress.failed == len(summary.failures)


def test_parts_of_a_list_make_the_whole(videos, encoder, tmp_path):
    for part in range(3):
        run(videos, encoder, tmp_path, part=(part, 3))
    assert FeatureCache(tmp_path).ids == [video.id for video in sorted(videos, key=lambda video: video.id)]


def test_rejects_a_second_extraction_at_the_same_time(videos, encoder, tmp_path):
    identity = cache_identity(encoder, SAMPLING)
    with CacheWriter(tmp_path, identity), pytest.raises(CacheBusy, match="another extraction is writing"):
        run(videos, encoder, tmp_path)
    run(videos, encoder, tmp_path)
    assert len(FeatureCache(tmp_path)) == 14


def test_embeddings_that_are_not_finite_are_failures(videos, tmp_path, tiny_model):
    broken = load_encoder(tiny_model, device="cpu")
    broken.network.visual.proj.data.mul_(float("inf"))
    summary = run(videos[:2], broken, tmp_path)
    assert [failure.stage for failure in summary.failures] == ["encode", "encode"]
    assert "not finite" in summary.failures[0].reason
    assert len(FeatureCache(tmp_path)) == 0


def test_what_is_encoded_is_kept_when_the_encoder_fails(videos, tmp_path, tiny_model):
    failing = load_encoder(tiny_model, device="cpu")
    calls = []

    def out_of_memory(_module, _inputs):
        calls.append(1)
        if len(calls) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    failing.network.visual.register_forward_pre_hook(out_of_memory)
    with pytest.raises(EncoderError, match="too little memory for batches of 8 frames; use --batch-size 4"):
        run(videos, failing, tmp_path)
    assert len(FeatureCache(tmp_path)) == 6, "three batches of two videos"
    assert not list(tmp_path.glob("failures.jsonl"))


# --- kills

KILLED = """
import os, sys, time, torch
torch.set_num_threads(1)      # no threads before the fork
sys.path.insert(0, {tests!r})
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import ExtractSettings, extract
from vidclip.pipeline.video import Sampling

encoder = load_encoder({model!r}, device="cpu")
# At most 25 videos a second: twenty kills come before the end, however fast the machine.
encoder.network.visual.register_forward_pre_hook(lambda *_: time.sleep(0.08))
videos = read_videos({videos!r})
for line in sys.stdin:        # each line begins one extraction, in a process group of its own
    child = os.fork()
    if child == 0:
        os.setsid()
        first = []
        def note(progress):
            if not first:
                first.append(progress.present)
                with open({log!r}, "a") as file:
                    file.write(f"{{progress.present}}\\n")
        extract(videos, encoder, {cache!r}, Sampling(frames=4),
                ExtractSettings(batch_size=8, shard_seconds=0.02), on_progress=note)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""


@pytest.mark.parametrize("n_kills", [5, pytest.param(20, marks=pytest.mark.long)])
def test_kills_lose_nothing(tmp_path, tiny_model, encoder, n_kills):
    root = tmp_path / "videos"
    for number in range(n_kills):
        first = save_video(root / f"{number:02}-00.mp4", frames=40, size=128, seed=number)
        for copy in range(1, 12):
            save_copy(first, root / f"{number:02}-{copy:02}.mp4", copy)
    videos = read_videos(root)
    run(videos, encoder, tmp_path / "whole")
    cache, log = tmp_path / "killed", tmp_path / "log"
    script = KILLED.format(
        tests=str(Path(__file__).parents[2]),
        model=tiny_model,
        videos=str(root),
        log=str(log),
        cache=str(cache),
    )
    rng = random.Random(0)
    committed: dict[str, bytes] = {}
    kills = 0
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def ask() -> int:
            server.stdin.write("\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        while kills < n_kills:
            group = ask()
            time.sleep(rng.uniform(0.05, 0.7))
            if kills % 5 == 4:  # also on a machine that is busy with other things, some get somewhere
                until = time.monotonic() + 30
                while len(list(cache.glob("frames-*.h5"))) <= len(committed) and time.monotonic() < until:
                    time.sleep(0.01)
            os.killpg(group, signal.SIGKILL)
            kills += 1
            assert int(server.stdout.readline()) == signal.SIGKILL or (cache / "cache.json").exists()
            now = {path.name: path.read_bytes() for path in cache.glob("frames-*.h5")}
            assert {name: now[name] for name in committed} == committed, "a closed shard never changes"
            if now:
                assert [problem for file in verify(cache) for problem in file.problems] == []
            committed = now
        partly = len(FeatureCache(cache))
        ask()
        assert int(server.stdout.readline()) == 0
        server.stdin.close()
    done_before = [int(line) for line in log.read_text().split()]
    assert done_before == sorted(done_before), "what was committed is not done again"
    assert done_before[-1] == partly
    assert partly > 0, "some of the killed runs got somewhere"
    expected, found = FeatureCache(tmp_path / "whole"), FeatureCache(cache)
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.frames(), expected.frames())
    np.testing.assert_array_equal(found.frame_indices(), expected.frame_indices())


FAREWELL = """
import os
import vidclip.pipeline.extraction.local as stage
from vidclip.cli.main import main

whole = stage.extract
sent = []

def with_farewell(*arguments, on_progress, **options):
    def note(progress):
        on_progress(progress)
        if progress.encoded >= 5 and not sent:
            sent.append(True)
            os.killpg(0, {farewell})      # to the whole job, workers included
    return whole(*arguments, on_progress=note, **options)

stage.extract = with_farewell
main()
"""


@pytest.mark.parametrize("farewell", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_ctrl_c_keeps_what_is_encoded_and_says_how_to_go_on(tmp_path, tiny_model, farewell):
    first = save_video(tmp_path / "videos" / "0.mp4", frames=60, size=256)
    for number in range(1, 60):
        save_copy(first, tmp_path / "videos" / f"{number}.mp4", number)
    arguments = ["extract", str(tmp_path / "videos"), "--model", tiny_model, "--cache", str(tmp_path / "c")]
    arguments += ["--device", "cpu", "--workers", "1", "--batch-size", "8"]
    script = FAREWELL.format(farewell=int(farewell))
    interrupted = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, start_new_session=True
    )
    assert interrupted.returncode == 130, interrupted.stdout + interrupted.stderr
    assert "The same command goes on from here" in interrupted.stdout
    assert "Traceback" not in interrupted.stderr
    kept = len(FeatureCache(tmp_path / "c"))
    assert 5 <= kept < 60, "the signal came in the middle"
    assert f"{kept} videos encoded" in interrupted.stdout
    done = subprocess.run(
        [sys.executable, "-m", "vidclip.cli.main", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{60 - kept} videos encoded" in done.stdout
    assert f"{kept} done before" in done.stdout


def test_a_script_without_a_main_guard_works(tmp_path, tiny_model):
    """Workers must not import the user's script again."""
    save_video(tmp_path / "videos" / "a.mp4", frames=6)
    (tmp_path / "script.py").write_text(
        "from vidclip.pipeline.datasets import read_videos\n"
        "from vidclip.pipeline.encoders import load_encoder\n"
        "from vidclip.pipeline.extraction import extract\n"
        "from vidclip.pipeline.video.sampling import Sampling\n"
        f"summary = extract(read_videos('videos'), load_encoder({tiny_model!r}, device='cpu'), 'c', Sampling(4))\n"
        "print(summary.progress.encoded)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


def test_samples_of_several_frames_are_encoded_whole(videos, encoder, tiny_model, tmp_path):
    clips = load_encoder(tiny_model, device="cpu")
    one_by_one, sizes = clips.encode_frames, []

    def mean_of_sample(pixels):
        sizes.append(len(pixels))
        samples = one_by_one(pixels).reshape(-1, 3, 32)
        return samples.mean(dim=1, keepdim=True).expand(-1, 3, -1).reshape(-1, 32)

    clips.frames_per_sample = clips.embeddings_per_sample = 3
    clips.encode_frames = mean_of_sample
    run(videos[:5], clips, tmp_path / "clips", Sampling(frames=3), batch_size=8)
    run(videos[:5], encoder, tmp_path / "frames", Sampling(frames=3), batch_size=6)
    assert set(sizes) == {6}, "two samples: eight frames would cut one"
    frames = FeatureCache(tmp_path / "frames").frames().astype(np.float32)
    expected = frames.mean(axis=2, keepdims=True).repeat(3, axis=2)
    np.testing.assert_allclose(FeatureCache(tmp_path / "clips").frames(), expected, atol=2e-3)
    for other in (4, 6):
        with pytest.raises(EncoderError, match=f"clips of 3 frames, not of {other}. Use --frames 3"):
            run(videos[:1], clips, tmp_path / "none", Sampling(frames=other))
    assert not (tmp_path / "none").exists()


def test_the_identity_says_how_frames_were_chosen(videos, encoder, tmp_path):
    run(videos[:1], encoder, tmp_path, Sampling(frames=3, position="middle"))
    document = json.loads((tmp_path / "cache.json").read_text())
    assert document["sampling"]["frames"] == 3
    assert document["sampling"]["position"] == "middle"
    assert document["encoder"]["weights_sha256"] == encoder.identity["weights_sha256"]
