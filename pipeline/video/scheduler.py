"""The thread of a pool: it starts workers, hands videos to them, and watches their time."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import threading
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

from .request import Decoded, DecodeFailure
from .shared_memory import map_slots
from .tasks import Task, TaskBoard
from .worker import WorkerProcess

START_SECONDS = 120.0
"""How long a worker may take to start: it imports numpy and the decoders, perhaps from a slow disk."""
FAILED_STARTS = 3
"""So many workers that end before they are ready, one after the other, end the run."""
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|bad_array_new_length|MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|[Ii]nsufficient memory"
)
"""What a process that got no memory writes last."""


class DecodeWorkerError(RuntimeError):
    """Worker processes cannot be started: nothing is wrong with the videos."""


@dataclass(eq=False)
class _WorkerSlot:
    """A place for a worker, with what its present holder does."""

    worker: WorkerProcess
    deadline: float
    ready: bool = False
    task: Task | None = None


class Scheduler(threading.Thread):
    """Gives the tasks of a board to worker processes, until the board is closed."""

    def __init__(
        self,
        board: TaskBoard,
        memory: BinaryIO,
        setup: dict[str, Any],
        *,
        n_workers: int,
        timeout_seconds: float,
        memory_gib: float | None,
    ) -> None:
        """
        memory  shared with the workers: slots for pixels
        setup   the first message to a worker, see `worker.main`
        """
        super().__init__(name="vidclip-decode", daemon=True)
        self._board, self._memory, self._setup = board, memory, setup
        self._pixels = map_slots(memory.fileno(), setup["slots"])
        self._n_workers, self._timeout_seconds = n_workers, timeout_seconds
        self._too_much = (
            "needs more memory to decode than there is"
            if memory_gib is None
            else f"needs more than {memory_gib} GiB to decode; --worker-memory raises the limit"
        )
        self._slots: list[_WorkerSlot] = []
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0

    @property
    def busy(self) -> bool:
        """Whether a worker has a video."""
        return any(slot.task is not None for slot in self._slots)

    def run(self) -> None:
        try:
            with self._selector as selector:
                selector.register(self._board.wake_read, selectors.EVENT_READ)
                while not self._board.closed:
                    self._dispatch()
                    deadline = min((slot.deadline for slot in self._slots), default=float("inf"))
                    for key, _ in selector.select(max(0.0, min(deadline - time.monotonic(), 60.0))):
                        slot = key.data
                        if slot is None:
                            os.read(self._board.wake_read, 1 << 16)
                        elif slot not in self._slots:
                            continue  # lost just now
                        elif key.fd == slot.worker.stderr:
                            if not slot.worker.read_stderr():
                                selector.unregister(slot.worker.stderr)
                        else:
                            self._on_reply(slot)
                    for slot in [slot for slot in self._slots if time.monotonic() > slot.deadline]:
                        self._retire(slot, gone=False)
        except BaseException as error:
            self._board.fail(error)
        finally:
            for slot in self._slots:
                slot.worker.end(gone=False)
            self._slots.clear()

    def _dispatch(self) -> None:
        """Start workers while there are more videos than those, and give waiting videos to idle workers."""
        busy = sum(slot.task is not None for slot in self._slots)
        while len(self._slots) < min(self._n_workers, busy + len(self._board.waiting)):
            try:
                worker = WorkerProcess(self._memory.fileno(), self._setup)
            except OSError as error:
                raise DecodeWorkerError(f"No process that decodes videos can be started: {error}") from error
            slot = _WorkerSlot(worker, time.monotonic() + START_SECONDS)
            self._slots.append(slot)
            self._selector.register(worker.replies, selectors.EVENT_READ, slot)
            self._selector.register(worker.stderr, selectors.EVENT_READ, slot)
        for slot in self._slots:
            if slot.ready and slot.task is None:
                task = self._board.take()
                if task is None:
                    return
                self._assign(slot, task)

    def _assign(self, slot: _WorkerSlot, task: Task) -> None:
        slot.task, slot.deadline = task, time.monotonic() + self._timeout_seconds
        slot.worker.forget_stderr()
        slot.worker.send({"request": task.request.to_dict(), "decoder": task.decoder, "slot": task.slot})

    def _on_reply(self, slot: _WorkerSlot) -> None:
        messages = slot.worker.receive()
        if messages is None:
            self._retire(slot, gone=True)
            return
        for message in messages:
            slot.deadline = float("inf")
            if "ready" in message:
                slot.ready, self._failed_starts = True, 0
            elif slot.task is not None:
                task, slot.task = slot.task, None
                self._finish(task, message)

    def _finish(self, task: Task, reply: dict[str, Any]) -> None:
        reasons = [reason for _, reason in task.failures]
        result: Decoded | DecodeFailure
        if "decoded" in reply:
            pixels = self._pixels[task.slot]
            result = Decoded.from_facts(
                reply["decoded"], pixels, lambda slot=task.slot: self._board.free_slot(slot)
            )
            notes = [result.note] if result.note else []  # in front: `damaged: ` is what a note begins with
            object.__setattr__(result, "note", _unicode("; ".join([*notes, *reasons])))
        else:
            stage, reason = reply["stage"], reply["reason"]
            if stage == "memory":
                reason = self._too_much
            # Of a crash and of too little memory, the second explains the first.
            stages = [*(failed for failed, _ in task.failures), stage]
            stage = "memory" if "memory" in stages else stages[0]
            result = DecodeFailure(stage, _unicode("; ".join(dict.fromkeys([*reasons, reason]))))
            self._board.free_slot(task.slot)
        self._board.finish(task, result)

    def _retire(self, slot: _WorkerSlot, *, gone: bool) -> None:
        """Replace a worker that is gone, or kill one over its time; its video gets one more try, with PyAV."""
        for descriptor in (slot.worker.replies, slot.worker.stderr):
            with contextlib.suppress(KeyError):  # a worker may have closed its standard error
                self._selector.unregister(descriptor)
        self._slots.remove(slot)
        ending = slot.worker.end(gone=gone)
        task = slot.task
        if not slot.ready:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS or not gone:
                what = ending if gone else f"are not ready after {START_SECONDS:g} s"
                raise DecodeWorkerError(f"The processes that decode videos do not start: the last one {what}")
        if task is None:
            return
        if gone and _OUT_OF_MEMORY.search(ending):
            failure = ("memory", self._too_much)
        elif gone:
            failure = ("crash", f"{task.decoder}: the decoding process {ending}")
        else:
            failure = ("timeout", f"{task.decoder}: no answer within {self._timeout_seconds:g} s")
        if task.decoder == "auto":
            task.failures.append(failure)
            task.decoder = "pyav"
            self._board.put_back(task)
        else:
            self._finish(task, {"stage": failure[0], "reason": failure[1]})


def _unicode(text: str) -> str:
    """Spell out what is no character (bytes of a file's name): the text can be stored and printed."""
    return text.encode("utf-8", "backslashreplace").decode()
