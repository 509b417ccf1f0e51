"""The scripts and the program of docs/operations.md run, and do what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers import a_record, save_video
from vidclip.cache import FeatureCache
from vidclip.demo.videos import first_clips, write_world
from vidclip.pipeline import (
    Sampling,
    extract,
    lexicon_from_labels,
    load_encoder,
    read_videos,
    zero_shot_predictor,
)

PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
SCRIPTS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def world(tmp_path) -> Path:
    """Eight videos of the demo, in `videos.csv`; the first four of them alone in `incoming`."""
    for _ in write_world(tmp_path, first_clips(8)):
        pass
    return tmp_path


def test_the_service_answers_from_several_threads(world):
    videos = read_videos(world / "videos.csv")
    encoder = load_encoder("demo", device="cpu")
    extract(videos, encoder, world / "features", Sampling(4))
    cache = FeatureCache(world / "features")
    expected = {
        each.id: [(guess.label, guess.probability) for guess in each.best]
        for each in zero_shot_predictor(cache, lexicon_from_labels(cache), device="cpu").predict(cache, top=3)
    }
    folder = Path(cache.videos[0].path).parent
    asked, other = cache.videos[:2]
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "list.csv").write_text(f"path\n{Path(other.path).resolve()}\n")

    names: dict = {}
    exec(PROGRAM, names)
    server = names["make_server"](names["Classifier"](str(world / "features")), folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(name):
        url = f"http://127.0.0.1:{server.server_port}/?video={urllib.parse.quote(name)}"
        try:
            with urllib.request.urlopen(url, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    try:
        wanted = [Path(asked.path).name] * 4
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(answer, wanted))
        for status, found in answers:
            assert status == 200
            labels, probabilities = zip(
                *((c["label"], c["probability"]) for c in found["classes"]), strict=True
            )
            assert labels == tuple(label for label, _ in expected[asked.id])
            np.testing.assert_allclose(probabilities, [p for _, p in expected[asked.id]], atol=0.02)
        assert answer("broken.mp4")[0] == 422
        for outside in ("list.csv", "../videos.csv", "/etc/passwd", "", "\0"):
            assert answer(outside) == (404, {"error": "no such video"})
        assert answer(wanted[0]) == answers[0], "it answers still"
    finally:
        server.shutdown()
        server.server_close()


def test_threads_read_one_cache(write_cache, rng):
    records = [a_record(f"{i:03}", rng) for i in range(200)]
    cache = FeatureCache(write_cache(records, shards=[50] * 4))
    draws = [rng.permutation(200)[:20] for _ in range(64)]
    expected = np.concatenate([record.frames[None] for record in records])
    with ThreadPoolExecutor(8) as threads:
        for draw, found in zip(draws, threads.map(cache.frames, draws), strict=True):
            np.testing.assert_array_equal(found, expected[draw].astype(found.dtype))


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "vidclip"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vidclip.cli "$@"\n')
    program.chmod(0o755)
    (folder / "script.sh").write_text(script)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(folder / "script.sh")],
        cwd=folder, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def settings(folder: Path, source: str) -> None:
    (folder / "vidclip.toml").write_text(
        f'model = "demo"\ndevice = "cpu"\n[extract]\nsource = "{source}"\nworkers = 1\nframes = 4\n'
        '[predict]\nlexicon = "demo-classes"\n'
    )


@pytest.mark.long
def test_the_tasks_of_an_array_fill_one_cache(tmp_path):
    array, after = SCRIPTS[:2]
    for i in range(6):
        save_video(tmp_path / "videos" / f"{i}.mp4", frames=8, seed=i)
    settings(tmp_path, "videos")
    for task in ("0", "1"):
        numbers = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
        done = run(array, tmp_path, **numbers)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr == ""
    assert len(FeatureCache(tmp_path / "features")) == 6
    assert "all sound" in run(after, tmp_path).stdout


@pytest.mark.long
def test_a_night_reads_what_is_new(tmp_path):
    nightly = SCRIPTS[2]
    settings(tmp_path, "incoming")
    save_video(tmp_path / "incoming" / "first.mp4", frames=8)

    def named():
        return {
            each["video"] for each in json.loads((tmp_path / "predictions.json").read_text())["predictions"]
        }

    done = run(nightly, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert named() == {"first.mp4"}
    save_video(tmp_path / "incoming" / "second.mp4", frames=8, seed=1)
    (tmp_path / "incoming" / "broken.mp4").write_bytes(b"no video")
    done = run(nightly, tmp_path)
    assert done.returncode == 1
    assert "broken.mp4: " in done.stdout
    assert named() == {"first.mp4", "second.mp4"}
    assert run(nightly, tmp_path).returncode == 0, "a failure is reported once"
    (tmp_path / "features" / "identity.json").write_text("{")
    done = run(nightly, tmp_path)
    assert done.returncode == 2
    assert "Error: " in done.stderr
