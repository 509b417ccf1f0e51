"""The command line: see the package."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..report import Measurements, fill
from .run import run_once
from .runs import MODEL, RUNS, Run
from .tables import make_tables


def run_all(world: Path, names: list[str], split: str, jobs: int) -> None:
    """Do the runs that are not done, some at a time, each in a process of one thread."""
    wanted = [(run, seed) for run in RUNS if run.name in names for seed in range(run.seeds)]
    left = [(run, seed) for run, seed in wanted if not run.place(world, seed, f".{split}.json").exists()]
    print(
        f"{len(left)} runs, about {sum(run.minutes for run, _ in left) / jobs:.0f} minutes", file=sys.stderr
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def start(item: tuple[Run, int]) -> None:
        command = [sys.executable, "-m", "vidclip.demo.finetuning", str(world), "--split", split]
        subprocess.run([*command, "--run", item[0].name, "--seed", str(item[1])], check=True, env=environment)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, left))


def main() -> None:
    """Read the command line, run, write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m vidclip.demo.finetuning", description="What fine-tuning brings in the demo's world."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("vidclip-demo-report"))
    parser.add_argument(
        "--list", action="store_true", help="print the runs and their minutes, and do nothing"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="runs, by their names")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one core each")
    parser.add_argument(
        "--output", type=Path, help="a document whose tables are replaced, such as docs/demo.md"
    )
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    runs = {run.name: run for run in RUNS}
    names = arguments.only or list(runs)
    unknown = set(names) - set(runs)
    if unknown:
        parser.error(f"there is no run {min(unknown)}; there are {', '.join(runs)}")
    if arguments.list:
        for name in names:
            print(f"{name:20} {runs[name].minutes:4.1f} minutes x {runs[name].seeds}")
        return
    if arguments.run:
        run_once(arguments.folder, runs[arguments.run], arguments.seed, arguments.split)
        return
    world = Measurements(arguments.folder, MODEL)
    world.sequences()
    run_all(arguments.folder, names, arguments.split, arguments.jobs)
    tables = make_tables(world, arguments.split)
    for name, table in tables.items():
        print(f"\n{name}\n\n{table}")
    if arguments.output:
        filled = fill(arguments.output.read_text(encoding="utf-8"), tables)
        arguments.output.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
