"""How far an extraction is, on standard error: a bar where that is a terminal, else a line now and then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .messages import is_quiet
from .output import console, duration

if TYPE_CHECKING:
    from ..pipeline.extraction import Progress as Extraction

LINE_SECONDS = 30.0
"""How often a line says where an extraction stands, where standard error is no terminal."""


class ProgressDisplay:
    """Shows the progress that it is called with.

    beginning    what is shown before the first call
    """

    def __init__(self, beginning: str) -> None:
        screen = console(err=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=screen,
            disable=is_quiet() or not screen.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(beginning, total=None, rate="", state="")
        self._lines = None if is_quiet() or screen.is_terminal else _Lines()

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._lines:
            self._lines.stop()

    def __call__(self, progress: Extraction) -> None:
        if self._lines:
            self._lines.start(progress)
            return
        state = f"bottleneck: {progress.bottleneck}" if progress.seconds > 5 else ""
        if progress.failed:
            state = f"{progress.failed:,} failed  {state}"
        if progress.workers:
            state = f"{_workers(progress.workers)}  {state}"
        self._bar.update(
            self._task,
            description=f"{progress.done:,}/{progress.listed:,} videos",
            total=progress.listed,
            completed=progress.done,
            rate=f"{progress.encoded / max(progress.seconds, 1e-9):.1f}/s",
            state=state,
        )


class _Lines:
    """A line for the log file as soon as it is known what there is to do, and one every `LINE_SECONDS` from then on,
    also where nothing comes back from the decoders."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def start(self, progress: Extraction) -> None:
        if self._thread is None and progress.done < progress.listed:
            click.echo(progress_line(progress), err=True)
            self._thread = threading.Thread(
                target=self._run, args=(progress,), name="vidclip-lines", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()

    def _run(self, progress: Extraction) -> None:
        while not self._ended.wait(LINE_SECONDS):
            click.echo(progress_line(progress), err=True)


def progress_line(progress: Extraction) -> str:
    """`0:30: 1,200 of 10,000 videos, 39.2 videos/s, 3:44 left, 2 failed`."""
    parts = [f"{progress.done:,} of {progress.listed:,} videos"]
    read = progress.encoded + progress.failed
    if read:
        rate = read / max(progress.seconds, 1e-9)
        parts.append(f"{rate:.1f} videos/s")
        parts.append(f"{duration((progress.listed - progress.done) / rate)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.workers:
        parts.append(_workers(progress.workers))
    return f"{duration(progress.seconds)}: {', '.join(parts)}"


def _workers(workers: tuple[int, int]) -> str:
    return f"{workers[0]:,} of {workers[1]:,} workers"
