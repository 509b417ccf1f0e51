"""What a Ray cluster costs on one machine, and whether kills change what it computes.

    python benchmarks/cluster.py --overhead              # two workers against two `--part`s, start-up apart
    python benchmarks/cluster.py --kills 20              # SIGKILL of random workers; every video is compared
    python benchmarks/cluster.py --poison                # a video that kills whatever reads it; the others are compared

All extract rendered videos of the demo with its encoder; 200 are rendered, and where more are asked for, copied with some
bytes more, so that no two have the same content. Needs Ray (pip install 'vidclip[ray]').
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import math
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vidclip.cache import FeatureCache

RENDERED = 200
EXTRACT = (sys.executable, "-m", "vidclip.cli.main", "extract")

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
print(min(ready.values()), ready.get(2, ended[0]), ended[0], summary.progress.encoded)
"""


POISON = """
import os, signal, sys
from pathlib import Path
import ray
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import EncoderRequest
from vidclip.pipeline.extraction import ExtractSettings, RaySettings, run_extraction
from vidclip.pipeline.extraction.ray_cluster import start_patiently
from vidclip.pipeline.video import Sampling
videos, cache, lease, poisoned = sys.argv[1:]
def poison():
    import vidclip.pipeline.extraction.plan as plan
    whole = plan.request_of
    def request_of(video, sampling):
        if video.id == poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(video, sampling)
    plan.request_of = request_of
start_patiently(ray, lambda: ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                                      runtime_env={"worker_process_setup_hook": poison}))
cluster = RaySettings(gpus_per_worker=0, cpus_per_worker=1, lease=int(lease), max_workers=2)
run_extraction(read_videos(videos), EncoderRequest("demo"), Path(cache), Sampling(8), ExtractSettings(), cluster=cluster,
               precision="fp32")
"""
"""Every worker ends, as by its memory, when it comes to that video."""


def save_videos(folder: Path, count: int) -> Path:
    """`count` videos below a folder, of which the first `RENDERED` are rendered. No two have the same content: behind the
    frames of the others is an unused box, with a number."""
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
        if number < len(originals):
            os.link(original, path)
        else:
            path.write_bytes(original.read_bytes() + struct.pack(">I4sI", 12, b"free", number))
    return videos


def environment(folder: Path) -> dict[str, str]:
    """One thread a worker on both sides, of one priority (Ray gives its own a low one); a HOME of its own, where Ray
    leaves a file."""
    return os.environ | {
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }


@dataclass
class Cost:
    """Of an extraction by two workers."""

    start_seconds: float
    """Until its workers were ready, on the average."""
    start_cpu: float
    """CPU seconds of all its processes until then."""
    worker_seconds: float
    """Wall time from there to the end of the last, of both."""
    worker_cpu: float
    """CPU seconds of the workers and the processes that decode for them, from there on."""
    other_cpu: float
    """CPU seconds of the command and of Ray's own processes, from there on."""


class Processes:
    """The CPU time of commands and all that descends from them, looked at ten times a second: Ray's processes are no children
    that are waited for."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = set(roots)
        self._seconds: dict[int, list[tuple[float, float]]] = {}
        self._parents: dict[int, int] = {}
        self.loaded: dict[int, float] = {}
        """The workers of Ray, and until when they have loaded their encoder."""

    def look(self) -> None:
        now = time.time()
        parents, seconds = _processes()
        for pid in parents:
            if not _descends(pid, self._roots, parents):
                continue
            self._parents.setdefault(pid, parents[pid])
            self._seconds.setdefault(pid, [(0.0, 0.0)]).append((now, seconds[pid]))
            title = _title(pid)
            if title.startswith((b"ray::Worker.load", b"ray::Worker.__init__")) or (
                title.startswith(b"ray::Worker") and pid not in self.loaded
            ):
                self.loaded[pid] = now

    def cpu(self, pids: Iterable[int], since: float = 0.0) -> float:
        """CPU seconds of some processes from a time on."""
        total = 0.0
        for pid in pids:
            before = bisect.bisect_right(self._seconds[pid], (since, math.inf)) - 1
            total += self._seconds[pid][-1][1] - self._seconds[pid][before][1]
        return total

    def below(self, pid: int) -> set[int]:
        """A process and those that descend from it."""
        return {each for each in self._seconds if _descends(each, {pid}, self._parents)}

    @property
    def all(self) -> set[int]:
        return set(self._seconds)


def run_sampled(commands: list[list[str]], folder: Path) -> tuple[list[list[float]], Processes]:
    """Run commands side by side; return the numbers that each prints last, and its processes, in the order of the commands."""
    jobs = [
        subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True, env=environment(folder))
        for command in commands
    ]  # fmt: skip
    processes = Processes([job.pid for job in jobs])
    while any(job.poll() is None for job in jobs):
        processes.look()
        time.sleep(0.1)
    printed = [job.communicate()[0].split() for job in jobs]
    if any(job.returncode for job in jobs):
        raise SystemExit("an extraction has failed")
    return [[job.pid, *map(float, words[-4:])] for job, words in zip(jobs, printed, strict=True)], processes


def _title(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


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
    found, processes = run_sampled([[PART, str(videos), str(cache), str(part)] for part in (0, 1)], folder)
    end = max(end for _, _, end, _ in found)
    _check(count, sum(encoded for *_, encoded in found))
    ready = [ready for _, ready, _, _ in found]
    cpu = sum(processes.cpu(processes.below(int(pid)), ready) for pid, ready, _, _ in found)
    start = processes.cpu(processes.all) - cpu
    return Cost(statistics.mean(ready) - began, start, sum(end - each for each in ready), cpu, 0.0)


def run_ray(folder: Path, videos: Path, count: int, lease: int) -> Cost:
    """Two workers of a Ray of this machine."""
    cache = folder / "ray"
    shutil.rmtree(cache, ignore_errors=True)
    began = time.time()
    ((_, first, second, end, encoded),), processes = run_sampled(
        [[RAY, str(videos), str(cache), str(lease)]], folder
    )
    _check(count, encoded)
    trees = {pid: processes.below(pid) for pid in processes.loaded}
    cpu = sum(processes.cpu(tree, processes.loaded[pid]) for pid, tree in trees.items())
    others = processes.cpu(processes.all.difference(*trees.values()), first)
    start = processes.cpu(processes.all) - cpu - others
    return Cost((first + second) / 2 - began, start, 2 * end - first - second, cpu, others)


def _check(count: int, encoded: float) -> None:
    if encoded != count:
        raise SystemExit(f"{encoded:g} of {count} videos were encoded")


def measure_overhead(arguments: argparse.Namespace, folder: Path) -> None:
    """By wall time from the moment that workers are ready; and by CPU time from there on, which hardly depends on what else
    the machine does: that of the workers for a video, and that of all else for a second."""
    count = arguments.videos
    videos = save_videos(folder, count)
    print(f"{count:,} videos x 8 frames, demo encoder, fp32, one thread; leases of {arguments.lease} at most")
    print(
        f"{'':10}{'start-up s':>12}{'its CPU s':>12}{'wall s':>10}{'workers: CPU ms a video':>25}{'others: CPU %':>15}"
    )
    ratios: dict[str, list[float]] = {"wall time": [], "CPU time of workers": [], "all CPU time": []}
    names = ["--part x 2", "Ray, 2"]
    for turn in range(arguments.rounds):
        found: dict[str, Cost] = {}
        for name in names if turn % 2 == 0 else reversed(names):
            cost = found[name] = (
                run_ray(folder, videos, count, arguments.lease)
                if name.startswith("Ray")
                else run_parts(folder, videos, count)
            )
            wall = cost.worker_seconds / 2
            print(
                f"{name:10}{cost.start_seconds:12.1f}{cost.start_cpu:12.1f}{wall:10.1f}"
                f"{1000 * cost.worker_cpu / count:25.1f}{100 * cost.other_cpu / wall:15.1f}",
                flush=True,
            )
        parts, ray = (found[name] for name in names)
        ratios["wall time"].append(ray.worker_seconds / parts.worker_seconds)
        ratios["CPU time of workers"].append(ray.worker_cpu / parts.worker_cpu)
        ratios["all CPU time"].append((ray.worker_cpu + ray.other_cpu) / parts.worker_cpu)
    for name, each in ratios.items():
        spread = f" [{min(each):.2f}, {max(each):.2f}]" if len(each) > 1 else ""
        print(
            f"{name} of Ray over that of --part, median of {len(each)}: {statistics.median(each):.2f}{spread}"
        )


def workers(session: int) -> list[int]:
    """The processes of the actors of a command that have loaded the encoder: while they do, there is nothing to lose."""
    parents, _ = _processes()
    found = []
    for pid in parents:
        with contextlib.suppress(OSError):
            title = _title(pid)
            loaded = title.startswith(b"ray::Worker") and not title.startswith(b"ray::Worker.load")
            if loaded and _descends(pid, {session}, parents):
                found.append(pid)
    return found


def extract_locally(folder: Path, videos: Path) -> FeatureCache:
    """What a run on this machine, with nothing killed, finds."""
    from vidclip.cache import FeatureCache

    cache = folder / "local"
    command = [*EXTRACT, str(videos), "--model", "demo", "--precision", "fp32", "--cache", str(cache)]
    subprocess.run([*command, "--device", "cpu", "--workers", "1"], check=True, env=environment(folder),
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return FeatureCache(cache)


def difference(folder: Path, expected: FeatureCache, *, without: Sequence[str] = ()) -> str:
    """Say what is wrong with a cache; nothing where it holds the same bits of all videos but some, which failed."""
    from vidclip.cache import FeatureCache, verify

    found = FeatureCache(folder)
    failures = found.failures()
    rows = [row for row, id in enumerate(expected.ids) if id not in without]
    if called := [failure for failure in failures if failure.id not in without]:
        return f"{len(called)} sound videos are called failed, such as {called[0]}"
    if len(failures) != len(without):
        return f"{len(failures)} of {len(without)} failures are named"
    if found.ids != [expected.ids[row] for row in rows]:
        return f"{len(found)} videos, where {len(rows)} should be"
    for name in ("frames", "frame_indices", "timestamps"):
        if not np.array_equal(getattr(found, name)(), getattr(expected, name)(rows)):
            return f"other {name} than of a run on this machine"
    return next((problem for file in verify(folder) for problem in file.problems), "")


def measure_poison(arguments: argparse.Namespace, folder: Path) -> None:
    videos = save_videos(folder, arguments.videos)
    expected = extract_locally(folder, videos)
    poisoned = random.Random(arguments.seed).choice(expected.ids)
    words = [POISON, str(videos), str(folder / "ray"), str(arguments.lease), poisoned]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", *words], stderr=subprocess.PIPE, text=True, env=environment(folder))  # fmt: skip
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    wrong = difference(folder / "ray", expected, without=[poisoned])
    print(f"{len(expected)} videos, one of which kills its worker; {seconds:.0f} s")
    if wrong:
        raise SystemExit(wrong)
    print(
        f"{len(expected) - 1} have the same bits as without it; called failed: {poisoned}, which it is, alone"
    )


def measure_kills(arguments: argparse.Namespace, folder: Path) -> None:
    videos = save_videos(folder, arguments.videos)
    expected = extract_locally(folder, videos)
    rng = random.Random(arguments.seed)
    kills = drivers = runs = 0
    wrong: list[str] = []
    while kills < arguments.kills:
        cache = folder / f"ray{runs}"
        runs += 1
        command = [
            *EXTRACT, str(videos), "--model", "demo", "--precision", "fp32", "--cache", str(cache), "--engine", "ray",
            "--gpus-per-worker", "0", "--cpus-per-worker", "1", "--max-workers", "2", "--lease", str(arguments.lease),
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
        if problem := difference(cache, expected):
            wrong.append(f"run {runs}: {problem}")
        print(
            f"run {runs}: {kills} kills so far, {drivers} of them of the driver; {len(wrong)} wrong",
            flush=True,
        )
    print(
        f"{kills} kills ({kills - drivers} of workers, {drivers} of the driver) in {runs} runs of {arguments.videos} videos"
    )
    print("\n".join([*wrong, f"{len(wrong)} wrong"]))
    if wrong:
        raise SystemExit(1)


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
    what.add_argument("--poison", action="store_true")
    parser.add_argument("--videos", type=int, help="default: 2,000 with --overhead, else 200")
    parser.add_argument("--lease", type=int, help="default: 512 with --overhead, else 16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.videos = arguments.videos or (2000 if arguments.overhead else 200)
    arguments.lease = arguments.lease or (512 if arguments.overhead else 16)
    measure = measure_poison if arguments.poison else measure_kills if arguments.kills else measure_overhead
    with tempfile.TemporaryDirectory(prefix="vidclip-cluster-") as name:
        measure(arguments, Path(name))


if __name__ == "__main__":
    main()
