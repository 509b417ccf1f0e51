"""The frames of a video file by decord, which tells of damage on standard error and nowhere else.

`decord2` is decord as it is maintained now, under the same name; `import_decord` keeps it to itself. PyAV is imported before it
(as `packets` does): where a program imports decord as it comes, PyAV would run on decord's FFmpeg in part, and take its messages
away. Whether decord is heard is tried once, before it is trusted.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from .frame_selection import FrameSelection
from .native_stderr import capture_stderr, check_heard, tidy
from .packets import Packets
from .request import Decoded, DecodeError

_NEW_SIZE = re.compile(r"Changing (video )?frame properties on the fly")
"""Frames of another size in mid-stream are squeezed into the size of the first. The next line has both sizes; newer
FFmpegs say so of a change of the color range too, which does no harm."""
_SIZES = re.compile(r"filter context - (w: \d+ h: \d+) .*incoming frame - (w: \d+ h: \d+) ")


_IMPORTING = threading.Lock()
_NOT_IMPORTED: Any = object()


def import_decord() -> Any:
    """Import decord, and return it, without what it does to the rest of the process. Raises ImportError.

    As it comes, decord2 opens all libraries of NVIDIA's packages for whatever is loaded later. NVBLAS is among them: torch, imported
    afterwards, then computes with the BLAS of NVBLAS, which ends the process where it has no settings. Here decord finds no such
    packages (its GPU is never asked for), and its own symbols are not those of others.
    """
    with _IMPORTING:
        modules: dict[str, Any] = sys.modules
        nvidia, everyone = modules.get("nvidia", _NOT_IMPORTED), ctypes.RTLD_GLOBAL
        modules["nvidia"] = None  # it is not found, then
        setattr(ctypes, "RTLD_GLOBAL", ctypes.RTLD_LOCAL)  # noqa: B010 - a constant, for as long as decord opens libraries
        try:
            return importlib.import_module("decord")
        finally:
            setattr(ctypes, "RTLD_GLOBAL", everyone)  # noqa: B010
            if nvidia is _NOT_IMPORTED:
                del modules["nvidia"]
            else:
                modules["nvidia"] = nvidia


def read_with_decord(path: str, packets: Packets, selection: FrameSelection) -> Decoded:
    """Read the frames of a file whose packets say that decord counts them rightly.

    Raises ImportError without decord, EmptySegmentError, ConcealedErrors, and DecodeError when decord
    complains, even softly.
    """
    decord = import_decord()  # not everywhere, and not needed by those who ask for PyAV
    if not _is_heard():
        raise DecodeError(
            "decode", "decord is not used: what it reports of damage is not heard in this process"
        )
    decord.logging.set_level(decord.logging.INFO)

    def read(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        if len(reader) != len(packets.display_pts):
            raise DecodeError("decode", f"decord counts {len(reader)} frames, not {len(packets.display_pts)}")
        for position in positions:  # one by one: a clip of large frames need not fit in memory
            yield position, reader.get_batch([position]).asnumpy()[0]

    try:
        with capture_stderr() as lines:
            decoded = selection.decode_by_time_stamp(packets, read, f"decord {decord.__version__}")
    except (decord.DECORDError, RuntimeError, AssertionError, IndexError) as error:
        raise DecodeError("decode", f"decord: {tidy(str(error))}") from error
    check_heard(lines, "decord")
    if _sizes_change(lines):
        raise DecodeError("decode", "decord would distort frames: their size changes")
    return decoded


def _sizes_change(lines: list[str]) -> bool:
    """Return whether decord met frames of several sizes, by what it wrote."""
    if not any(_NEW_SIZE.search(line) for line in lines):
        return False
    sizes = [match.groups() for line in lines if (match := _SIZES.search(line))]
    return not sizes or any(before != after for before, after in sizes)


@functools.cache
def _is_heard() -> bool:
    """Have decord's FFmpeg write the level before each line, and return whether its lines arrive.

    They do not where its library is out of reach, or where another FFmpeg got between decord and its own.
    """
    from decord._ffi import base

    print_level, error = 2, 16  # AV_LOG_PRINT_LEVEL, AV_LOG_ERROR
    try:
        base._LIB.av_log_set_flags(print_level)
        with capture_stderr() as lines:
            base._LIB.av_log(None, error, b"vidclip listens\n")
    except AttributeError:
        return False
    return any("[error] vidclip listens" in line for line in lines)
