"""The frames of a video file by PyAV: by their time stamps, or, of damaged files, by counting them first."""

from __future__ import annotations

import contextlib
import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter
import numpy as np

from .frame_selection import FrameSelection
from .native_stderr import concealed_errors
from .packets import Packets, capture_pyav_log, open_video
from .request import Decoded, DecodeError, check_n_pixels

PYAV = f"pyav {av.__version__}"
_TOO_LARGE = re.compile(r"Picture size ([0-9]+)x([0-9]+) (is invalid|exceeds)")


class UnexpectedFrame(Exception):
    """The decoder did not give the frames that the packets promised."""


def read_by_time_stamp(path: str, packets: Packets, selection: FrameSelection, damage: list[str]) -> Decoded:
    """Find frames by their time stamps, jumping to closed key frames on the way.

    damage  what is known to be wrong with the frames; concealed errors are added
    Raises EmptySegmentError, and UnexpectedFrame as soon as the decoder gives another frame than the one that
    should come next.
    """
    rank = packets.rank
    jumps = (
        []
        if packets.discarded
        else sorted(rank[pts] for k in packets.closed_gop_keyframes if (pts := packets.pts[k]) is not None)
    )

    def read(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        rgb = _ToRgb()
        with open_video(path) as (container, stream):
            decoder, coming = _decode(container, stream), 0
            for position in positions:
                key = jumps[bisect_right(jumps, position) - 1] if jumps and position >= jumps[0] else 0
                if key > coming:
                    container.seek(packets.display_pts[key], stream=stream)
                    decoder, coming = _decode(container, stream), -1
                while True:
                    frame = next(decoder, None)
                    if frame is None or frame.is_corrupt or frame.pts not in rank:
                        raise UnexpectedFrame
                    here = rank[frame.pts]
                    if coming == -1 and here in jumps and here <= position:
                        coming = here  # the jump may end at an earlier key frame
                    if here != coming:
                        raise UnexpectedFrame
                    coming += 1
                    if here == position:
                        yield position, rgb(frame)
                        break

    try:
        with capture_pyav_log() as lines:
            decoded = selection.decode_by_time_stamp(packets, read, PYAV)
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise UnexpectedFrame from error
    damage += concealed_errors(lines)
    return decoded


def read_by_counting(path: str, packets: Packets, selection: FrameSelection, damage: list[str]) -> Decoded:
    """Read a file that is damaged, or whose packets do not tell its frames.

    The first pass decodes everything, converts nothing, and finds out which frames can be read; the
    second takes the chosen ones of these. A packet that cannot be decoded corrupts all that is decoded
    after it, up to the next key frame: what the decoder shows there are guesses.

    damage  what is known to be wrong with the frames; lost frames or concealed errors are added
    Raises EmptySegmentError, and DecodeError where no frame can be read.
    """
    found: list[tuple[int | None, bool]] = []  # time stamp, and whether the decoder itself calls it corrupted
    faults: list[int] = []
    with capture_pyav_log() as lines, open_video(path) as (container, stream):
        for frame in _decode(container, stream, faults):
            found.append((frame.pts, bool(frame.is_corrupt)))
    # Time stamps name the frames unless they are guesses (AVI has none): then the order of showing does.
    stamps = [pts for pts, _ in found if pts in packets.order]
    named = len(stamps) == len(found) and all(a < b for a, b in itertools.pairwise(stamps))
    positions = [packets.order[pts] for pts in stamps] if named else list(range(len(found)))
    faults += [position for position, (_, corrupted) in zip(positions, found, strict=True) if corrupted]
    corrupted = _corrupted(positions, sorted(faults), sorted(packets.keys))
    readable = [ordinal for ordinal, bad in enumerate(corrupted) if not bad]
    if not readable:
        for size in filter(None, map(_TOO_LARGE.search, lines)):
            check_n_pixels(int(size[1]), int(size[2]), "has frames")
        raise DecodeError("decode", f"0 readable frames, of {packets.n_frames or len(found)}")

    lost = max(packets.n_frames, len(found)) - len(readable)
    given = [pts for pts, _ in found]
    seconds = packets.frame_seconds(given)[readable] + packets.late_start_seconds(given, named=named)
    end = packets.end_seconds(seconds)
    chosen = selection.choose(seconds, end, lost)
    numbers = [packets.rank.get(stamps[ordinal], ordinal) for ordinal in readable] if named else readable

    def read(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        wanted, rgb = {readable[position]: position for position in positions}, _ToRgb()
        with open_video(path) as (container, stream):
            for ordinal, frame in enumerate(_decode(container, stream, [])):
                if ordinal in wanted:
                    if frame.pts != given[ordinal]:
                        break
                    yield wanted.pop(ordinal), rgb(frame)
                if not wanted:
                    return
        raise DecodeError("decode", "the file changes while it is read")

    # H.264 calls a frame corrupt whose errors it concealed: such frames are left out, and counted as lost.
    damage += [f"{lost} frames could not be read"] if lost else concealed_errors(lines)
    return selection.decode(
        chosen,
        read,
        frame_indices=np.array(numbers, dtype=np.int64)[chosen],
        timestamps=seconds[chosen],
        duration_seconds=end - float(seconds[0]),
        n_frames=max(packets.n_frames, len(found), max(numbers) + 1),
        readable_frames=len(readable),
        decoder=PYAV,
        note=selection.overshoot(end),
    )


def _corrupted(positions: list[int], faults: list[int], keys: list[int]) -> list[bool]:
    """Return which frames, decoded at `positions`, come after a fault with no key frame in between; `faults` and
    `keys` ascend."""
    corrupted = []
    for position in positions:
        fault = bisect_right(faults, position) - 1
        key = bisect_right(keys, position) - 1
        corrupted.append(fault >= 0 and (key < 0 or keys[key] <= faults[fault]))
    return corrupted


def _decode(container: Any, stream: Any, faults: list[int] | None = None) -> Iterator[Any]:
    """Yield frames in the order of showing. With `faults`, packets that fail are noted there and skipped."""
    number = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except MemoryError:
            raise
        except av.error.FFmpegError:
            if faults is None:
                raise
            packet = None  # nothing more can be read of the file: what the decoder still holds, below
            with contextlib.suppress(av.error.FFmpegError):
                yield from stream.decode(None)
        if packet is None:
            return
        try:
            yield from packet.decode()
        except MemoryError:
            raise
        except av.error.FFmpegError:
            if faults is None:
                raise
            if packet.size:
                faults.append(number)
        number += bool(packet.size)


class _ToRgb:
    """Converts frames to red-green-blue through FFmpeg's filters, as decord and torchcodec do.

    `VideoFrame.to_ndarray` would interpolate the colors of frames of 10 bits or with odd sides otherwise than they do.
    """

    def __init__(self) -> None:
        self._kind: tuple[int, int, str] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """Return [H, W, 3] uint8, turned upright as the file's rotation flag asks."""
        rotation = frame.rotation  # far out of range where the file's matrix is no rotation
        kind = frame.width, frame.height, frame.format.name
        if kind != self._kind:
            self._kind, self._graph = kind, _rgb_graph(*kind)
        self._graph.push(frame)
        pixels = self._graph.pull().to_ndarray()
        turns = round(rotation / 90) % 4 if abs(rotation) <= 360 else 0
        return np.rot90(pixels, turns) if turns else pixels


def _rgb_graph(width: int, height: int, pixel_format: str) -> Any:
    graph = av.filter.Graph()
    with contextlib.suppress(AttributeError):  # older versions cannot be told
        graph.threads = 1
    tick = Fraction(1, 1000)
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(pixel_format), time_base=tick)
    graph.link_nodes(source, graph.add("format", "rgb24"), graph.add("buffersink")).configure()
    return graph
