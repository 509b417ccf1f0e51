"""What vidclip does when it is killed, or given damaged files and bad command lines.

python benchmarks/faults                                       # about five minutes on two cores
python benchmarks/faults --kills 500 --videos 1000 --caches 1000 --heads 1000 --commands 1000
python benchmarks/faults --case caches:17 --keep               # one case again, its files kept

Everything is drawn from --seed: the same seed and counts try the same things (but for the moments of half of the
kills). Wrong is: a hang; a crash or traceback, or an error that calls itself a fault of vidclip; memory beyond the
limit; a video that is lost, or there twice; and above all exit status 0 with a result that differs from the sound
one, without a word. Prints what was tried and what was wrong; exits 1 if anything was.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import GIB, Case, Limits, Settings, report, run_cases, warm_up

KINDS = {"kills": 100, "videos": 200, "caches": 200, "heads": 100, "commands": 150}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for kind, count in KINDS.items():
        parser.add_argument(f"--{kind}", type=int, default=count, metavar="N", help=f"default {count}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at a time")
    parser.add_argument("--patience", type=float, default=60, help="seconds after which a command hangs")
    parser.add_argument("--case", metavar="KIND:NUMBER", help="this case alone")
    parser.add_argument("--keep", action="store_true", help="leave the files of what was wrong")
    arguments = parser.parse_args()
    counts = {kind: getattr(arguments, kind) for kind in KINDS}
    only = None
    if arguments.case:
        asked, _, number = arguments.case.partition(":")
        if asked not in KINDS or not number.isdecimal():
            parser.error(f"--case {arguments.case}: KIND is one of {', '.join(KINDS)}, NUMBER a whole number")
        only = int(number)
        counts = {kind: int(kind == asked) for kind in KINDS}
    work = Path(tempfile.mkdtemp(prefix="vidclip-faults-"))
    settings = Settings(
        arguments.seed, arguments.jobs, work, Limits(arguments.patience, 2 * GIB), arguments.keep, only
    )
    wrong = 0
    try:
        wrong = campaign(counts, settings)
    finally:
        if not (arguments.keep and wrong):
            shutil.rmtree(work, ignore_errors=True)
    print(f"{wrong} wrong" + (f"; their files are in {work}" if wrong and arguments.keep else ""))
    return int(wrong > 0)


def campaign(counts: dict[str, int], settings: Settings) -> int:
    """Runs it and prints it; returns how many things were wrong."""
    from damaged_videos import cases_for
    from fixtures import build_world, render_kinds

    began = time.monotonic()
    warm_up()
    world = build_world(settings.work / "world")

    def kills() -> Case:
        from kills import case, scenarios

        made = scenarios(world, settings.work)
        return lambda rng, folder: case(made, rng, folder, settings.limits)

    def videos() -> Case:
        from damaged_videos import case, sound_videos

        sound = sound_videos(render_kinds(settings.work / "sound"), settings.work)
        return lambda rng, folder: case(sound, rng, folder, settings.limits)

    def caches() -> Case:
        from damaged_caches import SoundResults, case

        sound = SoundResults(world)
        return lambda rng, folder: case(world, sound, rng, folder, settings.limits)

    def heads() -> Case:
        from damaged_heads import SoundResults, case

        sound = SoundResults(world)
        return lambda rng, folder: case(world, sound, rng, folder, settings.limits)

    def commands() -> Case:
        from bad_commands import case

        return lambda rng, folder: case(world, rng, folder, settings.limits)

    made: dict[str, tuple[str, Callable[[], Case]]] = {
        "kills": ("Kills", kills),
        "videos": ("Damaged videos", videos),
        "caches": ("Damaged caches", caches),
        "heads": ("Damaged heads", heads),
        "commands": ("Bad command lines", commands),
    }
    print(f"seed {settings.seed}; prepared in {time.monotonic() - began:.0f} s", flush=True)
    wrong = 0
    for kind, (title, prepare) in made.items():
        if counts[kind] < 1:
            continue
        began = time.monotonic()
        case = prepare()
        n_cases = cases_for(counts[kind]) if kind == "videos" and settings.only is None else counts[kind]
        trials = run_cases(kind, case, n_cases, settings)
        for line in report(title, trials, time.monotonic() - began):
            print(line, flush=True)
        print(flush=True)
        wrong += sum(bool(trial.wrong) for trial in trials)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
