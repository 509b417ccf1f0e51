"""Pixels of the chosen frames of many videos, decoded in worker processes.

    with DecodePool(clip_spec, workers=4) as pool:
        for index, result in pool.decode(paths):     # a Decoded or a DecodeFailure for every path
            with result: ...                         # its pixels lie in shared memory: give them back

`readers` decodes a video, `worker` is a worker process, `worker_thread` the thread that keeps it. This
module imports neither decord nor PyAV: a decoder that hangs or crashes does so in a worker.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from ..choices import DECODERS, check_choice
from .clip_spec import ClipSpec
from .frame_selection import FrameSelection
from .request import Decoded, DecodeFailure, VideoRequest
from .shared_memory import anonymous_file
from .torchcodec_setup import check_decoder
from .worker_thread import Task, TaskBoard, WorkerThread

STUCK_SECONDS = 60.0
"""How long all slots may be held, while nothing is decoded, by threads that might give one back."""
WORKER_MEMORY_GIB = 4.0
"""What a worker may take by default. A frame of 8K video (7680 x 4320) and the sixteen that a codec may keep
beside it take 1 GiB; the same on every machine, so that the same videos fail everywhere."""
DECODE_WITH_DIGEST = f"{__package__}.digest:decode_with_digest"
"""For `DecodePool(decode=...)`: each file is digested too."""
MIN_WORKER_MEMORY_GIB = 0.25
"""Less does not do for a worker's own libraries."""


class DecodePool:
    """Worker processes that decode one video at a time each.

    The workers are started at the first `decode` and end with the pool, or with this process, however
    it ends. A thread for each hands out videos and watches the time while the caller does other work.
    `decode` gives at most `slots` results that were not yet taken or not yet released: memory is bounded
    by slots x V x T x height x width x 3 bytes, and touched as it is needed.
    """

    def __init__(
        self,
        clip_spec: ClipSpec,
        *,
        workers: int,
        timeout_seconds: float = 60.0,
        memory_gib: float | None = WORKER_MEMORY_GIB,
        slots: int | None = None,
        decoder: str = "auto",
        decode: str = f"{__package__}.readers:decode_video",
    ) -> None:
        """
        timeout_seconds  for one video; the start of a worker does not count
        memory_gib       what a worker may take for a video, on Linux; a video that needs more fails in the
                         stage `memory`. None: no limit
        slots            results that can wait or be held; default twice the workers and two, or fewer where
                         they would take more than half of the machine's memory
        decoder          as in `decode_video`
        decode           `module:function`, importable in the workers, with the signature of
                         `decode_video`: what a worker does with a video
        Raises ValueError for settings that cannot be, DecoderUnavailable for a decoder that is not installed.
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
        check_choice("decoder", decoder, DECODERS)
        check_decoder(decoder)
        slot_bytes = math.prod(clip_spec.shape)
        self._clip_spec = clip_spec
        machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._n_slots = slots or max(1, min(2 * workers + 2, machine_bytes // 2 // slot_bytes))
        self._memory = anonymous_file("vidclip-pixels")
        self._memory.truncate(self._n_slots * slot_bytes)
        self._board = TaskBoard(self._n_slots)
        self._setup = {
            "decode": decode,
            "sampling": clip_spec.sampling.to_dict(),
            "preprocess": clip_spec.preprocess.to_dict(),
            "augmentation": vars(clip_spec.augmentation) if clip_spec.augmentation else None,
            "slots": self._n_slots,
            "timeout_seconds": timeout_seconds,
            "memory_gib": memory_gib,
            "decoder": decoder,
            "parent": os.getpid(),
        }
        self._n_workers = workers
        self._threads: list[WorkerThread] = []

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers at once. Pixels that were handed out stay readable."""
        if self._board.closed:
            return
        self._board.end()
        for thread in self._threads:
            thread.kill_worker()
        for thread in self._threads:
            thread.join()
        self._memory.close()

    def decode(
        self, paths: Iterable[str | os.PathLike[str] | VideoRequest], *, ordered: bool = True
    ) -> Iterator[tuple[int, Decoded | DecodeFailure]]:
        """Decode videos: (position in `paths`, result) for each, failures included.

        paths    taken as they are needed, `slots` ahead of the results at most
        ordered  results in the order of `paths`; else as they are finished
        Each `Decoded` must be released, here or in another thread: while `slots` of them are held, nothing
        is decoded. One call at a time; what an abandoned call left undone is dropped.
        Raises DecodeWorkerError when no worker can be started, of it DecoderUnavailable where the machine lacks what the
        decoder needs; RuntimeError for a closed pool, for two
        calls at a time, and when the only thread there is holds all slots and asks for more; ValueError for
        random frames without a draw, and for a draw without random frames.
        """
        todo = enumerate(paths)
        outstanding: deque[int] = deque()  # indices handed to the workers and not yet yielded, in order
        with self._board.run() as run:
            while True:
                for index, path in itertools.islice(todo, self._n_slots - len(outstanding)):
                    outstanding.append(index)
                    request = FrameSelection(VideoRequest.of(path), self._clip_spec).request
                    self._board.submit(Task(index, request, run))
                if not outstanding:
                    return
                index, result = self._wait(outstanding, ordered)
                outstanding.remove(index)
                yield index, result

    def _wait(self, outstanding: deque[int], ordered: bool) -> tuple[int, Decoded | DecodeFailure]:
        began, board = time.monotonic(), self._board
        with board.changed:
            while True:
                index = outstanding[0] if ordered else next(iter(board.results), -1)
                if index in board.results:
                    return index, board.results.pop(index)
                if board.error is not None:
                    raise board.error
                if board.closed:
                    raise RuntimeError("This DecodePool was closed while it was decoding")
                while len(self._threads) < min(self._n_workers, board.busy + len(board.waiting)):
                    self._threads.append(WorkerThread(board, self._memory, self._setup))
                    self._threads[-1].start()
                self._raise_if_deadlocked(time.monotonic() - began)
                board.changed.wait(1)

    def _raise_if_deadlocked(self, waited_seconds: float) -> None:
        board = self._board
        stuck = board.waiting and not board.free and not board.results and not board.busy
        # Another thread may be about to give a slot back; but some libraries' threads never end, nor give.
        alone = threading.active_count() <= 1 + len(self._threads)
        if stuck and (alone or waited_seconds > STUCK_SECONDS):
            raise RuntimeError(
                f"All {self._n_slots} slots of the DecodePool are held, and no other thread can give one back: "
                f"call release() on results that are done with, or ask for more slots"
            )
