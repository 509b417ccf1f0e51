"""The fault campaign, `benchmarks/faults`: a few of its cases, and whether it sees what it looks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[1] / "benchmarks" / "faults"


@pytest.mark.long
def test_a_few_cases_of_each_kind_find_nothing_wrong(tmp_path):
    counts = {"kills": 2, "videos": 20, "caches": 3, "heads": 4, "commands": 6}
    done = subprocess.run(
        [sys.executable, CAMPAIGN, *(f"--{kind}={n}" for kind, n in counts.items()), "--seed=0"],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\n0 wrong\n")
    for title in ("Kills", "Damaged videos", "Damaged caches", "Damaged heads", "Bad command lines"):
        assert f"\n{title}: " in done.stdout
    assert not list(tmp_path.glob("vidclip-*")), "it leaves nothing behind"


def test_the_campaign_sees_what_it_looks_for(tmp_path):
    """Each way to go wrong, by a process that does; and one that does not."""
    program = f"""
import os, sys, time
sys.path.insert(0, {str(CAMPAIGN)!r})
from pathlib import Path
from harness import Limits, Settings, Trial, report, run_cases, watched

folder = Path({str(tmp_path)!r})

def complaint(work, seconds=30.0):
    return watched(work, folder=folder, limits=Limits(seconds, 2**30)).complaint

def fault():
    print("unexpected KeyError\\nThis looks like a fault of vidclip.", file=sys.stderr)
    sys.exit(2)

def fills_a_file():
    with open("large", "wb") as file:
        file.truncate(2**40)

assert complaint(lambda: print("done")) == ""
assert "hangs" in complaint(lambda: time.sleep(99), 0.3)
assert "signal 11" in complaint(lambda: os.kill(os.getpid(), 11))
assert "traceback: KeyError" in complaint(lambda: {{}}["x"])
assert "MemoryError" in complaint(lambda: bytearray(2**31))
assert "File too large" in complaint(fills_a_file)
assert "a fault of its own: unexpected KeyError" in complaint(fault)
assert "exit status 7" in complaint(lambda: sys.exit(7))
assert "without a word" in complaint(lambda: sys.exit(2))
assert "control characters" in complaint(lambda: print("\\x1b[31m"))

def case(rng, folder):
    yield Trial("even or odd", "drawn", "odd" if rng.randrange(2) else "")

settings = Settings(0, 2, folder, Limits())
trials = run_cases("cases", case, 40, settings)
wrong = [trial.wrong for trial in trials if trial.wrong]
assert len(trials) == 40 and 0 < len(wrong) < 40
assert sum("WRONG" in line for line in report("Cases", trials, 1)) == len(wrong)
number = int(wrong[0].split()[1].rstrip(":"))
(again,) = run_cases("cases", case, 40, Settings(0, 1, folder, Limits(), only=number))
assert again.wrong == wrong[0], "one case alone is the same again"
(failed,) = run_cases("cases", lambda rng, folder: 1 / 0, 1, settings)
assert "ZeroDivisionError" in failed.wrong
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
