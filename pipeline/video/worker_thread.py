"""The threads of a pool: each keeps one worker process busy, and replaces it when it is lost; and the board of tasks
that they share."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .request import Decoded, DecodeFailure, DecoderUnavailable, DecodeWorkerError, VideoRequest
from .shared_memory import map_slots
from .worker import WorkerProcess

START_SECONDS = 120.0
"""How long a worker may take to start: it imports numpy and the decoders, perhaps from a slow disk."""
FAILED_STARTS = 3
"""The run ends after this many workers in a row that end before they are ready."""
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|bad_array_new_length|MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|[Ii]nsufficient memory"
)
"""What a process that got no memory writes last."""


class _PoolClosed(Exception):
    pass


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


class WorkerThread(threading.Thread):
    """A thread that gives the tasks of a board to a worker process, one at a time, until the board is closed.

    The process is a child of this thread: it ends when the thread does, in whatever way.
    """

    def __init__(self, board: TaskBoard, memory: BinaryIO, setup: dict[str, Any]) -> None:
        """
        memory  shared with the worker: slots for pixels
        setup   the first message to a worker, see `worker.main`
        """
        super().__init__(name="vidclip-decode", daemon=True)
        self._board, self._memory, self._setup = board, memory, setup
        self._pixels = map_slots(memory.fileno(), setup["slots"])
        self._worker: WorkerProcess | None = None
        memory_gib = setup["memory_gib"]
        self._too_much = (
            "needs more memory to decode than there is"
            if memory_gib is None
            else f"needs more than {memory_gib} GiB to decode; --worker-memory raises the limit"
        )

    def kill_worker(self) -> None:
        """End the worker, from another thread, after the board was closed: this thread then ends by itself."""
        with self._board.changed:
            if self._worker is not None:
                self._worker.process.kill()

    def run(self) -> None:
        try:
            self._start()
            while (task := self._board.take()) is not None:
                self._board.finish(task, self._decode(task))
        except _PoolClosed:
            pass
        except BaseException as error:
            self._board.end(error)
        finally:
            if self._worker is not None:
                self._worker.end(gone=False)

    def _start(self) -> WorkerProcess:
        """Start a worker and wait until it is ready."""
        ending = ""
        for _ in range(FAILED_STARTS):
            try:
                worker = WorkerProcess(self._memory.fileno(), self._setup)
            except OSError as error:
                raise DecodeWorkerError(f"No process that decodes videos can be started: {error}") from error
            with self._board.changed:
                self._worker = worker
                if self._board.closed:
                    raise _PoolClosed
            try:
                reply = worker.receive(START_SECONDS)
                if "unavailable" in reply:
                    raise DecoderUnavailable(reply["unavailable"])
                return worker
            except EOFError:
                ending = self._end(worker, gone=True)
            except TimeoutError:
                ending = f"are not ready after {START_SECONDS:g} s"
                break
        raise DecodeWorkerError(f"The processes that decode videos do not start: the last one {ending}")

    def _end(self, worker: WorkerProcess, *, gone: bool) -> str:
        with self._board.changed:
            self._worker = None
        ending = worker.end(gone=gone)
        if self._board.closed:
            raise _PoolClosed
        return ending

    def _decode(self, task: Task) -> Decoded | DecodeFailure:
        """Decode a video; one over which a worker is lost gets one more try, with PyAV."""
        decoder = self._setup["decoder"]
        losses: list[tuple[str, str]] = []  # (stage, reason) of the workers that were lost over it
        reply = self._ask(task, decoder)
        if "lost" in reply and decoder == "auto":
            losses.append((reply["stage"], reply["reason"]))
            reply = self._ask(task, "pyav")
        reasons = [reason for _, reason in losses]
        if "decoded" in reply:
            pixels, slot = self._pixels[task.slot], task.slot
            decoded = Decoded.from_facts(reply["decoded"], pixels, lambda: self._board.free_slot(slot))
            notes = [decoded.note] if decoded.note else []  # in front: `damaged: ` is what a note begins with
            object.__setattr__(decoded, "note", _unicode("; ".join([*notes, *reasons])))
            return decoded
        stages = [*(stage for stage, _ in losses), reply["stage"]]
        reason = self._too_much if reply["stage"] == "memory" else reply["reason"]
        # Of a crash and of too little memory, the second explains the first.
        stage = "memory" if "memory" in stages else stages[0]
        return DecodeFailure(stage, _unicode("; ".join(dict.fromkeys([*reasons, reason]))))

    def _ask(self, task: Task, decoder: str) -> dict[str, Any]:
        """Return the reply of the worker, or `stage`, `reason` and `lost` where it does not give one."""
        worker = self._worker
        if worker is not None and worker.process.poll() is not None:  # ended while it was idle
            self._end(worker, gone=True)
        worker = self._worker or self._start()
        worker.forget_stderr()
        worker.send({"request": task.request.to_dict(), "decoder": decoder, "slot": task.slot})
        seconds = self._setup["timeout_seconds"]
        try:
            return worker.receive(seconds)
        except TimeoutError:
            self._end(worker, gone=False)
            stage, reason = "timeout", f"{decoder}: no answer within {seconds:g} s"
        except EOFError:
            ending = self._end(worker, gone=True)
            stage, reason = "crash", f"{decoder}: the decoding process {ending}"
            if _OUT_OF_MEMORY.search(ending):
                stage, reason = "memory", self._too_much
        return {"stage": stage, "reason": reason, "lost": True}


def _unicode(text: str) -> str:
    """Spell out what is no character (bytes of a file's name): the text can be stored and printed."""
    return text.encode("utf-8", "backslashreplace").decode()
