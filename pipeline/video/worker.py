"""A decoding worker, from both sides: `WorkerProcess` as the pool has it, `main` as it runs.

The process takes one video at a time and puts its pixels into memory that it shares with the pool. It
imports numpy, Pillow, PyAV and decord, and OpenCV for folders of images; torch comes with torchcodec alone, where that is
the decoder.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from typing import Any, BinaryIO

import numpy as np

from .augmentation import Augmentation
from .clip_spec import ClipSpec
from .preprocess import Preprocess
from .request import DecodeError, DecoderUnavailable, VideoRequest
from .sampling import Sampling
from .shared_memory import map_slots
from .torchcodec_setup import DEVICES, prepare

STDERR_BYTES = 4096
"""Bytes kept of the end of a worker's standard error."""
MAX_REPLY_BYTES = 1 << 28
"""No reply is longer: one that claims to be comes from a worker with damaged memory."""
MAX_REASON = 2000
"""Characters of a reason that a worker reports."""
MAX_ALARM_SECONDS = 1e8
"""Longer than any run, and short enough for the kernel's timers."""


def _message(content: dict[str, Any]) -> bytes:
    """Return a message for a pipe: four bytes of length, and that many of JSON."""
    body = json.dumps(content).encode()
    return struct.pack("<I", len(body)) + body


class WorkerProcess:
    """A worker process, seen from the pool that started it."""

    def __init__(self, memory: int, setup: dict[str, Any]) -> None:
        self.stderr_tail = b""
        child_commands, self.commands = os.pipe()
        self.replies, child_replies = os.pipe()
        self.stderr, child_stderr = os.pipe()
        os.set_blocking(self.stderr, False)
        # The parent's own search path, and Ctrl-C left to the parent before anything else happens.
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from {__package__}.worker import main\n"
            f"main({child_commands}, {child_replies}, {memory})"
        )
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=child_stderr,
                pass_fds=(child_commands, child_replies, memory),
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        finally:
            for descriptor in (child_commands, child_replies, child_stderr):
                os.close(descriptor)
        self.received = b""
        self.send(setup)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; a worker that is gone is noticed by the end of its replies."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.commands, _message(message))

    def receive(self, timeout_seconds: float) -> dict[str, Any]:
        """Wait for a message, and read standard error meanwhile.

        Raises EOFError when the worker is gone, or sends what is no message; TimeoutError.
        """
        deadline = time.monotonic() + timeout_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.replies, selectors.EVENT_READ)
            selector.register(self.stderr, selectors.EVENT_READ)
            while (message := self._next_message()) is None:
                patience = min(deadline - time.monotonic(), 60.0)
                if patience < 0:
                    raise TimeoutError
                for key, _ in selector.select(patience):
                    if key.fd == self.stderr:
                        if not self.read_stderr():
                            selector.unregister(self.stderr)
                    elif data := os.read(self.replies, 1 << 16):
                        self.received += data
                    else:
                        raise EOFError
        return message

    def _next_message(self) -> dict[str, Any] | None:
        if len(self.received) < 4:
            return None
        end = 4 + struct.unpack("<I", self.received[:4])[0]
        if len(self.received) < end <= MAX_REPLY_BYTES:
            return None
        try:
            if end > MAX_REPLY_BYTES:
                raise ValueError("no reply is that long")
            message = json.loads(self.received[4:end])
        except ValueError:
            self.process.kill()
            self.read_stderr()
            self.stderr_tail = b"its replies make no sense"
            raise EOFError from None
        self.received = self.received[end:]
        return message

    def read_stderr(self) -> bool:
        """Read what the worker has written to standard error, and keep the end of it. Return False when it is closed."""
        for _ in range(64):  # a pipe holds 64 kB; a process that writes without end must not block the pool
            try:
                data = os.read(self.stderr, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.stderr_tail = (self.stderr_tail + data)[-STDERR_BYTES:]
        return True

    def forget_stderr(self) -> None:
        """Drop what was written so far: it is about an earlier video."""
        self.read_stderr()
        self.stderr_tail = b""

    def end(self, *, gone: bool) -> str:
        """Kill the process; return how it ended, with its last line, where it did so by itself (`gone`)."""
        if gone:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        status = self.process.poll()
        self.process.kill()
        # A process that is stuck in the kernel (a dead network disk) dies later, without running on.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.read_stderr()
        for descriptor in (self.commands, self.replies, self.stderr):
            os.close(descriptor)
        lines = [line.strip() for line in self.stderr_tail.decode(errors="replace").split("\n")]
        last = next(filter(None, reversed(lines)), "")[:200]
        return f"{_ending(status)} ({last})" if last else _ending(status)


def _ending(status: int | None) -> str:
    """Return how a process ended, for a person; `status` is that of `subprocess`."""
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        return f"died of {signal.Signals(-status).name}"
    except ValueError:  # real-time signals, of which Python names the first and the last
        return f"died of signal {-status}"


def limit_memory(limit_gib: float | None, *, private: bool = False) -> None:
    """Let this process allocate `limit_gib` on top of what it has now; None: as much as there is.

    private    count what the process alone can write to, instead of all addresses: a driver of GPUs reserves many times
               the machine's memory, and fills little of it

    The kernel counts address space, so that what is taken already (libraries, the pixels that are shared with
    the pool) must not count. Linux alone: elsewhere the limit is not kept, or counts other things.
    """
    if limit_gib is None or sys.platform != "linux":
        return
    import resource

    kind, column = (resource.RLIMIT_DATA, 5) if private else (resource.RLIMIT_AS, 0)
    with open("/proc/self/statm") as file:  # noqa: PTH123
        held = int(file.read().split()[column]) * resource.getpagesize()
    hard = resource.getrlimit(kind)[1]
    limit = held + int(limit_gib * 2**30)
    resource.setrlimit(kind, (limit if hard < 0 else min(limit, hard), hard))


def main(command_pipe: int, reply_pipe: int, memory: int) -> None:
    """Serve a `pool.DecodePool`: read commands, write pixels into shared memory, reply; until told to end.

    The three are file descriptors. A message is four bytes of length and that many of JSON.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    commands, replies = open(command_pipe, "rb"), open(reply_pipe, "wb")  # noqa: SIM115
    setup = _receive(commands)
    if setup is None:
        return
    _exit_with_parent(setup["parent"])
    module, _, name = setup["decode"].partition(":")
    decode = getattr(importlib.import_module(module), name)
    clip_spec = ClipSpec(
        Sampling.from_dict(setup["sampling"]),
        Preprocess.from_dict(setup["preprocess"]),
        Augmentation(**setup["augmentation"]) if setup["augmentation"] else None,
    )
    # Here, so that a video's time limit does not pay for it.
    if setup["decoder"] in DEVICES:
        try:
            prepare(setup["decoder"])
        except DecoderUnavailable as error:
            replies.write(_message({"unavailable": str(error)}))
            return
    else:
        with contextlib.suppress(ImportError):
            from .decord_reader import import_decord

            import_decord()
    pixels = map_slots(memory, setup["slots"])
    limit_memory(setup["memory_gib"], private=DEVICES.get(setup["decoder"]) == "cuda")
    replies.write(_message({"ready": True}))
    replies.flush()
    while (task := _receive(commands)) is not None:
        # The kernel ends a worker that hangs long after the pool should have: for a pool that was killed
        # itself, on systems without PR_SET_PDEATHSIG.
        signal.setitimer(signal.ITIMER_REAL, min(2 * setup["timeout_seconds"] + 10, MAX_ALARM_SECONDS))
        try:
            decoded = decode(VideoRequest.from_dict(task["request"]), clip_spec, task["decoder"])
            slot = pixels[task["slot"]][: decoded.pixels.size]
            np.copyto(slot.reshape(decoded.pixels.shape), decoded.pixels)
            reply = {"decoded": decoded.facts()}
            del decoded
        except DecodeError as error:
            reply = {"stage": error.stage, "reason": error.reason}
        except MemoryError:
            reply = {"stage": "memory", "reason": ""}  # the pool says how much was too little
        except Exception as error:  # one odd video must not end the run: it is reported by name
            reply = {"stage": "decode", "reason": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        if "reason" in reply:
            reply["reason"] = reply["reason"][:MAX_REASON]
        replies.write(_message(reply))
        replies.flush()


def _exit_with_parent(parent: int) -> None:
    """On Linux, have the kernel kill this process when the thread that started it ends, even inside native code."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _receive(commands: BinaryIO) -> dict[str, Any] | None:
    header = commands.read(4)
    return json.loads(commands.read(struct.unpack("<I", header)[0])) if len(header) == 4 else None
