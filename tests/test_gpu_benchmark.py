"""`benchmarks/gpu.py`: that it runs to its end where there is no GPU, and how it keeps its budget."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SECTIONS = ["tests", "extraction", "spotting", "search", "few-shot", "steps", "fine-tuning"]


@pytest.fixture(scope="module")
def timetable():
    spec = importlib.util.spec_from_file_location("timetable", BENCHMARKS / "timetable.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["timetable"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["timetable"]


@pytest.mark.long
def test_it_runs_to_its_end_without_a_gpu(tmp_path):
    output = tmp_path / "gpu.json"
    command = [
        sys.executable,
        BENCHMARKS / "gpu.py",
        "--device=cpu",
        "--small",
        "--workers=1",
        "--budget=3000",
    ]
    done = subprocess.run([*command, "--output", output], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " measured, 0 left out, 0 failed\n" in done.stdout
    document = json.loads(output.read_text())
    assert list(document["sections"]) == SECTIONS
    assert document["machine"]["device"] == "CPU"
    for name, section in document["sections"].items():
        assert section["rows"], name
        assert f"\n{name}: " in done.stdout
        for cell, row in section["rows"].items():
            assert f"\n  {cell} " in done.stdout
            numbers = [value for value in row.values() if isinstance(value, int | float)]
            assert numbers
            assert all(math.isfinite(value) and value >= 0 for value in numbers), (name, cell, row)
    # The device is the CPU: what is compared agrees, but for the order of sums.
    sections = document["sections"]
    assert all(row["largest difference"] < 1e-5 for row in sections["spotting"]["rows"].values())
    assert all(row["agreement"] > 0.99 for row in sections["search"]["rows"].values())
    assert all(row["device top-1"] == row["CPU top-1"] for row in sections["few-shot"]["rows"].values())


def test_what_is_asked_of_it_is_checked_first(tmp_path):
    def said(*arguments: object) -> tuple[int, str]:
        command = [sys.executable, BENCHMARKS / "gpu.py", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert said("--budget=0")[0] == said("--budget=inf")[0] == said("--budget=nan")[0] == 2
    assert "invalid choice: 'speed'" in said("--only", "speed")[1]
    code, told = said("--output", tmp_path / "absent" / "gpu.json")
    assert (code, "the folder of" in told) == (2, True)


def sections_of(timetable, **cells):
    """Sections of equal shares; `cells` are lists of what each cell does."""
    return [
        timetable.Section(
            name,
            f"title of {name}",
            1,
            lambda each=each: [timetable.Cell(f"c{i}", run) for i, run in enumerate(each)],
        )
        for name, each in cells.items()
    ]


def test_deadlines_are_shares_of_the_budget(timetable):
    found = timetable.deadlines({"a": 1, "b": 3, "c": 4}, 400)
    assert found == {"a": 50, "b": 200, "c": 400}
    assert timetable.deadlines({"b": 3}, 400) == {"b": 400}


def test_what_there_is_no_time_for_is_left_out_and_named(timetable):
    now, lines = [0.0], []

    def takes(seconds):
        def run():
            now[0] += seconds
            return {"took": seconds}

        return run

    outcomes = timetable.run_sections(
        sections_of(timetable, quick=[takes(2)], slow=[takes(15), takes(20), takes(1)], last=[takes(1)]),
        30,
        show=lines.append,
        clock=lambda: now[0],
    )
    # `quick` leaves 8 s of its 10: `slow` ends at 37, beyond its 20 and beyond the budget.
    assert outcomes["quick"].rows == {"c0": {"took": 2}}
    assert outcomes["slow"].rows == {"c0": {"took": 15}, "c1": {"took": 20}}
    assert outcomes["slow"].left_out == ["c2"]
    assert (outcomes["last"].rows, outcomes["last"].left_out) == ({}, ["c0"])
    assert "  35 s; no time was left for 1: c2" in lines
    assert "  0 s; no time was left for 1: c0" in lines


def test_a_cell_that_runs_when_the_time_is_over_is_broken_off(timetable):
    closed = []

    def sleeps():
        try:
            time.sleep(60)
        except Exception:  # what handles errors does not handle the end of the time
            return {}
        finally:
            closed.append(True)

    outcomes = timetable.run_sections(sections_of(timetable, a=[sleeps, sleeps]), 0.2, show=lambda _: None)
    assert outcomes["a"].left_out == ["c0", "c1"]
    assert closed == [True]


def test_what_goes_wrong_is_told_and_the_rest_goes_on(timetable, capsys):
    def fails():
        raise ValueError("no such thing")

    def unfit():
        raise OSError("cannot begin")

    lines, written = [], []
    sections = sections_of(timetable, a=[fails, lambda: {"n": 1.0}], b=[lambda: {"n": 2.0}])
    sections.insert(1, timetable.Section("broken", "title", 1, unfit))
    outcomes = timetable.run_sections(
        sections, 60, show=lines.append, on_section=lambda outcomes: written.append(list(outcomes))
    )
    assert outcomes["a"].failed == {"c0": "ValueError: no such thing"}
    assert outcomes["broken"].failed == {"all": "OSError: cannot begin"}
    assert (outcomes["a"].rows, outcomes["b"].rows) == ({"c1": {"n": 1.0}}, {"c0": {"n": 2.0}})
    assert written == [["a"], ["a", "broken"], ["a", "broken", "b"]]
    assert "  c0: failed, ValueError: no such thing" in lines
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="a: c0; broken: all"):
        timetable.finish(outcomes, 3)
    assert "2 measured, 0 left out, 2 failed" in capsys.readouterr().out


def test_tables_and_the_document(timetable, tmp_path):
    lines = []
    rows = [
        lambda: {"videos/s": 1234.5, "share": 0.98765, "what": "x"},
        lambda: {"videos/s": 0.00012345, "share": None, "what": "y"},
    ]
    outcomes = timetable.run_sections(sections_of(timetable, a=rows), 60, show=lines.append)
    assert lines[:4] == [
        "\na: title of a",
        "      videos/s     share      what",
        "  c0     1,234     0.988         x",
        "  c1  0.000123         -         y",
    ]
    outcomes["a"].rows["c0"]["share"] = float("nan")
    timetable.write_json(tmp_path / "f.json", {"machine": {"cores": 2}}, outcomes)
    document = json.loads((tmp_path / "f.json").read_text())
    assert document["machine"] == {"cores": 2}
    assert document["sections"]["a"]["rows"]["c0"] == {"videos/s": 1234.5, "share": None, "what": "x"}
    assert document["sections"]["a"]["left_out"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]
    shown = {
        0.0: "0",
        2.0: "2.00",
        123456.7: "123,457",
        1e-9: "1.00e-09",
        9.996: "10.00",
        float("inf"): "inf",
    }
    assert {value: timetable.format_value(value) for value in shown} == shown
