"""What native decoders write to standard error: caught, and searched for signs of damage."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence

from .request import ConcealedErrors, DecodeError
from .shared_memory import anonymous_file

CAPTURED_BYTES = 1 << 16
"""Bytes kept of the beginning, and of the end, of what native code writes."""
_NO_ERROR = re.compile(r"^(\[[^]]* @ 0x[0-9a-f]+\] )*\[(warning|info|verbose|debug|trace)\] ")
_CONCEALING = re.compile(r"\bconcealing [0-9]+ DC\b")


@contextlib.contextmanager
def capture_stderr() -> Iterator[list[str]]:
    """Catch what native code writes to standard error, of the whole process, while the block runs.

    Decord's decoder reports damage there and nowhere else. The lines are in the list afterwards; where there
    are very many, those in the middle are left out.
    """
    lines: list[str] = []
    with anonymous_file("vidclip-stderr") as caught:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        try:
            own = os.dup(2)
        except OSError:  # this process has no standard error
            own = None
        os.dup2(caught.fileno(), 2)
        try:
            yield lines
        finally:
            if own is None:
                os.close(2)
            else:
                os.dup2(own, 2)
                os.close(own)
            try:
                caught.seek(0, os.SEEK_END)
                caught.write(b"\n")  # where this cannot be written, neither could what we wait for
                caught.seek(0)
                data = caught.read(CAPTURED_BYTES)
                if caught.seek(0, os.SEEK_END) > CAPTURED_BYTES:
                    caught.seek(max(CAPTURED_BYTES, caught.tell() - CAPTURED_BYTES))
                    data += caught.read()
            except OSError as error:
                data = f"what the decoder writes cannot be read: {error.strerror}".encode()
            lines += [line for line in data.decode(errors="replace").splitlines() if line.strip()]


def concealed_errors(lines: Sequence[str]) -> list[str]:
    """Return what to note of the frames whose errors the codec concealed; empty where there are none."""
    count = sum(bool(_CONCEALING.search(line)) for line in lines)
    return [f"the codec concealed errors in {count} {'frame' if count == 1 else 'frames'}"] if count else []


def check_heard(lines: Sequence[str], decoder: str) -> None:
    """Raise ConcealedErrors, or DecodeError, where FFmpeg wrote of damage while it read.

    lines      what it wrote at level info and worse, with the level before each message
    """
    errors = [tidy(line) for line in lines if not _NO_ERROR.search(line)][-1:]
    if concealed := concealed_errors(lines):
        raise ConcealedErrors("decode", "; ".join([f"{decoder}: {concealed[0]}", *errors]))
    if errors:
        raise DecodeError("decode", f"{decoder}: {errors[0]}")


def tidy(message: str) -> str:
    """Return the last line of a decoder's message, without addresses, times and source files."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    last = re.sub(r"\[[\w, ]+ @ 0x[0-9a-f]+\] *|\[\d\d:\d\d:\d\d\] *|\S+\.(cc|h|cpp):\d+: *", "", last)
    last = re.sub(r"^\[(panic|fatal|error)\] *", "", last)
    last = re.sub(r"Check failed: .*?\) (?=[A-Z])", "", last)
    return last.strip()[:200]
