"""`vidclip label`: labels and splits change, features do not."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from helpers import a_record, save_video, vidclip
from vidclip.cache import FeatureCache, verify

FIRST = [
    ("a.mp4", "run", "train"),
    ("b.mp4", "jump", "test"),
    ("c.mp4", "swim", "test"),
    ("d.mp4", "run", "test"),
]
SECOND = [
    ("a.mp4", "jump", "test"),
    ("b.mp4", "jump", "test"),
    ("c.mp4", "run", "train"),
    ("d.mp4", "swim", "test"),
]


def write_list(path: Path, rows, header=("path", "label", "split")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def facts(folder: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    return {video.id: (video.labels, video.split) for video in FeatureCache(folder).videos}


@pytest.fixture
def folder(write_cache, rng):
    records = [
        a_record(id, rng, labels=("old",), split="train")
        for id in ("yoga/1.mp4", "yoga/2.mp4", "x=y/3.mp4", "yoga/1.mp4#t=1,2.5")
    ]
    return write_cache(records)


def test_figures_are_those_of_an_extraction_with_that_list(tmp_path, tiny_model):
    for number, (name, _, _) in enumerate(FIRST):
        save_video(tmp_path / name, frames=8, seed=number)
    first, second = (write_list(tmp_path / f"{i}.csv", rows) for i, rows in enumerate((FIRST, SECOND)))
    figures, caches = [], []
    for kind, listed in (("labeled", first), ("extracted", second)):
        own = tmp_path / kind
        own.mkdir()
        (own / "vidclip.toml").write_text(f'model = "{tiny_model}"\ndevice = "cpu"\n')
        done = vidclip("extract", listed, "--frames", "2", "--workers", "1", "--precision", "fp32", cwd=own)
        assert done.returncode == 0, done.stderr
        before = (own / "features" / "frames-00000.h5").read_bytes()
        if kind == "labeled":
            for name, _, _ in FIRST:
                (tmp_path / name).rename(tmp_path / f"{name}.away")
            done = vidclip("label", "--from", second, cwd=own)
            assert done.returncode == 0, done.stderr
            assert "3 of 4 videos have other labels or splits now" in done.stdout
            assert (own / "features" / "frames-00000.h5").read_bytes() == before
            for name, _, _ in FIRST:
                (tmp_path / f"{name}.away").rename(tmp_path / name)
        caches.append(facts(own / "features"))
        done = vidclip("eval", "--split", "test", "--pool", "mean", "--pool", "vcs", "--json", "-", cwd=own)
        assert done.returncode == 0, done.stderr
        figures.append(json.loads(done.stdout))
    assert caches[0] == caches[1]
    assert figures[0] == figures[1]
    assert json.dumps(figures[0]).count("top1")
    again = vidclip("extract", second, "--frames", "2", cwd=tmp_path / "labeled")
    assert "0 videos encoded" in again.stdout
    assert "follow this list" not in again.stdout, "the list says what the cache has"


def test_what_a_list_does_not_say_stays(folder, tmp_path):
    listed = write_list(tmp_path / "l.csv", [("yoga/1.mp4", "new"), ("other.mp4", "x")], ("path", "label"))
    done = vidclip("label", "--from", listed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 video has another label or split now" in done.stdout
    assert "Not in the cache: 1 video" in done.stdout
    assert "other.mp4" in done.stdout
    assert facts(folder)["yoga/1.mp4"] == (("new",), "train")
    assert facts(folder)["yoga/2.mp4"] == (("old",), "train")
    assert facts(folder)["yoga/1.mp4#t=1,2.5"] == (("old",), "train"), "a segment is a video of its own"


def test_rows_are_matched_by_path_where_no_video_has_their_id(folder, tmp_path):
    rows = [("/videos/yoga/2.mp4", "by path", "", ""), ("/videos/yoga/1.mp4#t=1,2.5", "whole", "", "")]
    listed = write_list(tmp_path / "l.csv", rows, ("path", "label", "start", "end"))
    assert vidclip("label", "--from", listed, cwd=tmp_path).returncode == 0
    assert facts(folder)["yoga/2.mp4"][0] == ("by path",)


def test_assignments_and_patterns(folder, tmp_path):
    done = vidclip(
        "label", "--set", "yoga/*=yoga", "--set", "yoga/2.mp4=a;b", "--set", "x=y/3.mp4=", "--set-split",
        "*/[12].mp4=test", "--set", "yoga/1.mp4#t=1,2.5=part", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert facts(folder) == {
        "yoga/1.mp4": (("yoga",), "test"),
        "yoga/2.mp4": (("a", "b"), "test"),
        "x=y/3.mp4": ((), "train"),
        "yoga/1.mp4#t=1,2.5": (("part",), "train"),
    }
    assert [problem for checked in verify(folder) for problem in checked.problems] == []


def test_a_label_that_no_video_had_is_told(folder, tmp_path):
    """A misspelled one makes a class of its own."""
    vidclip("label", "--set", "x=y/3.mp4=yoga", cwd=tmp_path)
    said = vidclip("label", "--set", "yoga/1.mp4=yogaa", "--set", "yoga/2.mp4=swim", cwd=tmp_path).stdout
    assert "2 labels that no video had before:\n  'yogaa' Did you mean yoga?\n  'swim'\n" in said
    again = vidclip("label", "--set", "x=y/3.mp4=swim", cwd=tmp_path).stdout
    assert "1 of 1 video has another label" in again, again
    assert "before" not in again


def test_undo_gives_back_what_was_changed_last(folder, tmp_path):
    def label(*arguments):
        done = vidclip("label", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = facts(folder)
    label("--set", "yoga/1.mp4=one")
    one = facts(folder)
    said = label("--set", "yoga/*=two", "--set-split", "yoga/*=test")
    assert "vidclip label --undo --cache features" in said
    two = facts(folder)
    assert before != one != two
    assert "nothing to change" in label("--set", "yoga/*=two")
    label("--undo")
    assert facts(folder) == one, "what changed nothing has not taken its place"
    label("--undo")
    assert facts(folder) == two, "undoing twice does it again"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing was said of any video"),
        (("--set", "yoga/1.mp4"), "'yoga/1.mp4' is not ID=LABEL"),
        (("--set-split", "=x"), "'=x' is not ID=SPLIT"),
        (("--set", "yoga/1.mp=x"), "No video of features is called 'yoga/1.mp'. Did you mean 'yoga/1.mp4'?"),
        (("--set", "swim/*=x"), "No video of features is called 'swim/*'"),
        (("--from", "none.csv"), "none.csv cannot be read"),
        (("--from", "features"), "features is no list"),
        (("--from", "other.csv"), "None of the 1 listed videos is in features: other.csv, row 2 is 'no.mp4'"),
        (("--from", "twice.csv"), "both name the video 'yoga/2.mp4'"),
        (("--undo",), "features has nothing to undo"),
        (
            ("--set", "yoga/1.mp4=yogaa", "--lexicon", "ucf101"),
            "Labels that the lexicon ucf101 does not have",
        ),
    ],
)
def test_what_cannot_be_meant_changes_nothing(folder, tmp_path, arguments, message):
    write_list(tmp_path / "other.csv", [("no.mp4", "x", "")])
    write_list(tmp_path / "twice.csv", [("yoga/2.mp4", "x", ""), ("/videos/yoga/2.mp4", "y", "")])
    done = vidclip("label", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
    assert not (folder / "labels.jsonl").exists()
    assert not (folder / "labels-before.jsonl").exists()


def test_a_damaged_file_of_earlier_labels_is_named_and_harms_no_reader(folder, tmp_path):
    vidclip("label", "--set", "yoga/1.mp4=one", cwd=tmp_path)
    path = folder / "labels-before.jsonl"
    path.write_bytes(path.read_bytes().replace(b"old", b"odd"))
    assert facts(folder)["yoga/1.mp4"][0] == ("one",)
    assert "labels-before.jsonl is damaged" in vidclip("verify", cwd=tmp_path).stderr
    done = vidclip("label", "--undo", cwd=tmp_path)
    assert done.returncode == 2
    assert "labels-before.jsonl is damaged" in done.stderr
    shutil.copy(folder / "labels.jsonl", path)
    assert vidclip("label", "--undo", cwd=tmp_path).returncode == 0
