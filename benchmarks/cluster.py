"""What a Ray cluster costs on one machine, and whether kills change what it computes.

    python benchmarks/cluster.py --overhead              # two workers against two `--part`s, start-up apart
    python benchmarks/cluster.py --kills 20              # SIGKILL of random workers; every video is compared

Both extract rendered videos of the demo with its encoder; 200 are rendered, and linked under other names where more are
asked for. Needs Ray (pip install 'vidclip[ray]').
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RENDERED = 200

PART = """
import sys, time
from pathlib import Path
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import ExtractSettings, extract
from vidclip.pipeline.video import Sampling
videos, cache, part = sys.argv[1:]
listed, encoder = read_videos(videos), load_encoder("demo", device="cpu", precision="fp32")
ready = time.time()
summary = extract(listed, encoder, cache, Sampling(8), ExtractSettings(workers=1, part=(int(part), 2)))
print(ready, time.time(), summary.progress.encoded)
"""

RAY = """
import sys, time
from pathlib import Path
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import EncoderRequest
from vidclip.pipeline.extraction import ExtractSettings, RaySettings, run_extraction
from vidclip.pipeline.video import Sampling
videos, cache, lease = sys.argv[1:]
ready, ended = {}, []
def note(progress):
    if progress.done == progress.listed and not ended:
        ended.append(time.time())
    if progress.workers and progress.workers[0]:
        ready.setdefault(progress.workers[0], time.time())
cluster = RaySettings(gpus_per_worker=0, cpus_per_worker=1, lease=int(lease), max_workers=2)
summary = run_extraction(read_videos(videos), EncoderRequest("demo"), Path(cache), Sampling(8), ExtractSettings(),
                         cluster=cluster, precision="fp32", on_progress=note)
print(ready[1], ready.get(2, ended[0]), ended[0], summary.progress.encoded)
"""


def link_videos(folder: Path, count: int) -> Path:
    """`count` videos below a folder, of which the first `RENDERED` are rendered."""
    from vidclip.demo.videos import first_clips, write_clips

    rendered = folder / "rendered"
    for _ in write_clips(rendered, first_clips(min(count, RENDERED)), workers=1):
        pass
    originals = sorted(rendered.rglob("*.mp4"))
    videos = folder / "videos"
    for number in range(count):
        original = originals[number % len(originals)]
        path = videos / original.parent.name / f"{number:05}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(original, path)
    return videos


def environment(folder: Path) -> dict[str, str]:
    """One thread a worker on both sides, of one priority (Ray gives its own a low one); a HOME of its own, where Ray
    leaves a file."""
    return os.environ | {
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }


@dataclass
class Cost:
    """Of an extraction by two workers."""

    start_seconds: float
    """Until its workers were ready, on the average."""
    worker_seconds: float
    """Wall time from there to the end of the last, of both."""
    cpu_seconds: float
    """Of all its processes, start-up included."""


def run_sampled(commands: list[list[str]], folder: Path) -> tuple[list[list[float]], float]:
    """Run commands side by side; return the numbers that each prints last, and the CPU seconds of all their processes.

    Ray's processes are not children that are waited for: their times are looked at ten times a second.
    """
    jobs = [
        subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True, env=environment(folder))
        for command in commands
    ]  # fmt: skip
    spent: dict[int, float] = {}
    while any(job.poll() is None for job in jobs):
        parents, now = _processes()
        for pid, seconds in now.items():
            if _descends(pid, {job.pid for job in jobs}, parents):
                spent[pid] = seconds
        time.sleep(0.1)
    printed = [job.communicate()[0].split() for job in jobs]
    if any(job.returncode for job in jobs):
        raise SystemExit("an extraction has failed")
    return [list(map(float, words[-4:])) for words in printed], sum(spent.values())


def _processes() -> tuple[dict[int, int], dict[int, float]]:
    """Return the parent and the CPU seconds of every process."""
    parents, seconds = {}, {}
    tick = os.sysconf("SC_CLK_TCK")
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(words[1])
            seconds[int(path.parent.name)] = (int(words[11]) + int(words[12])) / tick
    return parents, seconds


def _descends(pid: int, ancestors: set[int], parents: dict[int, int]) -> bool:
    while pid > 1 and pid not in ancestors:
        pid = parents.get(pid, 0)
    return pid in ancestors


def run_parts(folder: Path, videos: Path, count: int) -> Cost:
    """Two parts side by side."""
    cache = folder / "parts"
    shutil.rmtree(cache, ignore_errors=True)
    began = time.time()
    found, cpu = run_sampled([[PART, str(videos), str(cache), str(part)] for part in (0, 1)], folder)
    end = max(end for _, end, _ in found)
    _check(count, sum(encoded for _, _, encoded in found))
    ready = [ready for ready, _, _ in found]
    return Cost(statistics.mean(ready) - began, sum(end - each for each in ready), cpu)


def run_ray(folder: Path, videos: Path, count: int, lease: int) -> Cost:
    """Two workers of a Ray of this machine."""
    cache = folder / "ray"
    shutil.rmtree(cache, ignore_errors=True)
    began = time.time()
    ((first, second, end, encoded),), cpu = run_sampled([[RAY, str(videos), str(cache), str(lease)]], folder)
    _check(count, encoded)
    return Cost((first + second) / 2 - began, 2 * end - first - second, cpu)


def _check(count: int, encoded: float) -> None:
    if encoded != count:
        raise SystemExit(f"{encoded:g} of {count} videos were encoded")


def measure_overhead(arguments: argparse.Namespace, folder: Path) -> None:
    """By wall time from the moment that workers are ready; and by CPU time of all processes, of which the start-up is what a
    fifth of the videos takes, extended to none. The latter hardly depends on what else the machine does."""
    few = max(1, arguments.videos // 5)
    lists = {count: link_videos(folder / str(count), count) for count in (few, arguments.videos)}
    print(
        f"{arguments.videos:,} videos x 8 frames, demo encoder, fp32, one thread; leases of {arguments.lease} at most"
    )
    print(f"{'':10}{'start-up s':>12}{'start-up CPU s':>16}{'worker s':>10}{'CPU ms a video':>16}")
    ratios: dict[str, list[float]] = {"worker seconds": [], "CPU seconds": []}
    for _ in range(arguments.rounds):
        slopes, walls = [], []
        for name in ("--part x 2", "Ray, 2"):
            costs = {
                count: run_ray(folder, videos, count, arguments.lease)
                if name.startswith("Ray")
                else run_parts(folder, videos, count)
                for count, videos in lists.items()
            }
            less, more = costs[few], costs[arguments.videos]
            slope = (more.cpu_seconds - less.cpu_seconds) / (arguments.videos - few)
            start = less.cpu_seconds - slope * few
            print(
                f"{name:10}{more.start_seconds:12.1f}{start:16.1f}{more.worker_seconds:10.1f}{1000 * slope:16.1f}",
                flush=True,
            )
            slopes.append(slope)
            walls.append(more.worker_seconds)
        ratios["worker seconds"].append(walls[1] / walls[0])
        ratios["CPU seconds"].append(slopes[1] / slopes[0])
    for name, found in ratios.items():
        spread = f" [{min(found):.2f}, {max(found):.2f}]" if len(found) > 1 else ""
        print(
            f"{name} of Ray over those of --part, median of {len(found)}: {statistics.median(found):.2f}{spread}"
        )


def workers(session: int) -> list[int]:
    """The processes of the actors of a command that have loaded the encoder: while they do, there is nothing to lose."""
    parents, _ = _processes()
    found = []
    for pid in parents:
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            loaded = title.startswith(b"ray::Worker") and not title.startswith(b"ray::Worker.load")
            if loaded and _descends(pid, {session}, parents):
                found.append(pid)
    return found


def measure_kills(arguments: argparse.Namespace, folder: Path) -> None:
    from vidclip.cache import FeatureCache, verify

    videos = link_videos(folder, arguments.videos)
    common = ["extract", str(videos), "--model", "demo", "--precision", "fp32"]
    vidclip = [sys.executable, "-m", "vidclip.cli.main"]
    subprocess.run([*vidclip, *common, "--cache", str(folder / "local"), "--device", "cpu", "--workers", "1"], check=True,
                   env=environment(folder), stdout=subprocess.DEVNULL)  # fmt: skip
    expected = FeatureCache(folder / "local")
    rng = random.Random(arguments.seed)
    kills = drivers = runs = 0
    wrong: list[str] = []
    while kills < arguments.kills:
        cache = folder / f"ray{runs}"
        runs += 1
        command = [
            *vidclip, *common, "--cache", str(cache), "--engine", "ray", "--gpus-per-worker", "0", "--cpus-per-worker", "1",
            "--max-workers", "2", "--lease", str(arguments.lease),
        ]  # fmt: skip
        status = None
        while status is None or status < 0:
            with subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, start_new_session=True) as process:  # fmt: skip
                for victim in victims(process, rng):
                    if kills >= arguments.kills:
                        break
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                        kills += 1
                        drivers += victim == process.pid
                        print(
                            f"kill {kills}: {'the command' if victim == process.pid else 'a worker'}",
                            flush=True,
                        )
                output = process.communicate()[0]
                status = process.returncode
        if status != 0:
            wrong.append(f"run {runs}: exit status {status}: {output.strip().splitlines()[-1]}")
            continue
        found = FeatureCache(cache)
        if failures := found.failures():
            wrong.append(f"run {runs}: {len(failures)} sound videos are called failed, such as {failures[0]}")
        elif found.ids != expected.ids or not np.array_equal(found.frames(), expected.frames()):
            wrong.append(f"run {runs}: other features than without a kill")
        elif problems := [problem for file in verify(cache) for problem in file.problems]:
            wrong.append(f"run {runs}: {problems[0]}")
        print(
            f"run {runs}: {kills} kills so far, {drivers} of them of the driver; {len(wrong)} wrong",
            flush=True,
        )
    print(
        f"{kills} kills ({kills - drivers} of workers, {drivers} of the driver) in {runs} runs of {arguments.videos} videos"
    )
    print("\n".join([*wrong, f"{len(wrong)} wrong"]))


def victims(process: subprocess.Popen[str], rng: random.Random) -> Iterator[int]:
    """Yield what to kill next, at random moments while leases are read: a worker, and in one of eight the command."""
    while process.poll() is None:
        if workers(process.pid):
            time.sleep(rng.uniform(0, 3))
            there = workers(process.pid)
            if there:
                yield process.pid if rng.random() < 1 / 8 else rng.choice(there)
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--overhead", action="store_true")
    what.add_argument("--kills", type=int, metavar="N")
    parser.add_argument("--videos", type=int, help="default: 2,000, and 200 with --kills")
    parser.add_argument("--lease", type=int, help="default: 512, and 16 with --kills")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.videos = arguments.videos or (200 if arguments.kills else 2000)
    arguments.lease = arguments.lease or (16 if arguments.kills else 512)
    with tempfile.TemporaryDirectory(prefix="vidclip-cluster-") as name:
        (measure_kills if arguments.kills else measure_overhead)(arguments, Path(name))


if __name__ == "__main__":
    main()
