"""`vidclip demo`, from nothing to the table, and the three commands in its folder."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys

import pytest

VIDCLIP = [sys.executable, "-m", "vidclip.cli.main"]


def run(*arguments, cwd):
    done = subprocess.run([*VIDCLIP, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_the_demo_from_nothing_and_again(tmp_path):
    output = run("demo", cwd=tmp_path)
    assert "900 videos, 900 of them rendered now" in output
    for command in ("extract", "attributes --lexicon demo", "eval --protocol half-classes"):
        assert f"$ vidclip {command}" in output
    table = output[output.index("zero-shot top-1 %") :]
    rows = {
        match[1].strip(): [float(value) for value in re.findall(r"(\d+\.\d) \[", match[0])]
        for match in re.finditer(r"^ *(mean|vcs \(0\.15\)|attributes) .*$", table, re.MULTILINE)
    }
    # the numbers of docs/demo.md, on fewer videos
    assert rows["mean"][0] > 75
    assert rows["vcs (0.15)"][1] > rows["mean"][1] + 12, "concept spotting on idle videos"
    assert rows["vcs (0.15)"][2] > rows["mean"][2] + 12, "and on distracting ones"
    assert rows["attributes"][0] > 60
    assert "Try next" in output

    folder = tmp_path / "vidclip-demo"
    videos = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    again = run("demo", cwd=tmp_path)
    assert "900 videos, 0 of them rendered now" in again
    assert "0 videos encoded" in again
    assert videos == {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}

    assert "900 done before" in run("extract", cwd=folder)
    assert "there already" in run("attributes", "--lexicon", "demo", cwd=folder)
    assert re.search(r"chance +2\.7", run("eval", "--protocol", "half-classes", cwd=folder))
    (moments,) = re.findall(r"^  vidclip (search .*?)  +#", output, re.MULTILINE)
    assert "swinging_an_umbrella/" in run(*shlex.split(moments), cwd=folder)
    idle = run("eval", "--split", "test-idle", cwd=folder)
    assert re.search(r"vcs - mean: \+\d+\.\d \[\+", idle), "the interval excludes zero"


def test_a_world_of_any_size(tmp_path):
    output = run("demo", "world", "--videos-only", "--count", "80", cwd=tmp_path)
    assert "80 videos, 80 of them rendered now" in output
    assert len(list((tmp_path / "world").rglob("*.mp4"))) == 80
    with (tmp_path / "world" / "videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(os.path.exists(tmp_path / "world" / row["path"]) for row in rows)
    assert len({row["label"] for row in rows}) == 75
    refused = subprocess.run([*VIDCLIP, "demo", "--count", "5"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--count goes with --videos-only" in refused.stderr
