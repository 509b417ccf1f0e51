"""Videos in object stores and on web servers: read as files are, each fault with its own reason, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from numbered_videos import DEFAULT, frame_numbers, render
from object_stores import faulty, web_server
from vidclip.pipeline.video import (
    DecodeError,
    DecodePool,
    RemotePath,
    VideoRequest,
    decode_video,
    is_remote,
    remote,  # the module: how patient it is
    remote_stamp,
)

for package in ("fsspec", "aiohttp", "s3fs", "moto", "flask"):
    pytest.importorskip(package)

FAULTY = ("refused", "missing", "truncated", "silent", "broken")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return render(tmp_path_factory.mktemp("video") / "a.mp4")


@pytest.fixture(scope="module")
def web(video, tmp_path_factory):
    """The address of a web server with faults, and what was asked of it."""
    folder = tmp_path_factory.mktemp("web")
    for name in ("sound", "dripping", *FAULTY):
        (folder / name).mkdir()
        (folder / name / "a.mp4").write_bytes(video.read_bytes())
    with web_server(str(folder)) as upstream, faulty(upstream) as (address, asked):
        yield f"http://{address}", asked


@pytest.fixture(scope="module")
def s3(video):
    """The endpoint of an S3 store with faults, whose bucket `videos` has the video in a folder for each."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    client.create_bucket(Bucket="videos")
    for name in ("sound", *FAULTY):
        client.put_object(Bucket="videos", Key=f"{name}/a.mp4", Body=video.read_bytes())
    with faulty(f"{host}:{port}") as (address, _):
        yield f"http://{address}", client
    server.stop()


@pytest.fixture
def store(request, monkeypatch, tmp_path):
    """Where the videos of a kind of store are; tries follow at once, and silence is short."""
    monkeypatch.setattr(remote, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if request.param == "http":
        return request.getfixturevalue("web")[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3")[0])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return "s3://videos"


both = pytest.mark.parametrize("store", ["http", "s3"], indirect=True)


@both
def test_decodes_what_a_file_gives(store, video, tmp_path):
    local, decoded = decode_video(video, DEFAULT), decode_video(f"{store}/sound/a.mp4", DEFAULT)
    assert np.array_equal(decoded.pixels, local.pixels)
    assert decoded.facts() == local.facts()
    assert os.listdir(tmp_path) == []


@both
@pytest.mark.parametrize(
    ("fault", "stage", "reason"),
    [
        ("refused", "permission", "access is refused"),
        ("missing", "missing", "no such object"),
        ("truncated", "network", "the transfer broke off"),
        ("silent", "network", r"its server said nothing for 0.5 s \(3 tries\)"),
        ("broken", "network", r"its server answers 503 \(3 tries\)"),
    ],
)
def test_each_fault_has_its_own_reason(store, fault, stage, reason, tmp_path):
    with pytest.raises(DecodeError, match=reason) as error:
        decode_video(f"{store}/{fault}/a.mp4", DEFAULT)
    assert error.value.stage == stage
    assert os.listdir(tmp_path) == []


@both
def test_a_damaged_object_is_damage_and_no_fault_of_its_store(store, request, tmp_path):
    kind = "web" if store.startswith("http") else "s3"
    if kind == "s3":
        request.getfixturevalue("s3")[1].put_object(Bucket="videos", Key="sound/b.mp4", Body=b"hello\n" * 99)
        with pytest.raises(DecodeError, match="not a video") as error:
            decode_video(f"{store}/sound/b.mp4", DEFAULT)
        assert error.value.stage == "open"


@pytest.mark.parametrize("store", ["http"], indirect=True)
def test_only_what_may_pass_is_tried_again(store, web):
    counts = {}
    for fault in ("broken", "refused"):
        web[1].clear()
        with pytest.raises(DecodeError):
            decode_video(f"{store}/{fault}/a.mp4", DEFAULT)
        counts[fault] = len(web[1])
    assert counts["broken"] == 3 * counts["refused"]


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DecodeError, match="its server cannot be reached") as error:
        decode_video(f"http://127.0.0.1:{port}/a.mp4", DEFAULT)
    assert error.value.stage == "network"


@both
def test_a_stamp_is_asked_for_without_the_content(store, request, video):
    web, _ = request.getfixturevalue("web"), request.getfixturevalue("s3")
    web[1].clear()
    stamp = remote_stamp(f"{store}/sound/a.mp4")
    assert stamp == remote_stamp(f"{store}/sound/a.mp4")
    assert stamp.size == video.stat().st_size
    assert stamp.tag > 0
    assert not [line for line in web[1] if line.startswith("GET")]
    with pytest.raises(FileNotFoundError):
        remote_stamp(f"{store}/missing/a.mp4")


def test_reads_from_fsspecs_memory(video):
    import fsspec

    fsspec.filesystem("memory").pipe_file("/videos/a.mp4", video.read_bytes())
    decoded = decode_video("memory://videos/a.mp4", DEFAULT)
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)
    first = remote_stamp("memory://videos/a.mp4")
    fsspec.filesystem("memory").pipe_file("/videos/a.mp4", video.read_bytes()[:-1])
    assert remote_stamp("memory://videos/a.mp4") != first


def test_an_object_larger_than_the_disk_is_not_copied(video, monkeypatch):
    import fsspec

    fsspec.filesystem("memory").pipe_file("/videos/b.mp4", video.read_bytes())
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(DecodeError, match="has room for 100; TMPDIR") as error:
        decode_video("memory://videos/b.mp4", DEFAULT)
    assert error.value.stage == "open"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a copy has a name")
def test_a_transfer_too_slow_for_its_deadline_leaves_nothing(web, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with DecodePool(DEFAULT, workers=1, timeout_seconds=6, decoder="pyav") as pool:
        [(_, result)] = pool.decode([VideoRequest(RemotePath(f"{web[0]}/dripping/a.mp4"))])
    assert result.stage == "timeout"
    assert any(line.startswith("GET /dripping") for line in web[1])
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a copy has a name")
def test_a_killed_process_leaves_nothing(web, tmp_path):
    web[1].clear()
    code = (
        "import sys\n"
        "from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling, decode_video\n"
        "decode_video(sys.argv[1], ClipSpec(Sampling(), Preprocess((96, 128))))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"{web[0]}/dripping/a.mp4"],
        env=os.environ | {"TMPDIR": str(tmp_path), "NO_PROXY": "127.0.0.1"},
    )
    while not any(line.startswith("GET /dripping") for line in web[1]):
        assert process.poll() is None
        time.sleep(0.05)
    # Its copy is open by now, and has no name.
    opened = [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in os.listdir(f"/proc/{process.pid}/fd")]
    assert any(str(tmp_path) in name for name in opened)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.listdir(tmp_path) == []


def test_addresses_are_shown_without_what_opens_doors():
    path = RemotePath("https://user:secret@host.org/a%20b.mp4?X-Amz-Signature=secret#secret")
    assert str(path) == "https://host.org/a%20b.mp4"
    assert "secret" not in repr(path)
    assert os.fspath(path).count("secret") == 3
    assert str(RemotePath("s3://bucket/what?.mp4")) == "s3://bucket/what?.mp4"
    for text in ("s3:/bucket/a.mp4", "http:a.mp4", "file:///a.mp4", "simplecache::s3://b/a.mp4", "a/s3://b"):
        assert not is_remote(text)


@pytest.mark.parametrize("store", ["http"], indirect=True)
@pytest.mark.parametrize("fault", FAULTY)
def test_reasons_hold_nothing_of_an_address(store, fault):
    address = store.replace("//", "//user:secret@") + f"/{fault}/a.mp4?signature=secret"
    with pytest.raises(DecodeError) as error:
        decode_video(address, DEFAULT)
    assert "secret" not in str(error.value)
    assert "127.0.0.1" not in str(error.value)
