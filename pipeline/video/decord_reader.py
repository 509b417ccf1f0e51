"""The frames of a video file by decord, which tells of damage on standard error and nowhere else.

`decord2` is decord as it is maintained now, under the same name. It makes the symbols of its FFmpeg known to all
libraries that are loaded later: PyAV has to be imported before it (as `packets` does), or PyAV would run on decord's
FFmpeg in part, and take its messages away. Whether decord is heard is tried once, before it is trusted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import numpy as np

from .frame_selection import FrameSelection
from .native_stderr import capture_stderr, check_heard, tidy
from .packets import Packets
from .request import Decoded, DecodeError

_NEW_SIZE = re.compile(r"Changing (video )?frame properties on the fly")
"""Frames of another size in mid-stream are squeezed into the size of the first. The next line has both sizes; newer
FFmpegs say so of a change of the color range too, which does no harm."""
_SIZES = re.compile(r"filter context - (w: \d+ h: \d+) .*incoming frame - (w: \d+ h: \d+) ")


def read_with_decord(path: str, packets: Packets, selection: FrameSelection) -> Decoded:
    """Read the frames of a file whose packets say that decord counts them rightly.

    Raises ImportError without decord, EmptySegmentError, ConcealedErrors, and DecodeError when decord
    complains, even softly.
    """
    import decord  # not everywhere, and not needed by those who ask for PyAV

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
