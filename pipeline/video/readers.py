"""The frames of one video, by decord or by PyAV; `frame_folders` has those of a folder of images.

`packets` says which files decord gets: those alone where its counting of frames is right. One line of
complaint from its decoder, and PyAV reads the file instead.

Codecs fill what they cannot read of a picture with guesses (FFmpeg: "concealing 120 DC, 120 AC, 120 MV errors in
P frame"), and call that no error but information: both decoders are heard at that level, and the note of such
a video begins with `damaged: `.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

import av
import av.error
import av.logging
import numpy as np

from .packets import Packets, check_file, listening_to_pyav, opened, read_packets
from .preprocess import Preprocess
from .request import DAMAGED, Decoded, DecodeError, VideoRequest, check_n_pixels
from .sampling import Sampling

PYAV = f"pyav {av.__version__}"
OVERSHOOT_SECONDS = 0.1
"""A segment that ends so little after its video does so because somebody rounded: not worth a note."""
HEARD_BYTES = 1 << 16
"""So much of the beginning and of the end of what native code writes is listened to."""


def decode_request(
    request: VideoRequest, sampling: Sampling, preprocess: Preprocess, decoder: str = "auto"
) -> Decoded:
    """Decode one video in this process. See `decode.decode_video`."""
    if decoder not in ("auto", "decord", "pyav"):
        raise ValueError(f"decoder must be auto, decord or pyav, got {decoder!r}")
    # Not abspath, which takes `link/..` out without following the link: another file might be read than was
    # checked. An absolute path is no `concat:` or `http:` for a decoder, and bytes that are no UTF-8 stay.
    path = os.path.join(os.getcwd(), os.fsdecode(request.path))  # noqa: PTH109, PTH118
    wish = FrameSelection(request, sampling, preprocess)
    if os.path.isdir(path):  # noqa: PTH112
        from .image_folder import read_frame_folder  # OpenCV is not for those with video files alone

        return read_frame_folder(path, wish)
    check_file(path)
    packets = read_packets(path)
    damage = [packets.damage] if packets.damage else []
    note = ""
    if decoder != "pyav":
        note = "" if damage else packets.decord_unsafe_reason
        if not note and not damage:
            try:
                return _read_with_decord(path, packets, wish)
            except ImportError:
                note = "decord is not installed"
            except _Concealed as error:
                damage.append(error.reason)
            except DecodeError as error:
                note = error.reason
        if decoder == "decord":
            raise DecodeError("decode", _joined(*damage, note))
        if note == "decord is not installed":
            note = ""
    try:
        if packets.display_pts and not packets.damage:
            with contextlib.suppress(UnexpectedFrame):
                return _read_by_time_stamp(path, packets, wish, damage, note)
        return _read_by_counting(path, packets, wish, damage, note)
    except EmptySegmentError:
        raise
    except DecodeError as error:
        reasons = dict.fromkeys(reason for reason in (*damage, note, error.reason) if reason)
        raise DecodeError(error.stage, "; ".join(reasons)) from error


class EmptySegmentError(DecodeError):
    """A segment without a frame: no decoder is to blame, and another one would not help."""

    def __init__(self, reason: str) -> None:
        super().__init__("decode", reason)


class _Concealed(DecodeError):
    """The codec guessed parts of frames, and said so."""

    def __init__(self, reason: str) -> None:
        super().__init__("decode", reason)


@dataclass(frozen=True)
class FrameSelection:
    """What is asked of a video."""

    request: VideoRequest
    sampling: Sampling
    preprocess: Preprocess

    def choose(self, seconds: np.ndarray, end: float, lost: int = 0) -> np.ndarray:
        """Which frames are looked at: those that the sampling chooses inside the segment.

        seconds  [n] when the frames that can be read are shown, counted from the first of the video
        end      when the last of them has been shown
        lost     frames of the video that cannot be read
        Returns [K, T] places in `seconds`. Raises EmptySegmentError.
        """
        # 1e-6: a frame that is shown at 0.4 s may stand at 0.39999999 here
        start, stop = self.request.start_seconds or 0.0, self.request.end_seconds
        first = int(np.searchsorted(seconds, start - 1e-6))
        last = len(seconds) if stop is None else int(np.searchsorted(seconds, stop - 1e-6))
        if last > first:
            return first + self.sampling.frame_indices(last - first)
        unread = f" ({lost} frames could not be read)" if lost else ""
        if start > end - 1e-6:
            raise EmptySegmentError(
                f"{self._segment} begins after the video's end at {format_seconds(end)} s{unread}"
            )
        around = " and ".join(
            f"{format_seconds(second)} s" for second in seconds[max(0, first - 1) : first + 1]
        )
        raise EmptySegmentError(f"{self._segment} has no frame: those next to it are at {around}{unread}")

    def overshoot(self, end: float) -> str:
        """What to note of a segment that reaches beyond the `end` of its video; empty when it does not."""
        stop = self.request.end_seconds
        if stop is None or stop <= end + OVERSHOOT_SECONDS:
            return ""
        return f"{self._segment} ends after the video's end at {format_seconds(end)} s"

    @property
    def _segment(self) -> str:
        start, stop = self.request.start_seconds or 0.0, self.request.end_seconds
        if stop is None:
            return f"the segment from {format_seconds(start)} s"
        return f"the segment {format_seconds(start)} to {format_seconds(stop)} s"

    def decoded(self, frames: Iterator[tuple[int, np.ndarray]], chosen: np.ndarray, **facts: Any) -> Decoded:
        """Preprocess frames (place, [H, W, 3]) as they come, and put each wherever it was chosen."""
        (clips, length), crops = chosen.shape, self.sampling.crops
        pixels = np.empty((clips, crops, length, *self.preprocess.size, 3), np.uint8)
        for place, frame in frames:
            cropped = self.preprocess.pixels(frame, crops, self.sampling.crop_positions)
            for clip, t in np.argwhere(chosen == place):
                pixels[clip, :, t] = cropped
        repeated = any(len(np.unique(clip)) < length for clip in chosen)
        pixels = pixels.reshape(clips * crops, length, *self.preprocess.size, 3)
        return Decoded(pixels=pixels, repeated=repeated, **facts)


def format_seconds(seconds: float) -> str:
    """Seconds for a person, to the millisecond: 30.0, 2.36."""
    short = f"{seconds:.3f}".rstrip("0")
    return f"{short}0" if short.endswith(".") else short


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _noted(damage: Sequence[str], *others: str) -> str:
    """The note of a video: what is wrong with its frames first, and `damaged: ` before it."""
    return DAMAGED * bool(damage) + _joined(*damage, *others)


class UnexpectedFrame(Exception):
    """The decoder did not give the frames that the packets promised."""


def _seconds(packets: Packets, stamps: list[int | None]) -> np.ndarray:
    """When frames are shown, counted from the first; [n] seconds. The frames are in the order of showing.

    AVI keeps times of decoding alone, and PyAV's guesses are then out of order: sorted, they are right,
    and where even that leaves two frames at one time, the frame rate tells.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == len(stamps) == len(set(known)):
        times = np.array(sorted(known), dtype=np.float64)
        return (times - times[0]) * packets.time_base
    return np.arange(len(stamps)) / (packets.rate or 25.0)


def _end(packets: Packets, seconds: np.ndarray) -> float:
    """When the last frame has been shown; frames are shown at `seconds`, in order."""
    last = packets.last_duration * packets.time_base or 1 / (packets.rate or 25.0)
    return float(seconds[-1] + last)


# ---- decord


def _read_with_decord(path: str, packets: Packets, wish: FrameSelection) -> Decoded:
    """Frames by decord, of a file without traps. Raises DecodeError when decord complains, even softly."""
    import decord  # not everywhere, and not needed by those who ask for PyAV

    decord.logging.set_level(decord.logging.INFO if _with_levels() else decord.logging.ERROR)
    seconds = _seconds(packets, list(packets.display_pts))
    end = _end(packets, seconds)
    chosen = wish.choose(seconds, end)

    def frames(reader: Any) -> Iterator[tuple[int, np.ndarray]]:
        for place in np.unique(chosen).tolist():  # one by one: a clip of large frames need not fit in memory
            yield place, reader.get_batch([place]).asnumpy()

    with capture_stderr() as lines:
        try:
            reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
            if len(reader) != len(packets.display_pts):
                raise DecodeError(
                    "decode", f"decord counts {len(reader)} frames, not {len(packets.display_pts)}"
                )
            decoded = wish.decoded(
                ((place, batch[0]) for place, batch in frames(reader)),
                chosen,
                frame_indices=chosen,
                timestamps=seconds[chosen],
                duration_seconds=end,
                n_frames=packets.n_frames,
                readable_frames=packets.n_frames,
                decoder=f"decord {decord.__version__}",
                note=wish.overshoot(end),
            )
        except (decord.DECORDError, RuntimeError, AssertionError, IndexError) as error:
            raise DecodeError("decode", f"decord: {_tidy(str(error))}") from error
    stderr_lines = [line for line in lines if not _NO_ERROR.search(line)]
    if concealed := _count_concealed(lines):
        raise _Concealed(_joined(f"decord: {concealed}", *map(_tidy, stderr_lines[-1:])))
    if stderr_lines:
        raise DecodeError("decode", f"decord: {_tidy(stderr_lines[-1])}")
    if any(_NEW_SIZE.search(line) for line in lines):
        raise DecodeError("decode", "decord would distort frames: their size changes")
    return decoded


_NO_ERROR = re.compile(r"^(\[[^]]* @ 0x[0-9a-f]+\] )*\[(warning|info|verbose|debug|trace)\] ")
_NEW_SIZE = re.compile(r"Changing (video )?frame properties on the fly")
"""Frames of another size in mid-stream are squeezed into the size of the first."""
_TOO_LARGE = re.compile(r"Picture size ([0-9]+)x([0-9]+) (is invalid|exceeds)")
_CONCEALING = re.compile(r"\bconcealing [0-9]+ DC\b")


def _count_concealed(lines: Sequence[str]) -> str:
    """What to say of the frames whose errors the codec concealed; empty where there are none."""
    count = sum(bool(_CONCEALING.search(line)) for line in lines)
    return f"the codec concealed errors in {count} {'frame' if count == 1 else 'frames'}" if count else ""


@functools.cache
def _with_levels() -> bool:
    """Have decord's FFmpeg write before each line how grave it is. False where its library is out of reach:
    information could not be told from errors."""
    from decord._ffi import base

    print_level = 2  # AV_LOG_PRINT_LEVEL
    try:
        base._LIB.av_log_set_flags(print_level)
    except AttributeError:
        return False
    return True


@contextlib.contextmanager
def capture_stderr() -> Iterator[list[str]]:
    """Catch what native code writes to standard error, of the whole process, while the block runs.

    Decord's decoder tells of damage there and nowhere else. The lines are in the list afterwards; where there
    are very many, those in the middle are left out.
    """
    lines: list[str] = []
    with _nameless_file() as caught:
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
                data = caught.read(HEARD_BYTES)
                if caught.seek(0, os.SEEK_END) > HEARD_BYTES:
                    caught.seek(max(HEARD_BYTES, caught.tell() - HEARD_BYTES))
                    data += caught.read()
            except OSError as error:
                data = f"what the decoder says cannot be heard: {error.strerror}".encode()
            lines += [line for line in data.decode(errors="replace").splitlines() if line.strip()]


def _nameless_file() -> BinaryIO:
    """In memory where the system can: a disk that is full must not make damaged videos look sound."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("vidclip-heard", os.MFD_CLOEXEC)
        return cast(BinaryIO, open(descriptor, "w+b", buffering=0))  # noqa: PTH123
    return cast(BinaryIO, tempfile.TemporaryFile(buffering=0))


def _tidy(message: str) -> str:
    """The last line of a decoder's message, without addresses, times and source files."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    last = re.sub(r"\[[\w, ]+ @ 0x[0-9a-f]+\] *|\[\d\d:\d\d:\d\d\] *|\S+\.(cc|h|cpp):\d+: *", "", last)
    last = re.sub(r"^\[(panic|fatal|error)\] *", "", last)
    last = re.sub(r"Check failed: .*?\) (?=[A-Z])", "", last)
    return last.strip()[:200]


# ---- PyAV


def _read_by_time_stamp(
    path: str, packets: Packets, wish: FrameSelection, damage: Sequence[str], note: str
) -> Decoded:
    """Frames by PyAV, found by their time stamps, jumping to clean key frames on the way.

    Raises _Astray as soon as the decoder gives another frame than the one that should come next.
    """
    seconds = _seconds(packets, list(packets.display_pts))
    end = _end(packets, seconds)
    chosen = wish.choose(seconds, end)
    rank = {pts: place for place, pts in enumerate(packets.display_pts)}
    jumps = (
        []
        if packets.discarded
        else sorted(rank[pts] for k in packets.closed_gop_keyframes if (pts := packets.pts[k]) is not None)
    )

    def frames() -> Iterator[tuple[int, np.ndarray]]:
        with opened(path) as (container, stream):
            decoder, coming = _decode(container, stream), 0
            for place in np.unique(chosen).tolist():
                key = jumps[bisect_right(jumps, place) - 1] if jumps and place >= jumps[0] else 0
                if key > coming:
                    container.seek(packets.display_pts[key], stream=stream)
                    decoder, coming = _decode(container, stream), -1
                while True:
                    frame = next(decoder, None)
                    if frame is None or frame.is_corrupt or frame.pts not in rank:
                        raise UnexpectedFrame
                    here = rank[frame.pts]
                    if coming == -1 and here in jumps and here <= place:
                        coming = here  # the jump may end at an earlier key frame
                    if here != coming:
                        raise UnexpectedFrame
                    coming += 1
                    if here == place:
                        yield place, _rgb(frame)
                        break

    try:
        with listening_to_pyav() as lines:
            decoded = wish.decoded(
                frames(),
                chosen,
                frame_indices=chosen,
                timestamps=seconds[chosen],
                duration_seconds=end,
                n_frames=packets.n_frames,
                readable_frames=packets.n_frames,
                decoder=PYAV,
            )
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise UnexpectedFrame from error
    concealed = _count_concealed(lines)
    damage = [*damage, concealed] if concealed else damage
    return replace(decoded, note=_noted(damage, note, wish.overshoot(end)))


def _read_by_counting(
    path: str, packets: Packets, wish: FrameSelection, damage: Sequence[str], note: str
) -> Decoded:
    """Frames by PyAV, of files that are damaged or whose packets do not tell their frames.

    The first pass decodes everything, converts nothing, and finds out which frames can be read; the
    second takes the chosen ones of these. A packet that cannot be decoded spoils all that is decoded
    after it, up to the next key frame: what the decoder shows there are guesses.
    """
    found: list[tuple[int | None, bool]] = []  # time stamp, and whether the decoder itself calls it corrupted
    faults: list[int] = []
    with listening_to_pyav() as lines, opened(path) as (container, stream):
        for frame in _decode(container, stream, faults):
            found.append((frame.pts, bool(frame.is_corrupt)))
    # Time stamps name the frames unless they are guesses (AVI has none): then the order of showing does.
    stamps = [pts for pts, _ in found if pts in packets.order]
    named = len(stamps) == len(found) and all(a < b for a, b in itertools.pairwise(stamps))
    positions = [packets.order[pts] for pts in stamps] if named else list(range(len(found)))
    faults += [position for position, (_, corrupted) in zip(positions, found, strict=True) if corrupted]
    corrupted = corrupted_positions(positions, faults, packets.keys)
    readable = [ordinal for ordinal, bad in enumerate(corrupted) if not bad]
    if not readable:
        for size in filter(None, map(_TOO_LARGE.search, lines)):
            check_n_pixels(int(size[1]), int(size[2]), "has frames")
        raise DecodeError("decode", f"0 readable frames, of {packets.n_frames or len(found)}")

    lost = max(packets.n_frames, len(found)) - len(readable)
    late = _late_start(packets, found[0][0])
    if not named:  # guesses again: the video starts at most as late as the frames that did not come
        late = min(late, max(0, len(packets.display_pts) - len(found)) / (packets.rate or 25.0))
    seconds = _seconds(packets, [pts for pts, _ in found])[readable] + late
    end = _end(packets, seconds)
    chosen = wish.choose(seconds, end, lost)
    rank = {pts: place for place, pts in enumerate(packets.display_pts)}
    numbers = [rank.get(stamps[ordinal], ordinal) for ordinal in readable] if named else readable
    wanted = {readable[place]: place for place in np.unique(chosen).tolist()}

    def frames() -> Iterator[tuple[int, np.ndarray]]:
        left = len(wanted)
        with opened(path) as (container, stream):
            for ordinal, frame in enumerate(_decode(container, stream, [])):
                if ordinal in wanted:
                    if frame.pts != found[ordinal][0]:
                        raise DecodeError("decode", "the file changes while it is read")
                    yield wanted[ordinal], _rgb(frame)
                    left -= 1
                if not left:
                    return
        raise DecodeError("decode", "the file changes while it is read")

    # H.264 calls a frame corrupt whose errors it concealed: such frames are left out, and counted as lost.
    harm = f"{lost} frames could not be read" if lost else _count_concealed(lines)
    damage = [*damage, harm] if harm else damage
    return wish.decoded(
        frames(),
        chosen,
        frame_indices=np.array(numbers, dtype=np.int64)[chosen],
        timestamps=seconds[chosen],
        duration_seconds=end - float(seconds[0]),
        n_frames=max(packets.n_frames, len(found), max(numbers) + 1),
        readable_frames=len(readable),
        decoder=PYAV,
        note=_noted(damage, note, wish.overshoot(end)),
    )


def _late_start(packets: Packets, first_given: int | None) -> float:
    """Seconds from the first frame to show to the first that the decoder gives."""
    if first_given is None or not packets.display_pts:
        return 0.0
    return max(0, first_given - packets.display_pts[0]) * packets.time_base


def corrupted_positions(positions: list[int], faults: list[int], keys: list[int]) -> list[bool]:
    """Which frames, decoded at `positions`, come after a fault with no key frame in between."""
    faults, keys = sorted(faults), sorted(keys)
    corrupted = []
    for position in positions:
        fault = bisect_right(faults, position) - 1
        key = bisect_right(keys, position) - 1
        corrupted.append(fault >= 0 and (key < 0 or keys[key] <= faults[fault]))
    return corrupted


def _decode(container: Any, stream: Any, faults: list[int] | None = None) -> Iterator[Any]:
    """Frames in the order of showing. With `faults`, packets that fail are noted there and skipped."""
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


def _rgb(frame: Any) -> np.ndarray:
    """[H, W, 3] uint8, turned upright as the file's rotation flag asks."""
    pixels = frame.to_ndarray(format="rgb24")
    rotation = frame.rotation  # far out of range where the file's matrix is no rotation
    turns = round(rotation / 90) % 4 if abs(rotation) <= 360 else 0
    return np.rot90(pixels, turns) if turns else pixels
