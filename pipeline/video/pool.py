"""Pixels of the frames that are looked at: of one video in this process, or of many in workers.

    with DecodePool(sampling, preprocess, workers=4) as pool:
        for index, result in pool.decode(paths):     # a Decoded or a DecodeFailure for every path
            with result: ...                         # its pixels lie in shared memory: give them back

`packets` looks at a file, `video_readers` reads its frames, `frame_folders` those of a folder of images;
`decode_worker` is a worker process. This module imports neither decord nor PyAV: a decoder that hangs or
crashes does so in a worker.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import re
import selectors
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .preprocess import Preprocess
from .request import Decoded, DecodeError, DecodeFailure, VideoRequest, check_decoder
from .sampling import Sampling
from .worker import WorkerProcess

__all__ = [
    "DecodeError",
    "DecodeFailure",
    "DecodePool",
    "DecodeWorkerError",
    "Decoded",
    "VideoRequest",
    "decode_video",
]

START_SECONDS = 120.0
"""How long a worker may take to start: it imports numpy and the decoders, perhaps from a slow disk."""
STUCK_SECONDS = 60.0
"""How long all slots may be held, while nothing is decoded, by threads that might give one back."""
FAILED_STARTS = 3
"""So many workers that end before they are ready, one after the other, end the run."""
WORKER_MEMORY_GIB = 4.0
"""What a worker may take by default. A frame of 8K video (7680 x 4320) and the sixteen that a codec may keep
beside it take 1 GiB; the same on every machine, so that the same videos fail everywhere."""
MIN_WORKER_MEMORY_GIB = 0.25
"""Less does not do for a worker's own libraries."""
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|bad_array_new_length|MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|[Ii]nsufficient memory"
)
"""The last words of a process that got no memory."""


class DecodeWorkerError(RuntimeError):
    """Worker processes cannot be started: nothing is wrong with the videos."""


def decode_video(
    path: str | os.PathLike[str] | VideoRequest,
    sampling: Sampling,
    preprocess: Preprocess,
    decoder: str = "auto",
) -> Decoded:
    """Decode one video in this process: nothing helps here when a decoder hangs or crashes.

    path     a video file, a folder of images, or a VideoRequest for a segment of a video
    decoder  `auto`: decord where its frames can be trusted, else PyAV; `decord`; `pyav`. Means
             nothing for a folder of images.
    Raises DecodeError for a video that cannot be decoded, ValueError for an unknown decoder.
    While decord or OpenCV runs, the standard error of the whole process is caught.
    """
    from .readers import decode_request

    try:
        return decode_request(_as_request(path), sampling, preprocess, decoder)
    except MemoryError:
        raise DecodeError("memory", "needs more memory to decode than there is") from None


def _as_request(path: str | os.PathLike[str] | VideoRequest) -> VideoRequest:
    return path if isinstance(path, VideoRequest) else VideoRequest(path)


@dataclass
class _Task:
    index: int
    request: VideoRequest
    run: int
    """Which call of `decode` it belongs to."""
    decoder: str
    slot: int = -1
    troubles: list[tuple[str, str]] = field(default_factory=list)
    """(stage, reason) of each worker that was lost over it."""


@dataclass
class _WorkerSlot:
    """A place for a worker, with what its present holder does."""

    worker: WorkerProcess
    deadline: float
    ready: bool = False
    task: _Task | None = None


class DecodePool:
    """Worker processes that decode one video at a time each.

    The workers are started at the first `decode` and end with the pool, or with this process, however
    it ends. A thread of the pool hands out videos and watches the time while the caller does other work.
    `decode` gives at most `slots` results that were not yet taken or not yet released: memory is bounded
    by slots x V x T x height x width x 3 bytes, and touched as it is needed.
    """

    def __init__(
        self,
        sampling: Sampling,
        preprocess: Preprocess,
        *,
        workers: int,
        timeout_seconds: float = 60.0,
        memory_gib: float | None = WORKER_MEMORY_GIB,
        slots: int | None = None,
        decoder: str = "auto",
        decode: str = f"{__package__}.readers:decode_request",
    ) -> None:
        """
        timeout_seconds  for one video; the start of a worker does not count
        memory_gib       what a worker may take for a video, on Linux; a video that needs more fails in the
                         stage `memory`. None: no limit
        slots            results that can wait or be held; default twice the workers and two, or fewer where
                         they would take more than half of the machine's memory
        decoder          as in `decode_video`
        decode           `module:function`, importable in the workers, with the signature of
                         `video_readers.decode_request`: what a worker does with a video
        Raises ValueError for settings that cannot be.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if not (timeout_seconds > 0 and math.isfinite(timeout_seconds)):
            raise ValueError(f"timeout_seconds must be above 0 and finite, got {timeout_seconds}")
        if memory_gib is not None and not MIN_WORKER_MEMORY_GIB <= memory_gib < 2**30:
            raise ValueError(
                f"memory_gib must be at least {MIN_WORKER_MEMORY_GIB} and finite, or None for no limit, got {memory_gib}"
            )
        if slots is not None and slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        check_decoder(decoder)
        self.n_workers, self.timeout_seconds, self.decoder = workers, timeout_seconds, decoder
        self.memory_gib = memory_gib
        slot_bytes = sampling.views * sampling.frames * preprocess.size[0] * preprocess.size[1] * 3
        self.n_slots = slots or max(1, min(2 * workers + 2, _machine_bytes() // 2 // slot_bytes))
        self._setup: dict[str, Any] = {
            "decode": decode,
            "sampling": sampling.to_dict(),
            "preprocess": preprocess.to_dict(),
            "slots": self.n_slots,
            "timeout_seconds": timeout_seconds,
            "memory_bytes": None if memory_gib is None else int(memory_gib * 2**30),
            "parent": os.getpid(),
        }
        self._memory = _anonymous_file(self.n_slots * slot_bytes)
        self._pixels = np.frombuffer(mmap.mmap(self._memory, 0), np.uint8).reshape(self.n_slots, slot_bytes)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

        # All below is guarded by _state; _changed also tells of results, free slots and errors.
        self._changed = threading.Condition()
        self._free = list(range(self.n_slots))
        self._waiting: deque[_Task] = deque()
        self._results: dict[int, Decoded | DecodeFailure] = {}
        self._run = 0
        self._active = False
        self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

        # These belong to the thread.
        self._seats: list[_WorkerSlot] = []
        self._failed_starts = 0

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers at once. Pixels that were handed out stay readable."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._wake()
        if self._thread is not None:
            self._thread.join()
        for descriptor in (self._memory, self._wake_read):
            os.close(descriptor)
        with self._changed:  # a late release() must not write into somebody else's file
            os.close(self._wake_write)
            self._wake_write = -1

    # ---- the caller's side

    def decode(
        self, paths: Iterable[str | os.PathLike[str] | VideoRequest], *, ordered: bool = True
    ) -> Iterator[tuple[int, Decoded | DecodeFailure]]:
        """Decode videos: (place in `paths`, result) for each, failures included.

        paths    taken as they are needed, `slots` ahead of the results at most
        ordered  results in the order of `paths`; else as they are finished
        Each `Decoded` must be released, here or in another thread: while `slots` of them are held, nothing
        is decoded. One call at a time; what an abandoned call left undone is dropped.
        Raises DecodeWorkerError when no worker can be started, RuntimeError for a closed pool, for two
        calls at a time, and when the only thread there is holds all slots and asks for more.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("This DecodePool is closed")
            if self._active:
                raise RuntimeError("This DecodePool is decoding already: one call of decode() at a time")
            self._active = True
            self._run += 1
        try:
            yield from self._decode(enumerate(paths), ordered)
        finally:
            with self._changed:
                self._active = False
                self._run += 1
                self._waiting.clear()
                for result in self._results.values():
                    result.release()
                self._results.clear()

    def _decode(
        self, paths: Iterator[tuple[int, str | os.PathLike[str] | VideoRequest]], ordered: bool
    ) -> Iterator[tuple[int, Decoded | DecodeFailure]]:
        outstanding: deque[int] = deque()  # indices handed to the workers and not yet yielded, in order
        exhausted = False
        while True:
            while not exhausted and len(outstanding) < self.n_slots:
                index, path = next(paths, (-1, ""))
                if index < 0:
                    exhausted = True
                    break
                task = _Task(index, _as_request(path), self._run, self.decoder)
                outstanding.append(index)
                with self._changed:
                    self._waiting.append(task)
                self._wake()
            if not outstanding:
                return
            began = time.monotonic()
            with self._changed:
                while not (ready := self._next_result(outstanding, ordered)):
                    if self._error is not None:
                        raise self._error
                    if self._closed:
                        raise RuntimeError("This DecodePool was closed while it was decoding")
                    self._ensure_thread()
                    self._raise_if_deadlocked(time.monotonic() - began)
                    self._changed.wait(1)
                index, result = ready
            outstanding.remove(index)
            yield index, result

    def _next_result(
        self, outstanding: deque[int], ordered: bool
    ) -> tuple[int, Decoded | DecodeFailure] | None:
        index = outstanding[0] if ordered else next(iter(self._results), -1)
        return (index, self._results.pop(index)) if index in self._results else None

    def _raise_if_deadlocked(self, waited_seconds: float) -> None:
        idle = self._waiting and not self._free and not self._results
        busy = any(seat.task is not None for seat in self._seats)
        # Another thread may be about to give a slot back; but some libraries' threads never end, nor give.
        alone = threading.active_count() <= 2  # this thread and the pool's
        if idle and not busy and (alone or waited_seconds > STUCK_SECONDS):
            raise RuntimeError(
                f"All {self.n_slots} slots of the DecodePool are held, and nobody is there to give one back: "
                f"call release() on results that are done with, or ask for more slots"
            )

    def _give_back(self, slot: int) -> None:
        with self._changed:
            self._free.append(slot)
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            if self._wake_write >= 0:
                with contextlib.suppress(BlockingIOError):  # full of wake-ups that are still unread
                    os.write(self._wake_write, b"x")

    # ---- the thread's side

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="vidclip-decode", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_read, selectors.EVENT_READ)
                while not self._closed:
                    self._dispatch(selector)
                    deadline = min((seat.deadline for seat in self._seats), default=float("inf"))
                    patience = max(0.0, min(deadline - time.monotonic(), 60.0))
                    for key, _ in selector.select(patience):
                        seat = key.data
                        if seat is None:
                            os.read(self._wake_read, 1 << 16)
                        elif seat not in self._seats:
                            continue  # lost just now
                        elif key.fd == seat.worker.stderr:
                            if not seat.worker.read_stderr():
                                selector.unregister(seat.worker.stderr)
                        else:
                            self._on_reply(seat, selector)
                    for seat in [seat for seat in self._seats if time.monotonic() > seat.deadline]:
                        self._retire(seat, selector, gone=False)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            for seat in self._seats:
                seat.worker.end(gone=False)
            self._seats.clear()

    def _dispatch(self, selector: selectors.BaseSelector) -> None:
        """Give waiting videos to idle workers, and start workers while there are more videos than those."""
        with self._changed:
            n_waiting = len(self._waiting)
        busy = sum(seat.task is not None for seat in self._seats)
        while len(self._seats) < min(self.n_workers, busy + n_waiting):
            try:
                worker = WorkerProcess(self._memory, self._setup)
            except OSError as error:
                raise DecodeWorkerError(f"No process that decodes videos can be started: {error}") from error
            seat = _WorkerSlot(worker, time.monotonic() + START_SECONDS)
            self._seats.append(seat)
            selector.register(worker.replies, selectors.EVENT_READ, seat)
            selector.register(worker.stderr, selectors.EVENT_READ, seat)
        for seat in self._seats:
            if seat.ready and seat.task is None:
                with self._changed:
                    task = (
                        self._waiting.popleft()
                        if self._waiting and (self._waiting[0].slot >= 0 or self._free)
                        else None
                    )
                    if task is None:
                        return
                    if task.slot < 0:
                        task.slot = self._free.pop()
                self._assign(seat, task)

    def _assign(self, seat: _WorkerSlot, task: _Task) -> None:
        request = task.request
        seat.task, seat.deadline = task, time.monotonic() + self.timeout_seconds
        seat.worker.forget_stderr()
        seat.worker.send(
            {
                "path": os.fsencode(request.path).hex(),
                "start": request.start_seconds,
                "end": request.end_seconds,
                "decoder": task.decoder,
                "slot": task.slot,
            }
        )

    def _on_reply(self, seat: _WorkerSlot, selector: selectors.BaseSelector) -> None:
        messages = seat.worker.receive()
        if messages is None:
            self._retire(seat, selector, gone=True)
            return
        for message in messages:
            seat.deadline = float("inf")
            if "ready" in message:
                seat.ready, self._failed_starts = True, 0
            elif seat.task is not None:
                task, seat.task = seat.task, None
                self._finish(task, message)

    def _finish(self, task: _Task, reply: dict[str, Any]) -> None:
        troubles = [reason for _, reason in task.troubles]
        result: Decoded | DecodeFailure
        if "decoded" in reply:
            slot = task.slot
            result = Decoded.from_facts(reply["decoded"], self._pixels[slot], lambda: self._give_back(slot))
            notes = [result.note] if result.note else []  # in front: `damaged: ` is what a note begins with
            object.__setattr__(result, "note", _unicode("; ".join([*notes, *troubles])))
        else:
            stage, reason = reply["stage"], reply["reason"]
            if stage == "memory":
                reason = self._too_much
            # Of a crash and of too little memory, the second explains the first.
            stages = [*(trouble[0] for trouble in task.troubles), stage]
            stage = "memory" if "memory" in stages else stages[0]
            result = DecodeFailure(stage, _unicode("; ".join(dict.fromkeys([*troubles, reason]))))
            self._give_back(task.slot)
        with self._changed:
            if task.run == self._run:
                self._results[task.index] = result
                self._changed.notify_all()
            else:
                result.release()

    @property
    def _too_much(self) -> str:
        if self.memory_gib is None:
            return "needs more memory to decode than there is"
        return f"needs more than {self.memory_gib} GiB to decode; --worker-memory raises the limit"

    def _retire(self, seat: _WorkerSlot, selector: selectors.BaseSelector, *, gone: bool) -> None:
        """A worker is gone, or is over its time and is killed; its video gets one more try, with PyAV."""
        for descriptor in (seat.worker.replies, seat.worker.stderr):
            with contextlib.suppress(KeyError):  # a worker may have closed its standard error
                selector.unregister(descriptor)
        self._seats.remove(seat)
        ending = seat.worker.end(gone=gone)
        task = seat.task
        if not seat.ready:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS or not gone:
                what = ending if gone else f"are not ready after {START_SECONDS:g} s"
                raise DecodeWorkerError(f"The processes that decode videos do not start: the last one {what}")
        if task is None:
            return
        if gone and _OUT_OF_MEMORY.search(ending):
            trouble = ("memory", self._too_much)
        elif gone:
            trouble = ("crash", f"{task.decoder}: the decoding process {ending}")
        else:
            trouble = ("timeout", f"{task.decoder}: no answer within {self.timeout_seconds:g} s")
        task.troubles.append(trouble)
        if task.decoder == "auto":
            task.decoder = "pyav"
            with self._changed:
                if task.run == self._run:
                    self._waiting.appendleft(task)
                else:
                    self._free.append(task.slot)
        else:
            stage, reason = task.troubles.pop()
            self._finish(task, {"stage": stage, "reason": reason})


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _unicode(text: str) -> str:
    """The text with what is no character (bytes of a file's name) spelled out: it can be stored and printed."""
    return text.encode("utf-8", "backslashreplace").decode()


def _anonymous_file(size: int) -> int:
    """A file without a name: gone with the last process that has it, also when all are killed.

    On Linux it lies in memory, and not under /dev/shm, which is 64 MB in a container.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("vidclip-pixels", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
