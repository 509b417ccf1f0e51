"""What the packets of a video tell before anything is decoded, and whether decord can be trusted with it.

No frame may stand in for another. Decord breaks that rule silently: it numbers frames by counting what
its decoder gives out, so a key frame that is not where it expects one (open groups of pictures, the default
of HEVC encoders and usual in MPEG-4), a packet that an edit list hides, or a missing time stamp shifts every
later frame, and it fills gaps with the last frame it has. Its `fault_tol` does not notice. Reading the
packets takes a few milliseconds, and shows in which files decord's counting is right.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import av.error
import av.logging
import numpy as np

from .request import MAX_PIXELS, DecodeError, check_n_pixels

DEFAULT_RATE = 25.0
"""Frames a second where neither time stamps nor the header tell."""

# Containers and codecs in which a packet is a frame and carries its own time stamp.
DECORD_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
DECORD_CODECS = {"h264", "hevc", "mpeg4", "mjpeg", "vp8", "vp9", "av1", "libdav1d"}  # the last is of AV1


# FFmpeg's names of the formats whose files hold their frames themselves. Playlists and lists of files (concat,
# hls, dash, sdp, image2, imf, ...), scripts, and formats that open files beside their own are not among them.
_CONTAINERS = (
    "3g2 3gp amv apng asf asf_o av1 avi avs2 avs3 bink dhav dirac dnxhd dv evc flv gif gxf h261 h263 h264 hevc ivf "
    "live_flv m4v matroska mjpeg mjpeg_2000 mov mp4 mpeg mpegts mpegtsraw mpegvideo mpjpeg mv mxf nsv nut nuv obu ogg "
    "rm roq smk swf vc1 vc1test vivo vvc webm wtv xmv yop yuv4mpegpipe "
    "bmp_pipe exr_pipe j2k_pipe jpeg_pipe jpegxl_pipe pam_pipe pbm_pipe pgm_pipe png_pipe ppm_pipe tiff_pipe webp_pipe "
    "aac ac3 aiff amr caf flac mp3 w64 wav"  # of which it is said that they have no video stream
)
_OPTIONS = {"format_whitelist": _CONTAINERS.replace(" ", ","), "protocol_whitelist": "file"}


@dataclass
class Packets:
    """What the packets of a video tell before anything is decoded."""

    stream_index: int
    """Of the video among the streams of its file."""
    time_base: float
    """Seconds of one tick of a time stamp."""
    rate: float
    """Frames a second, as the header has it; 0 where it has none."""
    container: set[str]
    codec: str
    header_frames: int
    """Frames that the header claims; 0 where it claims none."""
    pts: list[int | None] = field(default_factory=list)
    """Presentation time stamp of each packet, in the order of decoding."""
    first_dts: int | None = None
    """Decoding time stamp of the first packet."""
    key_dts: list[int | None] = field(default_factory=list)
    """Decoding time stamps of the `keys`."""
    keys: list[int] = field(default_factory=list)
    """Which packets start a group of pictures."""
    non_idr_keyframes: set[int] = field(default_factory=set)
    """Keys after which a decoder may still need frames from before (H.264 without an IDR picture)."""
    discarded: set[int] = field(default_factory=set)
    """Packets that an edit list hides: decoded where others need them, never shown."""
    last_duration: int = 0
    damage: str = ""

    def __post_init__(self) -> None:
        self.order: dict[int, int] = {}
        """Position of each time stamp in the order of decoding; empty where stamps are missing or repeated."""
        self.rank: dict[int, int] = {}
        """Position of each time stamp in the order of showing."""
        self.display_pts: list[int] = []
        self.closed_gop_keyframes: list[int] = []
        """Keys with all packets before them shown before them, and all packets after them after."""

    def append(self, packet: Any, extradata: bytes | None) -> None:
        number = len(self.pts)
        if number == 0:
            self.first_dts = packet.dts
        if packet.is_keyframe:
            self.keys.append(number)
            self.key_dts.append(packet.dts)
            if self.codec == "h264" and not _has_idr(bytes(packet), extradata):
                self.non_idr_keyframes.add(number)
        if packet.is_discard:
            self.discarded.add(number)
        if packet.is_corrupt:
            self.damage = "the file is damaged or cut off"
        self.pts.append(packet.pts)
        self.last_duration = packet.duration or self.last_duration

    def finish(self) -> Packets:
        """Derive what follows from the packets, once they are all there."""
        stamps = [pts for pts in self.pts if pts is not None]
        if len(stamps) == len(self.pts) and len(set(stamps)) == len(stamps):
            self.order = {pts: position for position, pts in enumerate(stamps)}
            self.display_pts = sorted(
                pts for position, pts in enumerate(stamps) if position not in self.discarded
            )
            self.rank = {pts: position for position, pts in enumerate(self.display_pts)}
            latest_before = np.maximum.accumulate(np.array([-(1 << 62), *stamps]))
            earliest_after = np.minimum.accumulate(np.array([*stamps, 1 << 62])[::-1])[::-1]
            self.closed_gop_keyframes = [
                k
                for k in self.keys
                if latest_before[k] < stamps[k] == earliest_after[k] and k not in self.non_idr_keyframes
            ]
        return self

    @property
    def n_frames(self) -> int:
        """Number of frames that the video claims to show; for a damaged file, as many as its header says."""
        counted = len(self.pts) - len(self.discarded)
        return max(counted, self.header_frames) if self.damage else counted

    def frame_seconds(self, stamps: Sequence[int | None]) -> np.ndarray:
        """Return when frames are shown, counted from the first; [n] seconds. `stamps` are in the order of showing.

        AVI keeps times of decoding alone, and PyAV's guesses are then out of order: sorted, they are right,
        and where even that leaves two frames at one time, the frame rate tells.
        """
        known = [stamp for stamp in stamps if stamp is not None]
        if len(known) == len(stamps) == len(set(known)):
            times = np.array(sorted(known), dtype=np.float64)
            return (times - times[0]) * self.time_base
        return np.arange(len(stamps)) / (self.rate or DEFAULT_RATE)

    def end_seconds(self, seconds: np.ndarray) -> float:
        """Return when the last frame has been shown; frames are shown at `seconds` [n], in order."""
        last = self.last_duration * self.time_base or 1 / (self.rate or DEFAULT_RATE)
        return float(seconds[-1] + last)

    def late_start_seconds(self, stamps: Sequence[int | None], *, named: bool) -> float:
        """Return the seconds from the first frame to show to the first that the decoder gives.

        stamps  [n] of the frames that the decoder gives, in the order of showing
        named   whether the stamps are those of the packets; guesses otherwise, and the video then starts at most as
                late as the frames that did not come
        """
        if stamps[0] is None or not self.display_pts:
            return 0.0
        late = max(0, stamps[0] - self.display_pts[0]) * self.time_base
        missing = max(0, len(self.display_pts) - len(stamps))
        return late if named else min(late, missing / (self.rate or DEFAULT_RATE))

    @property
    def decord_unsafe_reason(self) -> str:
        """Why decord would give wrong frames of this file, which is not damaged; empty where it would not."""
        if not self.container & DECORD_CONTAINERS or self.codec not in DECORD_CODECS:
            return f"decord is not used for {self.codec} in {'/'.join(sorted(self.container))}"
        if not self.order:
            return "decord would mix up frames: time stamps are missing or repeated"
        if self.discarded:
            return "decord would mix up frames: the file hides some of them (edit list)"
        if self.closed_gop_keyframes != self.keys or self.keys[:1] != [0]:
            return "decord would mix up frames: key frames do not come in the order of showing"
        if "mov" in self.container and self._seeks_astray():
            return "decord would mix up frames: key frames are so close that it would begin at a wrong one"
        return ""

    def _seeks_astray(self) -> bool:
        """Return whether decord, which seeks to the time at which a key frame is shown, would find a later one.

        MP4 is searched by the times of decoding. FFmpeg takes the delay of showing off first where the file's edit list
        has moved the times of decoding below 0, and does not elsewhere: in fragmented files, or without an edit list,
        whose first frame is shown late.
        """
        delay = 0
        if self.first_dts is not None and self.first_dts < 0 and self.pts[0] is not None:
            delay = self.pts[0] - self.first_dts
        shown = [self.pts[key] for key in self.keys]
        return any(
            pts is None or dts is None or dts <= pts - delay
            for pts, dts in zip(shown, self.key_dts[1:], strict=False)
        )


def check_file(path: str) -> None:
    """Raise DecodeError for a path that is no file, or none that can be read."""
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("open", "is no regular file")
        if status.st_size == 0:
            raise DecodeError("open", "is empty (0 bytes)")
        with open(path, "rb"):  # noqa: PTH123
            pass
    except FileNotFoundError:
        raise DecodeError("missing", "no such file") from None
    except PermissionError:
        raise DecodeError("open", "permission denied") from None
    except OSError as error:
        raise DecodeError("open", f"cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def open_video(path: str) -> Iterator[tuple[Any, Any]]:
    """Open a video: (container, video stream), decoded in one thread; a cover picture is no video stream."""
    try:
        container = av.open(path, options=_OPTIONS, metadata_errors="replace")
    except MemoryError:
        raise
    except av.error.ArgumentError as error:
        raise DecodeError(
            "open", "not a video: its format is none that is read (lists of other files are not followed)"
        ) from error
    except av.error.FFmpegError as error:
        raise DecodeError("open", f"not a video: {error.strerror}") from error
    with container:
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise DecodeError("open", "no video stream")
        stream = streams[0]
        if getattr(stream, "codec_context", None) is None:
            raise DecodeError("open", "no decoder for its video stream")
        check_n_pixels(stream.codec_context.width, stream.codec_context.height, "has frames")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # of a frame that grows in mid-stream
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        yield container, stream


def _is_cover(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", 0)  # a Flag or an IntFlag, as the version has it
    return bool(getattr(disposition, "value", disposition) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def read_packets(path: str) -> Packets:
    """Read all packets of a video without decoding them. Raises DecodeError where there is no video."""
    with open_video(path) as (container, stream):
        packets = Packets(
            stream_index=stream.index,
            time_base=float(stream.time_base),
            rate=float(stream.average_rate or stream.base_rate or 0),
            container=set(container.format.name.split(",")),
            codec=stream.codec_context.name,
            header_frames=stream.frames,
        )
        lines = []
        try:
            with capture_pyav_log(av.logging.ERROR) as lines:
                for packet in container.demux(stream):
                    if packet.size:
                        packets.append(packet, stream.codec_context.extradata)
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            packets.damage = f"the file is damaged: {error.strerror}"
        # Some demuxers leave out what they cannot read, or stop at it, and tell only their log.
        if lines and not packets.damage:
            packets.damage = f"the file is damaged: {lines[0].strip()[:200]}"
    return packets.finish()


@contextlib.contextmanager
def capture_pyav_log(level: int = av.logging.INFO) -> Iterator[list[str]]:
    """Collect what PyAV's FFmpeg logs in this thread while the block runs, at this level and worse."""
    lines: list[str] = []
    before, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    av.logging.set_level(level)
    try:
        with av.logging.Capture() as logs:
            yield lines
            lines += [message for _, _, message in logs]
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(skip)


def _has_idr(data: bytes, extradata: bytes | None) -> bool:
    """Return whether an H.264 packet holds an IDR picture: the one kind of key frame that nothing reaches across."""
    idr = 5
    if not extradata or extradata[0] != 1:  # start codes (transport streams, AVI)
        return any(unit and unit[0] & 31 == idr for unit in data.split(b"\0\0\1")[1:])
    n_bytes, at = (extradata[4] & 3) + 1, 0  # each unit after its length (MP4, Matroska)
    while at + n_bytes < len(data):
        if data[at + n_bytes] & 31 == idr:
            return True
        at += n_bytes + int.from_bytes(data[at : at + n_bytes], "big")
    return False
