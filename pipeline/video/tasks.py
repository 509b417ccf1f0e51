"""What the threads of a pool share: videos that wait, results that are ready, slots that are free."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from .request import Decoded, DecodeFailure, VideoRequest


@dataclass
class Task:
    """A video on its way through a pool."""

    index: int
    request: VideoRequest
    run: int
    """Which call of `decode` it belongs to."""
    slot: int = -1


class TaskBoard:
    """Tasks, results and free slots, written by the caller of a pool and by the threads of its workers.

    All attributes are guarded by `changed`, which is notified of every change.
    """

    def __init__(self, n_slots: int) -> None:
        self.changed = threading.Condition()
        self.free = list(range(n_slots))
        self.waiting: deque[Task] = deque()
        self.busy = 0
        """Tasks that are taken and not finished."""
        self.results: dict[int, Decoded | DecodeFailure] = {}
        self.closed = False
        self.error: BaseException | None = None
        self._run = 0
        self._active = False

    @contextlib.contextmanager
    def run(self) -> Iterator[int]:
        """Start a call of `decode` and yield its number; at the end of it, drop what it left undone."""
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
            self.changed.notify_all()

    def take(self) -> Task | None:
        """Wait for a task and for a slot for it; return None when the board is closed."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or (self.waiting and self.free))
            if self.closed:
                return None
            task = self.waiting.popleft()
            task.slot = self.free.pop()
            self.busy += 1
            return task

    def finish(self, task: Task, result: Decoded | DecodeFailure) -> None:
        with self.changed:
            self.busy -= 1
            if isinstance(result, DecodeFailure):
                self.free_slot(task.slot)
            if task.run == self._run:
                self.results[task.index] = result
            else:
                result.release()
            self.changed.notify_all()

    def free_slot(self, slot: int) -> None:
        with self.changed:
            self.free.append(slot)
            self.changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Close the board; or, with an error, end the run with it."""
        with self.changed:
            self.closed = self.closed or error is None
            self.error = error or self.error
            self.changed.notify_all()
