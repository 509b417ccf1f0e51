"""`vidclip eval --predictions` and `--per-class`, and `vidclip compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import vidclip, write_noisy_world
from vidclip.lexicons import load_lexicon

NAMES = load_lexicon("demo-classes").labels[:6]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    videos = [(f"{c}{i}[red]\x1b", name, "test") for c, name in enumerate(NAMES) for i in range(10)]
    for name, noise in (("features", 3.0), ("clearer", 2.0)):
        write_noisy_world(folder / name, videos, noise=noise, seed=int(noise))
    (folder / "vidclip.toml").write_text('model = "demo"\n')
    for name in ("features", "clearer"):
        done = vidclip(
            "eval", "--cache", name, "--pool", "mean", "--pool", "max", "--per-class", "--predictions",
            f"{name}.csv", "--json", f"{name}.json", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "full-classes, max: each class [95 % Wilson interval]" in done.stdout
        assert "most often taken for" in done.stdout
    return folder


def test_predictions_give_the_accuracy_that_was_printed(world):
    from vidclip.pipeline.evaluation import read_predictions

    rows = read_predictions(world / "features.csv")
    (document,) = json.loads((world / "features.json").read_text())
    for result in document["results"]:
        own = [row.rank == 1 for row in rows if row.scorer == result["scorer"]]
        assert 100 * sum(own) / len(own) == pytest.approx(result["figures"]["top1"]["mean"])
        right = sum(each["n"] * each["top1"] for each in document["per_class"][result["scorer"]])
        assert right / 60 == pytest.approx(result["figures"]["top1"]["mean"])


def test_two_files_of_predictions(world):
    done = vidclip("compare", "features.csv", "clearer.csv", "--json", "c.json", cwd=world)
    assert done.returncode == 0, done.stderr
    found = json.loads((world / "c.json").read_text())
    assert [each["first"] for each in found] == ["mean", "max"]
    assert found[0]["comparison"]["difference"] == pytest.approx(
        found[0]["top1_second"] - found[0]["top1_first"]
    )
    assert (
        found[0]["comparison"]["low"] < found[0]["comparison"]["difference"] < found[0]["comparison"]["high"]
    )
    assert len(found[0]["gained"]) > len(found[0]["lost"])
    assert "classes that differ most" in done.stdout
    assert "right in SECOND alone" in done.stdout
    assert "\x1b" not in done.stdout
    assert "[red]" in done.stdout, "labels are no markup"
    done = vidclip(
        "compare", "features.csv", "features.csv", "--scorer", "mean", "--scorer", "max", cwd=world
    )
    assert "mean and max: 60 tests of videos in both." in done.stdout


def test_two_files_of_figures(world):
    done = vidclip("compare", "features.json", "clearer.json", cwd=world)
    assert done.returncode == 0, done.stderr
    assert "as of independent tests" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "features.csv", "none.csv"], "none.csv cannot be read"),
        (["compare", "features.csv", "vidclip.toml"], "must end in .csv, .json or .parquet"),
        (["compare", "features.csv", "clearer.json"], "no file of `vidclip eval --predictions`"),
        (
            ["compare", "features.csv", "clearer.csv", "--scorer", "x"],
            "has no scorer 'x'. It has 'mean', 'max'.",
        ),
        (["eval", "--predictions", "x.txt"], "must end in .csv, .json or .parquet"),
        (["eval", "--predictions", "no/x.csv"], "no is not a folder"),
    ],
)
def test_wrong_requests_are_answered(world, arguments, message):
    done = vidclip(*arguments, cwd=world)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
