"""Runs vidclip in processes that are watched, and counts what came of it.

The program is imported once; each command runs in a process forked from there, with a limit of time and of address
space of its own. It is the same code that `vidclip` runs, without the seconds that importing torch takes.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
LARGEST_FILE = GIB // 4
"""What a command may write into one file: a campaign that goes wrong must not fill a disk."""
FORGOTTEN = ("VIDCLIP_",)
"""Variables of the environment that begin like this are not handed on."""


@dataclass(frozen=True)
class Limits:
    """What one command may take."""

    seconds: float = 60.0
    extra_bytes: int = 2 * GIB
    """Of address space, beyond what the imported program has."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    """Its exit status, or the negative number of the signal that killed it."""
    stdout: str
    stderr: str
    seconds: float
    hung: bool
    """Whether it was killed because its time was up."""
    grown_bytes: int
    """How much more memory it, or a process that it started, held than the imported program."""

    @property
    def complaint(self) -> str:
        """Why no command may ever end like this; empty where it may."""
        if self.hung:
            return f"hangs: no end after {self.seconds:.0f} s"
        if self.status < 0:
            return f"killed by signal {-self.status}: {self.last_line}"
        text = self.stdout + self.stderr
        if "Traceback (most recent call last)" in text:
            return f"traceback: {self.last_line}"
        if "fault of vidclip" in text or "please report it" in text:
            return "takes it for a fault of its own: " + next(
                line for line in text.splitlines() if "unexpected" in line or "report it" in line
            )
        if self.status not in (0, 1, 2, 130):
            return f"exit status {self.status}: {self.last_line}"
        if self.status == 2 and not self.stderr.strip():
            return "exit status 2 without a word"
        if any(ord(character) < 32 and character not in "\n\t\r" for character in text):
            return "control characters reach the terminal"
        return ""

    @property
    def last_line(self) -> str:
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else "(nothing on standard error)"


@dataclass(frozen=True)
class Trial:
    """One thing that was tried."""

    what: str
    """The row of the table it counts in."""
    outcome: str
    """The column: refused, the same result, ..."""
    wrong: str = ""
    """What was wrong, in words; empty where nothing was."""
    weight: int = 1


def warm_up() -> None:
    """Import all that a command may need, and start no thread: the process will be forked."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "MPLBACKEND": "Agg",
    }
    for name in [name for name in os.environ if name.startswith(FORGOTTEN)]:
        del os.environ[name]
    import torch

    torch.set_num_threads(1)
    for name in ("av", "faiss", "h5py", "matplotlib.figure", "open_clip", "sklearn.linear_model"):
        importlib.import_module(name)
    from vidclip.cli.main import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"vidclip.cli.commands.{name.replace('-', '_')}")
    for name in (
        "encoders.load",
        "evaluation.few_shot",
        "evaluation.prediction",
        "heads.checkpoint",
        "report.plots",
    ):
        importlib.import_module(f"vidclip.pipeline.{name}")


def vidclip(
    *arguments: object,
    folder: Path,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    killed: Callable[[], None] | None = None,
    kill_after: float | None = None,
) -> Outcome:
    """Run a command of vidclip in `folder`; see `watched`."""

    def work() -> None:
        from vidclip.cli.main import main

        main(args=[str(argument) for argument in arguments], prog_name="vidclip")

    return watched(
        work, folder=folder, limits=limits, environment=environment, killed=killed, kill_after=kill_after
    )


def watched(
    work: Callable[[], object],
    *,
    folder: Path,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    killed: Callable[[], None] | None = None,
    kill_after: float | None = None,
) -> Outcome:
    """Run `work` in a forked process of its own.

    killed      is called in that process first: it may set a trap that kills it
    kill_after  seconds after which the process is killed with SIGKILL; its workers are left to notice
    """
    limits = limits or Limits()
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [folder / f".{name}.{os.getpid()}" for name in ("stdout", "stderr")]
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(work, folder, outputs, limits, environment or {}, killed)
    allowed = limits.seconds if kill_after is None else min(kill_after, limits.seconds)
    ended = _wait(child, allowed)
    if not ended:
        if kill_after is None:  # with all that it has started
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - began
    texts = []
    for path in outputs:
        texts.append(path.read_bytes()[:2_000_000].decode("utf-8", "replace") if path.exists() else "")
        path.unlink(missing_ok=True)
    return Outcome(
        os.waitstatus_to_exitcode(status),
        texts[0],
        texts[1],
        seconds,
        hung=not ended and kill_after is None,
        grown_bytes=1024 * usage.ru_maxrss - own_bytes(),
    )


def _wait(child: int, seconds: float) -> bool:
    """Whether the process has ended by then; it is not reaped."""
    if hasattr(os, "pidfd_open"):
        descriptor = os.pidfd_open(child)
        try:
            return bool(select.select([descriptor], [], [], seconds)[0])
        finally:
            os.close(descriptor)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            return True
        time.sleep(0.005)
    return False


def _run(
    work: Callable[[], object],
    folder: Path,
    outputs: list[Path],
    limits: Limits,
    environment: Mapping[str, str],
    killed: Callable[[], None] | None,
) -> None:
    """In the forked process: never returns."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for descriptor, path in zip((1, 2), outputs, strict=True):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
            os.close(file)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        os.chdir(folder)
        os.environ |= environment
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        if limits.extra_bytes:
            space = virtual_bytes() + limits.extra_bytes
            resource.setrlimit(resource.RLIMIT_AS, (space, space))
        if killed:
            killed()
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        status = 1
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def own_bytes() -> int:
    """Memory of this process that is in RAM."""
    return int(_statm()[1]) * resource.getpagesize()


def virtual_bytes() -> int:
    return int(_statm()[0]) * resource.getpagesize()


def _statm() -> list[str]:
    try:
        return Path("/proc/self/statm").read_text().split()
    except OSError:  # not Linux: no limit of memory is meant then, and none is reached
        return ["1000000000", "1000000000"]


# ---- many cases


Case = Callable[[random.Random, Path], Iterable[Trial]]
"""Does one thing with a folder of its own, which is gone afterwards."""


@dataclass(frozen=True)
class Settings:
    """How a campaign runs."""

    seed: int
    jobs: int
    work: Path
    limits: Limits
    keep: bool = False
    """Leave the folders of cases in which something was wrong."""
    only: int | None = None
    """The number of the one case to run."""


def run_cases(kind: str, case: Case, count: int, settings: Settings) -> list[Trial]:
    """Run `count` cases, each from a seed of its own; what was wrong names the case."""
    numbers = range(count) if settings.only is None else [settings.only]
    trials: list[Trial] = []

    def one(number: int) -> list[Trial]:
        folder = settings.work / kind / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rng = random.Random(f"{settings.seed}/{kind}/{number}")
        found: list[Trial] = []
        try:
            found.extend(case(rng, folder))
        except Exception:  # a fault of the campaign must not pass for none
            reason = traceback.format_exc().strip().replace("\n", " | ")[-600:]
            found.append(Trial("(the campaign itself)", "failed", reason))
        named = [
            Trial(t.what, t.outcome, f"{kind} {number}: {t.what}: {t.wrong}" if t.wrong else "", t.weight)
            for t in found
        ]
        if not (settings.keep and any(trial.wrong for trial in named)):
            shutil.rmtree(folder, ignore_errors=True)
        return named

    global _one
    _one = one
    if settings.jobs == 1 or len(numbers) < 2:
        for number in numbers:
            trials += one(number)
    else:
        with multiprocessing.get_context("fork").Pool(settings.jobs) as pool:
            for found in pool.imap_unordered(_call_one, numbers):
                trials += found
    return trials


_one: Callable[[int], list[Trial]]


def _call_one(number: int) -> list[Trial]:
    return _one(number)


def report(title: str, trials: list[Trial], seconds: float) -> Iterator[str]:
    """Lines of a table: what was tried, and what came of it; then what was wrong."""
    outcomes = list(dict.fromkeys(trial.outcome for trial in sorted(trials, key=lambda t: t.outcome)))
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        rows[trial.what][trial.outcome] += trial.weight
    total = sum(trial.weight for trial in trials)
    wrong = [trial.wrong for trial in trials if trial.wrong]
    yield f"{title}: {total:,} tried in {seconds:.0f} s, {len(wrong)} wrong"
    width = max([len(what) for what in rows], default=0)
    yield f"  {'':{width}}  " + "  ".join(outcomes)
    for what, counts in sorted(rows.items()):
        yield f"  {what:{width}}  " + "  ".join(f"{counts[name] or '':>{len(name)}}" for name in outcomes)
    sums = [sum(counts[name] for counts in rows.values()) for name in outcomes]
    yield f"  {'all':{width}}  " + "  ".join(
        f"{n:>{len(name)}}" for n, name in zip(sums, outcomes, strict=True)
    )
    for line in wrong:
        yield f"  WRONG  {line}"
