"""A decoding worker, from both sides: `WorkerProcess` as the pool has it, `main` as it runs.

The process takes one video at a time and puts its pixels into memory that it shares with the pool. It
imports numpy, Pillow, PyAV and decord, and OpenCV for folders of images: never torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from .decoded import DecodeError, VideoRequest
from .preprocess import Preprocess
from .sampling import Sampling


class WorkerProcess:
    """A worker, as the pool that started it has it."""

    def __init__(self, memory: int, setup: dict[str, Any]) -> None:
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        child_commands, self.commands = os.pipe()
        self.replies, child_replies = os.pipe()
        # The parent's own search path, and Ctrl-C left to the parent before anything else happens.
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from {__package__}.decode_worker import main\n"
            f"main({child_commands}, {child_replies}, {memory})"
        )
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.complaints,
                pass_fds=(child_commands, child_replies, memory),
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        finally:
            os.close(child_commands)
            os.close(child_replies)
        self.received = b""
        self.send(setup)

    def send(self, message: dict[str, Any]) -> None:
        """Hand over a message; a worker that is gone is noticed by the end of its replies."""
        body = json.dumps(message).encode()
        with contextlib.suppress(BrokenPipeError):
            os.write(self.commands, struct.pack("<I", len(body)) + body)

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have come; None when the worker is gone."""
        data = os.read(self.replies, 1 << 16)
        if not data:
            return None
        self.received += data
        messages = []
        while len(self.received) >= 4:
            end = 4 + struct.unpack("<I", self.received[:4])[0]
            if len(self.received) < end:
                break
            messages.append(json.loads(self.received[4:end]))
            self.received = self.received[end:]
        return messages

    def last_words(self) -> str:
        """The last line the process wrote to its standard error."""
        self.complaints.seek(0)
        lines = self.complaints.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def end(self, *, gone: bool) -> str:
        """Kill the process, whatever it does; say how it ended where it did so by itself (`gone`)."""
        if gone:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        status = self.process.poll()
        self.process.kill()
        # A process that is stuck in the kernel (a dead network disk) dies later, without running on.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        os.close(self.commands)
        os.close(self.replies)
        words = self.last_words()
        self.complaints.close()
        ending = f"ended with status {status}"
        if status is not None and status < 0:
            ending = f"died of {signal.Signals(-status).name}"
        return f"{ending} ({words})" if words else ending


def main(commands: int, replies: int, memory: int) -> None:
    """Serve a `decode.DecodePool`: read commands, write pixels into shared memory, reply; until told to end.

    The three are file descriptors. A message is four bytes of length and that many of JSON.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    setup = _receive(commands)
    if setup is None:
        return
    _die_with(setup["parent"])
    module, _, name = setup["decode"].partition(":")
    decode = getattr(importlib.import_module(module), name)
    sampling = Sampling.from_dict(setup["sampling"])
    preprocess = Preprocess.from_dict(setup["preprocess"])
    with contextlib.suppress(ImportError):
        import decord  # noqa: F401 - here, so that a video's time limit does not pay for it
    pixels = np.frombuffer(mmap.mmap(memory, 0), np.uint8).reshape(setup["slots"], -1)
    _send(replies, {"ready": True})
    while (task := _receive(commands)) is not None:
        # The kernel ends a worker that hangs long after the pool should have: for a pool that was killed
        # itself, on systems without PR_SET_PDEATHSIG.
        signal.setitimer(signal.ITIMER_REAL, 2 * setup["timeout_seconds"] + 10)
        os.lseek(2, 0, os.SEEK_SET)
        os.ftruncate(2, 0)
        request = VideoRequest(os.fsdecode(bytes.fromhex(task["path"])), task["start"], task["end"])
        try:
            decoded = decode(request, sampling, preprocess, task["decoder"])
            slot = pixels[task["slot"]][: decoded.pixels.size]
            np.copyto(slot.reshape(decoded.pixels.shape), decoded.pixels)
            reply = {"decoded": decoded.facts()}
            del decoded
        except DecodeError as error:
            reply = {"stage": error.stage, "reason": error.reason}
        except MemoryError:
            reply = {"stage": "decode", "reason": "not enough memory for its frames"}
        except Exception as error:  # one odd video must not end the run: it is reported by name
            reply = {"stage": "decode", "reason": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(replies, reply)


def _die_with(parent: int) -> None:
    """On Linux, have the kernel kill this process when the pool's thread ends, even inside native code."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _receive(descriptor: int) -> dict[str, Any] | None:
    header = _read_exactly(descriptor, 4)
    body = header and _read_exactly(descriptor, struct.unpack("<I", header)[0])
    return json.loads(body) if body else None


def _read_exactly(descriptor: int, n: int) -> bytes | None:
    parts = b""
    while len(parts) < n:
        part = os.read(descriptor, n - len(parts))
        if not part:
            return None
        parts += part
    return parts


def _send(descriptor: int, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    data = memoryview(struct.pack("<I", len(body)) + body)
    while data:
        data = data[os.write(descriptor, data) :]
