"""Extraction on a Ray cluster: the same bits as on one machine, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import save_copy, save_video, vidclip
from vidclip.cache import CacheWriter, FeatureCache, verify
from vidclip.pipeline.datasets import VideoList, read_videos
from vidclip.pipeline.encoders import EncoderError, EncoderRequest
from vidclip.pipeline.extraction import (
    ExtractionError,
    ExtractSettings,
    RaySettings,
    cache_identity,
    run_extraction,
)
from vidclip.pipeline.extraction.leases import Lease
from vidclip.pipeline.extraction.ray_cluster import start_patiently
from vidclip.pipeline.extraction.ray_worker import Done, LoadedEncoder, Trouble, Worker, WorkerTask
from vidclip.pipeline.video import ClipSpec, Sampling

SAMPLING = Sampling(frames=2)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Ray writes a file there at its first start."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "300")  # where other tests take the processors
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@contextlib.contextmanager
def started(hook: Callable[[], None] | None = None, **options: object) -> Iterator[None]:
    """A Ray of this machine, or a connection to the one that has an `address`, whose workers begin with `hook`."""
    ray = pytest.importorskip("ray")
    environment = {"worker_process_setup_hook": hook} if hook else None
    if "address" not in options:
        options["include_dashboard"] = False
    start_patiently(
        ray,
        lambda: ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=environment, **options),
    )
    try:
        yield
    finally:
        ray.shutdown()


def save_videos(root: Path, count: int) -> VideoList:
    for number in range(count):
        save_video(root / f"label{number % 3}" / f"{number}.mp4", frames=4 + number % 5, seed=number)
    return read_videos(root)


def run(videos, model, folder, *, cluster=None, on_progress=None, **options):
    return run_extraction(
        videos,
        EncoderRequest(model),
        folder,
        SAMPLING,
        ExtractSettings(workers=1, **options),
        cluster=cluster,
        device="cpu",
        on_progress=on_progress,
    )


def on_cpus(lease: int, **options) -> RaySettings:
    return RaySettings(gpus_per_worker=0, cpus_per_worker=1, lease=lease, **options)


def assert_same(found: Path, expected: Path, *, without: tuple[str, ...] = ()) -> None:
    """Bit for bit, and in every word that is kept of a video."""
    one, other = FeatureCache(expected), FeatureCache(found)
    rows = [row for row, id in enumerate(one.ids) if id not in without]
    assert other.ids == [one.ids[row] for row in rows]
    assert list(other.videos) == [one.videos[row] for row in rows]
    for name in ("frames", "frame_indices", "timestamps"):
        np.testing.assert_array_equal(getattr(other, name)(), getattr(one, name)(rows))
    assert other.identity == one.identity
    failures = [
        [failure for failure in cache.failures() if failure.id not in without] for cache in (one, other)
    ]
    assert sorted(failures[0], key=str) == sorted(failures[1], key=str)
    assert [problem for file in verify(found) for problem in file.problems] == []
    left = [path.name for path in found.iterdir() if path.suffix == ".tmp" or path.name.startswith(".ray")]
    assert left == []
    rows_kept = sum(shard.num_videos for shard in other.shards)
    assert rows_kept == len(other), "no video stands there twice"


@pytest.mark.ray
def test_features_and_failures_equal_those_of_one_machine(tmp_path, tiny_model):
    videos = save_videos(tmp_path / "videos", 21)
    videos[3].path.write_bytes(b"no video")
    run(videos, tiny_model, tmp_path / "local")
    told: list[tuple[int, int]] = []
    with started(num_cpus=2):
        with pytest.raises(
            ExtractionError, match="no machine .* 1 GPUs and 8 CPUs: .* Use --gpus-per-worker 0"
        ):
            run(videos, tiny_model, tmp_path / "ray", cluster=RaySettings())
        summary = run(
            videos, tiny_model, tmp_path / "ray", cluster=on_cpus(4),
            on_progress=lambda progress: told.append(progress.workers or (0, 0)),
        )  # fmt: skip
        assert_same(tmp_path / "ray", tmp_path / "local")
        assert (summary.progress.encoded, summary.progress.failed, summary.progress.frames) == (20, 1, 40)
        assert max(told)[0] >= 1
        assert max(told)[1] == 2
        # The encoder is known by its files: nothing is loaded where there is nothing to do.
        again = run(videos, tiny_model, tmp_path / "ray", cluster=RaySettings(address="nowhere:1"))
        assert (again.progress.present, again.progress.encoded) == (21, 0)


@pytest.mark.ray
@pytest.mark.long
def test_a_video_that_kills_its_workers_is_named_and_costs_no_other(tmp_path, tiny_model):
    videos = save_videos(tmp_path / "videos", 60)
    run(videos, tiny_model, tmp_path / "local")
    poisoned = videos[17].id

    def poison() -> None:
        import vidclip.pipeline.extraction.plan as plan

        whole = plan.request_of

        def request_of(video, sampling):
            if video.id == poisoned:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(video, sampling)

        plan.request_of = request_of

    with started(poison, num_cpus=2):
        summary = run(videos, tiny_model, tmp_path / "ray", cluster=on_cpus(4))
    assert [(failure.id, failure.stage) for failure in summary.failures] == [(poisoned, "crash")]
    assert "ended 2 times without an answer" in summary.failures[0].reason
    assert summary.progress.encoded == 59
    assert_same(tmp_path / "ray", tmp_path / "local", without=(poisoned,))
    # It is tried again when it is another file, or when that is asked for.
    assert summary.failures[0].source_bytes == videos[17].path.stat().st_size
    run(videos, tiny_model, tmp_path / "ray", retry_failed=True)
    assert_same(tmp_path / "ray", tmp_path / "local")


@pytest.mark.ray
@pytest.mark.long
def test_killed_workers_are_replaced(tmp_path, tiny_model):
    videos = save_videos(tmp_path / "videos", 60)
    run(videos, tiny_model, tmp_path / "local")
    deaths = [tmp_path / "before writing", tmp_path / "after writing"]

    def die() -> None:
        """One worker is killed before it writes a shard, another when it has written, and has not said so yet."""
        import vidclip.pipeline.extraction.ray_worker as ray_worker

        whole = ray_worker.write_shard

        def die_once(death: Path) -> None:
            with contextlib.suppress(FileExistsError):
                death.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)

        def write_shard(*arguments):
            die_once(deaths[0])
            whole(*arguments)
            die_once(deaths[1])

        ray_worker.write_shard = write_shard

    with started(die, num_cpus=2):
        summary = run(videos, tiny_model, tmp_path / "ray", cluster=on_cpus(6))
    assert all(death.exists() for death in deaths)
    assert (summary.progress.encoded, summary.failures) == (60, [])
    assert_same(tmp_path / "ray", tmp_path / "local")


@pytest.mark.ray
@pytest.mark.long
def test_a_lost_node_costs_nothing(tmp_path, tiny_model):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    videos = save_videos(tmp_path / "videos", 60)
    run(videos, tiny_model, tmp_path / "local")
    removed = tmp_path / "removed"

    def wait_for_it() -> None:
        """Workers do one lease, and have two more when the node is lost."""
        import vidclip.pipeline.extraction.ray_worker as ray_worker

        whole = ray_worker.Worker.encode
        leases = []

        def encode(self, lease):
            until = time.monotonic() + 600
            while leases and not removed.exists() and time.monotonic() < until:
                time.sleep(0.05)
            leases.append(lease)
            return whole(self, lease)

        ray_worker.Worker.encode = encode

    cluster = start_patiently(
        ray, lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    )
    try:
        start_patiently(ray, lambda: cluster.add_node(num_cpus=1))
        lost = [start_patiently(ray, lambda: cluster.add_node(num_cpus=1))]

        def remove(progress) -> None:
            if lost and progress.workers == (2, 2) and progress.encoded >= 12:
                cluster.remove_node(lost.pop(), allow_graceful=False)
                removed.touch()

        with started(wait_for_it, address=cluster.address):
            summary = run(videos, tiny_model, tmp_path / "ray", cluster=on_cpus(6), on_progress=remove)
            assert not lost
            assert (summary.progress.encoded, summary.failures) == (60, [])
            assert_same(tmp_path / "ray", tmp_path / "local")
    finally:
        cluster.shutdown()


def token_of(cache: Path) -> str:
    """What tells workers that their run goes on; empty where there is none."""
    try:
        return (cache / ".ray-run").read_text()
    except FileNotFoundError:
        return ""


def count_shards(cache: Path) -> int:
    return len(list(cache.glob("frames-*.h5")))


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait for what a process does, as long as it lives; ten minutes at most, where the machine is busy."""
    until = time.monotonic() + 600
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.ray
@pytest.mark.long
def test_the_same_command_goes_on_after_sigkill_and_after_ctrl_c(tmp_path, tiny_model):
    pytest.importorskip("ray")
    first = save_video(tmp_path / "videos" / "0.mp4", frames=60, size=256)
    for number in range(1, 120):
        save_copy(first, tmp_path / "videos" / f"{number}.mp4", number)
    run(read_videos(tmp_path / "videos"), tiny_model, tmp_path / "local")
    cache = tmp_path / "ray"
    command = [
        sys.executable, "-m", "vidclip.cli.main", "extract", str(tmp_path / "videos"), "--model", tiny_model,
        "--cache", str(cache), "--frames", "2", "--engine", "ray", "--gpus-per-worker", "0", "--cpus-per-worker", "1",
        "--lease", "4", "--max-workers", "1",
    ]  # fmt: skip
    for farewell, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        earlier = token_of(cache)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            # Workers of the command that was killed may have written on; from its token on, this one's alone do.
            wait_until(process, lambda before=earlier: token_of(cache) not in ("", before))
            before = count_shards(cache)
            wait_until(process, lambda before=before: count_shards(cache) >= before + 2)
            process.send_signal(farewell)
            out, errors = process.communicate(timeout=600)
        assert process.returncode == status, out + errors
        kept = len(FeatureCache(cache))
        assert 0 < kept < 120, "it came in the middle"
    assert "The same command goes on from here" in out
    assert "Traceback" not in errors
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{kept} done before" in done.stdout
    assert_same(cache, tmp_path / "local")


@pytest.mark.ray
@pytest.mark.long
def test_rejects_workers_with_different_encoders(tmp_path, tiny_model):
    videos = save_videos(tmp_path / "videos", 12)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")

    def differ() -> None:
        """The second worker has other weights; the first waits until they are loaded."""
        import vidclip.pipeline.extraction.ray_worker as ray_worker

        whole = ray_worker.Worker.load

        def load(self, *arguments):
            answer = whole(self, *arguments)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(first, os.O_CREAT | os.O_EXCL))
                while not os.path.exists(second):
                    time.sleep(0.1)
                return answer
            Path(second).touch()
            return replace(answer, identity={**answer.identity, "weights_sha256": "ab" * 32})

        ray_worker.Worker.load = load

    with (
        started(differ, num_cpus=2),
        pytest.raises(EncoderError, match="another encoder than .*: encoder.weights_sha256"),
    ):
        run(videos, tiny_model, tmp_path / "ray", cluster=on_cpus(1))
    left = FeatureCache(tmp_path / "ray") if (tmp_path / "ray").exists() else ()
    assert len(left) < 12


@pytest.fixture
def worker(tmp_path, tiny_model) -> tuple[Worker, WorkerTask]:
    """A worker without Ray, and what it is to do in the cache `tmp_path / "c"`."""
    made = Worker()
    encoder = made.load(EncoderRequest(tiny_model), "fp32", SAMPLING.frames, False)
    assert isinstance(encoder, LoadedEncoder)
    clip = ClipSpec(SAMPLING, encoder.preprocess)
    identity = cache_identity(encoder, clip)
    with CacheWriter(tmp_path / "c", identity):
        pass
    (tmp_path / "c" / ".run").write_text("this run")
    task = WorkerTask(
        tmp_path / "c", ".run", "this run", clip, ExtractSettings(workers=1), False, identity.digest,
        EncoderRequest(tiny_model), remember=False,
    )  # fmt: skip
    return made, task


def test_a_worker_writes_one_shard_a_lease_and_the_same_one_again(worker, tmp_path):
    made, task = worker
    videos = save_videos(tmp_path / "videos", 4)
    videos[1].path.write_bytes(b"no video")
    lease = Lease(tuple(videos), {videos[2].id: 3})
    assert made.begin(task) is None
    done = made.encode(lease)
    assert isinstance(done, Done)
    assert (done.videos, done.frames, [failure.id for failure in done.failures]) == (3, 6, [videos[1].id])
    shard = tmp_path / "c" / lease.shard_name
    assert [path.name for path in shard.parent.glob("frames-*")] == [shard.name]
    before = shard.read_bytes()
    made.encode(lease)
    assert shard.read_bytes() == before
    cache = FeatureCache(tmp_path / "c")
    assert {video.id: video.generation for video in cache.videos} == {
        video.id: 3 * (video is videos[2]) for video in videos if video is not videos[1]
    }


def test_a_worker_of_a_run_that_is_over_writes_nothing(worker, tmp_path):
    made, task = worker
    videos = save_videos(tmp_path / "videos", 2)
    assert made.begin(task) is None
    (tmp_path / "c" / ".run").write_text("another run")
    answer = made.encode(Lease(tuple(videos), {}))
    assert isinstance(answer, Trouble)
    assert "has been given up" in str(answer.error)
    assert list(task.folder.glob("frames-*")) == []


def test_a_worker_needs_the_same_folder(worker, tmp_path):
    made, task = worker
    answer = made.begin(replace(task, folder=tmp_path / "elsewhere"))
    assert isinstance(answer, Trouble)
    assert "must be on a file system that all machines share" in str(answer.error)


def test_a_local_run_ends_the_writing_of_an_earlier_cluster(tmp_path, tiny_model):
    videos = save_videos(tmp_path / "videos", 2)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / ".ray-run").write_text("a command that was killed")
    run(videos, tiny_model, tmp_path / "c")
    assert not (tmp_path / "c" / ".ray-run").exists()


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    save_video(tmp_path / "videos" / "a.mp4", frames=4)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = vidclip("extract", "videos", "--model", "demo", "--engine", "ray", cwd=tmp_path)
    assert done.returncode == 2
    assert "Ray is not installed: pip install 'vidclip[ray]', on every machine of the cluster." in done.stderr
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus-per-worker", "1.5"], "must be a whole number, or a part of one GPU, got 1.5"),
        (["--address", "ray://head:10001"], "is a proxy to a cluster"),
    ],
)
def test_rejects_settings_that_cannot_be(tmp_path, arguments, message):
    save_video(tmp_path / "videos" / "a.mp4", frames=4)
    done = vidclip("extract", "videos", "--model", "demo", "--engine", "ray", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
