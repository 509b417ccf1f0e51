"""SIGKILL at random moments, the same command again, and the result compared with that of an unbroken run, bit by bit.

Half of the kills come at a random time of the work; the other half right before a random one of its file operations
(open for writing, rename, remove, make a folder), which is where a run has something to lose. One extraction in eight
is a `vidclip` started afresh, the others are forked from a process that has imported it.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fixtures import World, contents, difference, write_list
from harness import Limits, Trial, vidclip, watched

MERGED_VIDEOS = 2500
"""Of each merged cache: so many that a merge writes several shards."""


@dataclass
class Scenario:
    """Something that is interrupted."""

    name: str
    prepare: Callable[[Path], None]
    """Puts what it needs into an empty folder."""
    steps: tuple[Callable[[], object], ...]
    """What runs, in the folder, side by side where there are several; run again, it must go on."""
    result: Callable[[Path], Any]
    """What must be the same after a kill and another start."""
    statuses: tuple[int, ...] = (0,)
    command: tuple[str, ...] = ()
    """The same as a command line of vidclip, where it can be started afresh too."""
    check: tuple[str, ...] = ()
    """A command that must find nothing wrong with what a kill has left."""
    seconds: float = 0.0
    operations: list[int] = field(default_factory=list)
    expected: Any = None
    """The three of an unbroken run; `operations` of each step."""


def scenarios(world: World, folder: Path) -> list[Scenario]:
    """All that is interrupted; `folder` keeps what several of them start from."""
    root = ("--root", str(world.videos))
    extract = ("extract", str(world.list), *root, "--allow-missing", "--cache", "cache", *world.encoder)
    relabeled = write_list(
        folder / "relabeled.csv", [(name, label[::-1], "val") for name, label, _ in world.rows()]
    )
    sources = _merge_sources(folder)
    return [
        Scenario("extract", _nothing, (_command(*extract),), _cache, (0, 1), extract, ("verify",)),
        Scenario(
            "extract, a shard a video", _nothing, (lambda: _extract_small_shards(world),), _cache, (0, 1),
            check=("verify",),
        ),
        Scenario(
            "extract, two parts at once", _nothing,
            tuple(_command(*extract, "--part", f"{part}/2") for part in (0, 1)), _cache, (0, 1),
            check=("verify",),
        ),
        Scenario(
            "extract, another list", lambda to: _copy(world, to),
            (_command("extract", relabeled, *root, *extract[4:]),), _cache, (0, 1), check=("verify",),
        ),
        Scenario(
            "extract, changed videos", lambda to: _change_videos(world, to),
            (_command(*extract[:2], "--root", "videos", *extract[4:], "--changed", "replace"),), _cache_alone, (0, 1), check=("verify",),
        ),
        Scenario(
            "merge", _nothing, (_command("merge", *sources, "--output", "cache"),), _cache, check=("verify",)
        ),
        Scenario(
            "merge into a cache", lambda to: _copy(world, to),
            (_command("merge", world.folder / "sibling", "--output", "cache"),), _cache, check=("verify",),
        ),
        Scenario(
            "attributes", lambda to: _copy(world, to, texts=False),
            (_command("attributes", "--cache", "cache", "--lexicon", "demo", "--json", "result.json"),), _texts, check=("verify",),
        ),
        Scenario(
            "eval", lambda to: _copy(world, to, texts=False),
            (_command("eval", "--cache", "cache", "--prompt", "clip-kinetics", "--json", "result.json"),), _texts,
            check=("verify",),
        ),
        Scenario(
            "fit", lambda to: _copy(world, to),
            (_command("fit", "--cache", "cache", "--classifier", "text", "--epochs", "5", "--output", "head.safetensors"),),
            _head, check=("eval", "--head", "head.safetensors"),
        ),
    ]  # fmt: skip


def measure(scenario: Scenario, unbroken: Path) -> None:
    """Runs a scenario in an empty folder without a kill, if that has not been done, and keeps what it gives."""
    if scenario.operations:
        return
    unbroken.mkdir()
    scenario.prepare(unbroken)
    for step in scenario.steps:
        counter = _Counter()
        done = watched(step, folder=unbroken, killed=counter, limits=Limits(300))
        if done.complaint or done.status not in scenario.statuses:
            raise RuntimeError(f"{scenario.name}: {done.status} {done.stdout} {done.stderr}")
        scenario.seconds = max(scenario.seconds, done.seconds)
        scenario.operations.append(counter.value)
    scenario.expected = scenario.result(unbroken)


def case(scenarios: list[Scenario], rng: random.Random, folder: Path, limits: Limits) -> Iterator[Trial]:
    """One scenario, killed one to three times, and then left to end."""
    scenario = rng.choice(scenarios)
    measure(scenario, folder / "unbroken")
    work = folder / "work"
    work.mkdir()
    scenario.prepare(work)
    fresh = bool(scenario.command) and rng.random() < 1 / 8
    name = f"{scenario.name}, started afresh" if fresh else scenario.name
    kills = 0
    wrong = ""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if fresh:
            kills += _kill_fresh(scenario.command, work, rng)
        else:
            kills += _kill(scenario, work, rng)
        wrong = wrong or _left_behind(scenario, work, limits)
    for step in scenario.steps:
        done = watched(step, folder=work, limits=limits)
        if done.complaint or done.status not in scenario.statuses:
            wrong = wrong or f"started again: {done.complaint or done.last_line}"
    if not wrong:
        try:
            wrong = difference(scenario.result(work), scenario.expected)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
    if not wrong and (rest := sorted(path.name for path in work.rglob("*.tmp"))):
        wrong = f"temporary files stay: {', '.join(rest[:3])}"
    if kills:
        yield Trial(name, "killed", weight=kills)
    yield Trial(name, "wrong" if wrong else "the same bits", f"after {kills} kills, {wrong}" if wrong else "")


def _left_behind(scenario: Scenario, work: Path, limits: Limits) -> str:
    """What is wrong with what a kill has left; empty where nothing is, or nothing is there."""
    from vidclip.cache import FeatureCache

    needed = scenario.check[-1] if len(scenario.check) > 1 else "cache/cache.json"
    if not (work / needed).exists():
        return ""
    done = vidclip(*scenario.check, "--cache", "cache", folder=work, limits=limits)
    if done.complaint or done.status:
        return f"what the kill left: {done.complaint or done.last_line}"
    FeatureCache(work / "cache")
    return ""


class _Trap:
    """Kills its process right before the n-th file operation. Called in that process."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self) -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if _changes_files(event, arguments):
                self.left -= 1
                if self.left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)


class _Counter:
    """Counts the file operations of a forked process, in memory shared with it."""

    def __init__(self) -> None:
        self._memory = np.frombuffer(mmap.mmap(-1, 8), np.int64)

    @property
    def value(self) -> int:
        return int(self._memory[0])

    def __call__(self) -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if _changes_files(event, arguments):
                self._memory[0] += 1

        sys.addaudithook(hook)


def _changes_files(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate", "os.utime")


def _kill(scenario: Scenario, work: Path, rng: random.Random) -> int:
    """All steps are started, and each is killed; returns how many were killed before they ended."""
    if len(scenario.steps) == 1:
        return _kill_step(scenario.steps[0], scenario, scenario.operations[0], work, rng)
    children = []
    for step, operations in zip(scenario.steps, scenario.operations, strict=True):
        draw = random.Random(rng.random())
        child = os.fork()
        if child == 0:
            os._exit(_kill_step(step, scenario, operations, work, draw))
        children.append(child)
    return sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def _kill_step(
    step: Callable[[], object], scenario: Scenario, operations: int, work: Path, rng: random.Random
) -> int:
    if rng.random() < 0.5:
        done = watched(step, folder=work, killed=_Trap(rng.randrange(max(1, operations))))
    else:
        done = watched(step, folder=work, kill_after=rng.uniform(0, scenario.seconds))
    return int(done.status == -signal.SIGKILL)


def _kill_fresh(command: tuple[str, ...], work: Path, rng: random.Random) -> int:
    with subprocess.Popen(
        [sys.executable, "-c", "from vidclip.cli.main import main; main()", *command],
        cwd=work,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        # The imports take a few seconds, and leave nothing behind: wait for the first trace of work.
        until = time.monotonic() + 60
        while process.poll() is None and not (work / "cache").exists() and time.monotonic() < until:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 2))
        process.kill()
    return int(process.returncode == -signal.SIGKILL)


# ---- what is prepared, done and compared


def _nothing(_: Path) -> None:
    pass


def _copy(world: World, to: Path, *, texts: bool = True) -> None:
    cache = world.copy_cache("cache", to / "cache")
    for path in [] if texts else [*cache.glob("text-*"), *cache.glob("attributes-*")]:
        path.unlink()


def _command(*arguments: object) -> Callable[[], object]:
    def step() -> None:
        from vidclip.cli.main import main

        main(args=[*map(str, arguments)], prog_name="vidclip")

    return step


def _extract_small_shards(world: World) -> None:
    """As `vidclip extract`, but every video is written at once."""
    from vidclip.pipeline.datasets import read_videos
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import ExtractSettings, extract
    from vidclip.pipeline.video import Sampling

    videos = read_videos(world.list, root=world.videos, allow_missing=True)
    settings = ExtractSettings(workers=1, shard_seconds=0)
    extract(videos, load_encoder("demo", device="cpu"), "cache", Sampling(frames=4), settings)


def _merge_sources(folder: Path) -> list[Path]:
    """Two caches with so many videos that their union takes several shards; a third of the videos is in both."""
    from vidclip.cache import CacheWriter, Identity, VideoRecord

    rng = np.random.default_rng(0)
    frames = rng.standard_normal((2, MERGED_VIDEOS, 1, 4, 16), np.float32)
    paths = []
    for source in range(2):
        paths.append(folder / f"source-{source}")
        with CacheWriter(paths[-1], Identity({"dimension": 16}, {"frames": 4}, "campaign")) as writer:
            for number in range(MERGED_VIDEOS):
                name = f"video{number + source * 2 * MERGED_VIDEOS // 3:05}.mp4"
                writer.add(
                    VideoRecord(
                        id=name,
                        path=f"/videos/{name}",
                        frames=frames[source, number],
                        frame_indices=np.arange(4)[None],
                        timestamps=np.arange(4)[None] / 12,
                        labels=(f"label{number % 7}",),
                    )
                )
    return paths


def _change_videos(world: World, to: Path) -> None:
    """The cache, and other videos of the same names in the place of those it was made of."""
    _copy(world, to)
    videos = [name for name, _, _ in world.rows() if (world.videos / name).exists()]
    for name, other in zip(videos, [*videos[1:], videos[0]], strict=True):
        (to / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(world.videos / other, to / "videos" / name)


def _cache_alone(work: Path) -> dict[str, Any]:
    """A cache, wherever it lies."""
    return contents(work / "cache", source=False)


def _cache(work: Path) -> dict[str, Any]:
    return contents(work / "cache")


def _texts(work: Path) -> dict[str, Any]:
    """A cache, and a result."""
    return contents(work / "cache") | {"result": (work / "result.json").read_bytes()}


def _head(work: Path) -> dict[str, Any]:
    head = hashlib.sha256((work / "head.safetensors").read_bytes()).hexdigest()
    return contents(work / "cache") | {"head": head}
