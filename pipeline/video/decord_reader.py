"""The frames of a video file by decord, which tells of damage on standard error and nowhere else."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import numpy as np

from .frame_selection import FrameSelection
from .native_stderr import capture_stderr, concealed_errors, tidy
from .packets import Packets
from .request import Decoded, DecodeError

_NO_ERROR = re.compile(r"^(\[[^]]* @ 0x[0-9a-f]+\] )*\[(warning|info|verbose|debug|trace)\] ")
_NEW_SIZE = re.compile(r"Changing (video )?frame properties on the fly")
"""Frames of another size in mid-stream are squeezed into the size of the first."""


class ConcealedErrors(DecodeError):
    """The codec guessed parts of frames, and said so."""


def read_with_decord(path: str, packets: Packets, selection: FrameSelection) -> Decoded:
    """Read the frames of a file whose packets say that decord counts them rightly.

    Raises ImportError without decord, EmptySegmentError, ConcealedErrors, and DecodeError when decord
    complains, even softly.
    """
    import decord  # not everywhere, and not needed by those who ask for PyAV

    decord.logging.set_level(decord.logging.INFO if _print_levels() else decord.logging.ERROR)

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
    errors = [tidy(line) for line in lines if not _NO_ERROR.search(line)][-1:]
    if concealed := concealed_errors(lines):
        raise ConcealedErrors("decode", "; ".join(["decord: " + concealed[0], *errors]))
    if errors:
        raise DecodeError("decode", f"decord: {errors[0]}")
    if any(_NEW_SIZE.search(line) for line in lines):
        raise DecodeError("decode", "decord would distort frames: their size changes")
    return decoded


@functools.cache
def _print_levels() -> bool:
    """Have decord's FFmpeg write the level before each line.

    Return False where its library is out of reach: information could not be told from errors.
    """
    from decord._ffi import base

    print_level = 2  # AV_LOG_PRINT_LEVEL
    try:
        base._LIB.av_log_set_flags(print_level)
    except AttributeError:
        return False
    return True
