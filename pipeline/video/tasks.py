"""What the threads of a pool share: videos that wait, results that are ready, slots that are free."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from .request import Decoded, DecodeFailure, VideoRequest


@dataclass
class Task:
    """A video on its way through a pool."""

    index: int
    request: VideoRequest
    run: int
    """Which call of `decode` it belongs to."""
    decoder: str
    slot: int = -1
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(stage, reason) of each worker that was lost over it."""


class TaskBoard:
    """Tasks, results and free slots, written by the caller of a pool and by its scheduler.

    All attributes are guarded by `changed`, which also tells of results, free slots, an error and the end.
    """

    def __init__(self, n_slots: int) -> None:
        self.changed = threading.Condition()
        self.free = list(range(n_slots))
        self.waiting: deque[Task] = deque()
        self.results: dict[int, Decoded | DecodeFailure] = {}
        self.closed = False
        self.error: BaseException | None = None
        self.wake_read, self._wake_write = os.pipe()
        """Readable when the scheduler has something to do."""
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._run = 0
        self._active = False

    @contextlib.contextmanager
    def run(self) -> Iterator[int]:
        """Start a call of `decode` and yield its number; in the end, drop what it left undone."""
        with self.changed:
            if self.closed:
                raise RuntimeError("This DecodePool is closed")
            if self._active:
                raise RuntimeError("This DecodePool is decoding already: one call of decode() at a time")
            self._active = True
            self._run += 1
        try:
            yield self._run
        finally:
            with self.changed:
                self._active = False
                self._run += 1
                self.waiting.clear()
                for result in self.results.values():
                    result.release()
                self.results.clear()

    def submit(self, task: Task) -> None:
        with self.changed:
            self.waiting.append(task)
            self.wake()

    def take(self) -> Task | None:
        """Return the next task, with a slot; None where no task waits, or no slot is free."""
        with self.changed:
            if not self.waiting or (self.waiting[0].slot < 0 and not self.free):
                return None
            task = self.waiting.popleft()
            if task.slot < 0:
                task.slot = self.free.pop()
            return task

    def put_back(self, task: Task) -> None:
        """Let a task be taken again, before all others."""
        with self.changed:
            if task.run == self._run:
                self.waiting.appendleft(task)
            else:
                self.free.append(task.slot)

    def finish(self, task: Task, result: Decoded | DecodeFailure) -> None:
        with self.changed:
            if task.run == self._run:
                self.results[task.index] = result
                self.changed.notify_all()
            else:
                result.release()

    def free_slot(self, slot: int) -> None:
        with self.changed:
            self.free.append(slot)
            self.wake()

    def fail(self, error: BaseException) -> None:
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            self.wake()

    def wake(self) -> None:
        """Wake the scheduler. Called with `changed` held."""
        if self._wake_write >= 0:
            with contextlib.suppress(BlockingIOError):  # full of wake-ups that are still unread
                os.write(self._wake_write, b"x")

    def close_pipe(self) -> None:
        with self.changed:  # a late release() must not write into somebody else's file
            os.close(self.wake_read)
            os.close(self._wake_write)
            self._wake_write = -1
