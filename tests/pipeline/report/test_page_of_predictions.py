"""A page of a file of predictions is the page of the run that wrote it, and a file that does not fit is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from helpers import vidclip, write_noisy_world
from vidclip.lexicons import load_lexicon

NAMES = load_lexicon("demo-classes").labels[:5]
POOLS = ("--pool", "mean", "--pool", "vcs")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    videos = [(f"{c}{i}.mp4", name, "test") for i in range(8) for c, name in enumerate(NAMES)]
    write_noisy_world(folder / "features", videos, noise=6.0)
    (folder / "vidclip.toml").write_text('model = "demo"\n')
    done = vidclip("eval", *POOLS, "--predictions", "p.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def data_of(folder, *arguments):
    done = vidclip("report", *arguments, "--workers", "1", "--output", "page.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    text = (folder / "page.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', text, re.DOTALL)[1]), text


def test_it_is_the_page_of_the_run(world):
    scored, _ = data_of(world, *POOLS)
    read, text = data_of(world, "--predictions", "p.csv")
    assert read == scored, "figures with intervals, confusions, decisions and all scores"
    assert any(
        scorer["hits"] != scorer["totals"] for scorer in [read["scorers"][0] | {"totals": read["totals"]}]
    )
    assert "<dt>predictions</dt><dd>" in text.replace("\n", "")


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_a_score_that_the_file_does_not_have_is_left_open(world, suffix):
    name = f"first.{suffix}"
    assert vidclip("eval", "--predictions", name, "--predictions-top", 1, cwd=world).returncode == 0
    scored, _ = data_of(world)
    read, text = data_of(world, "--predictions", name)
    (whole,), (own,) = scored["scorers"], read["scorers"]
    right = [predicted == target for predicted, target in zip(own["predicted"], read["targets"], strict=True)]
    assert not all(right)
    assert own["label_score"] == [
        score if hit else None for score, hit in zip(whole["label_score"], right, strict=True)
    ]
    for key in ("figures", "hits", "mistaken", "predicted", "score"):
        assert own[key] == whole[key], key
    assert "<td>nan</td>" not in text


def changed(world, tmp_path, change):
    with (world / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with (tmp_path / "changed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "changed.csv"


def wrong(rows):
    return next(row for row in rows if row["rank"] != "1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(id="elsewhere.mp4"), "the scorers of the predictions do not have the same videos"),
        (lambda rows: [row.update(id=f"x{row['id']}") for row in rows], "40 of the 40 videos of the predictions are not in"),
        (lambda rows: [row.update(label=NAMES[0]) for row in rows], "it was changed since, or --lexicon is another"),
        (lambda rows: rows[0].update(class1="flying"), "the class 'flying', which is not in the list"),
        (lambda rows: wrong(rows).update(rank="1"), "contradict themselves about"),
        (lambda rows: rows[0].update(score1="nan"), "contradict themselves about"),
        (lambda rows: rows[0].update(score1="-9"), "contradict themselves about"),
        (lambda rows: rows[0].update(class2=rows[0]["class1"]), "contradict themselves about"),
        (lambda rows: rows[0].update(class1=""), "have no class for"),
        (lambda rows: rows.append(rows[0]), "twice"),
        (lambda rows: [row.update(protocol="half-classes") for row in rows], "what is shown is full-classes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_cache_is_refused(world, tmp_path, change, message):
    done = vidclip("report", "--predictions", changed(world, tmp_path, change), cwd=world)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
    assert "fault of vidclip" not in done.stderr


def test_labels_that_were_changed_are_refused(world, tmp_path):
    shutil.copytree(world, tmp_path / "w")
    vidclip("label", "--set", f"00.mp4={NAMES[1]}", cwd=tmp_path / "w")
    done = vidclip("report", "--predictions", "p.csv", cwd=tmp_path / "w")
    assert done.returncode == 2
    assert (
        f"the label of '00.mp4' is '{NAMES[0]}' in the predictions, and '{NAMES[1]}' in features"
        in done.stderr
    )


def test_a_video_that_the_file_does_not_have_is_no_example(world, tmp_path):
    fewer = changed(
        world, tmp_path, lambda rows: [rows.remove(row) for row in rows[:] if row["id"] == "00.mp4"]
    )
    done = vidclip("report", "--predictions", fewer, "--video", "00.mp4", cwd=world)
    assert done.returncode == 2
    assert "'00.mp4' is not among the 39 videos that are tested" in done.stderr
