"""The runs of fine-tuning in the demo's world, and their tables."""

import json
import sys

import numpy as np
import pytest

from vidclip.demo.finetuning.__main__ import main
from vidclip.demo.finetuning.hits import WITHOUT_PROMPTS, difference, figure, read_hits
from vidclip.demo.finetuning.runs import RUNS
from vidclip.demo.finetuning.tables import TABLES
from vidclip.pipeline.finetune import find_recipe


def test_all_runs_take_four_hours_of_two_cores_at_most():
    """Those of temporal prompts, and the others."""
    minutes = {True: 0.0, False: 0.0}
    for run in RUNS:
        minutes[run.name.startswith("prompts")] += run.minutes * run.seeds
        if run.trains == "encoder":
            find_recipe("text4vis", **run.changes)  # it refuses what cannot be
    assert max(minutes.values()) <= 2 * 240


def test_every_run_is_in_a_table_and_the_other_way_round():
    shown = {name.removesuffix(f" {WITHOUT_PROMPTS}") for _, names in TABLES.values() for name in names}
    assert shown == {run.name for run in RUNS}
    assert len({run.name for run in RUNS}) == len(RUNS)


def test_the_list_comes_without_running_anything(tmp_path, monkeypatch, capsys):
    command = ["vidclip.demo.finetuning", str(tmp_path / "world"), "--list"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert "order-token-t1d" in capsys.readouterr().out
    assert not (tmp_path / "world").exists()
    monkeypatch.setattr(sys, "argv", [*command, "--only", "tuend"])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert "there is no run tuend" in capsys.readouterr().err


def write_hits(folder, name, trimmed):
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"seconds": 60.0, "scorer": name, "hits": {"trimmed": trimmed}}))
    return path


def test_figures_are_means_over_seeds_with_intervals_over_videos(tmp_path):
    one = read_hits([write_hits(tmp_path, f"a-{seed}", hits) for seed, hits in enumerate(["1100", "1110"])])
    values = one.by_column["trimmed"]
    assert values.tolist() == [[100, 100, 0, 0], [100, 100, 100, 0]]
    assert figure(values).startswith("62.5 ± 12.5 [")  # 50 and 75
    other = read_hits([write_hits(tmp_path, "b", "0110")]).by_column["trimmed"]
    text = difference(values, other)
    assert text.startswith("+12.5 [")  # of videos: +100, 0, -50, 0
    low, high = (float(number) for number in text.split("[")[1].rstrip("]").split(", "))
    assert -50 <= low < 12.5 < high <= 100


def test_a_video_that_is_always_right_leaves_no_doubt():
    values = np.full((3, 20), 100.0)
    assert figure(values) == "100.0 ± 0.0 [100.0, 100.0]"
    assert difference(values, values) == "+0.0 [+0.0, +0.0]"


@pytest.mark.parametrize("name", ["tuned", "order-plain"])
def test_a_run_has_a_place_for_each_seed(tmp_path, name):
    run = next(run for run in RUNS if run.name == name)
    assert run.place(tmp_path, 1, ".test.json") == tmp_path / "finetuned" / f"{name}-1.test.json"
