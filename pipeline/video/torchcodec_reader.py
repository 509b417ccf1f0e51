"""The frames of a video file by torchcodec, on the CPU or by the decoder of an NVIDIA GPU: an extra, `vidclip[torchcodec]`.

torchcodec does not look for frames itself: it is told which there are, and at which key frames it may begin, by what
`packets` has read. Every frame must have the time stamp that was asked for; and after a jump, the key frame that was
jumped to has to come out first, so that nothing is decoded from the middle of a group of pictures. Where one does not,
the file is read again without jumps. torchcodec brings torch with it, and is imported only where it is asked for.
"""

from __future__ import annotations

import contextlib
import io
import json
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from .frame_selection import FrameSelection
from .native_stderr import capture_stderr, check_heard
from .packets import Packets
from .request import Decoded, DecodeError
from .torchcodec_setup import DEVICES, audible, is_heard, prepare, reading_errors, video_decoder

SEEKABLE = {"mov", "matroska", "webm"}
"""Containers in which FFmpeg finds key frames by their times. In others it guesses a place, and looks around."""
CONTAINERS = SEEKABLE | {"asf", "flv", "mpegts"}
"""Containers that keep the times at which frames are shown. AVI keeps none: those that FFmpeg makes up for its frames can
belong to others."""


def read_with_torchcodec(path: str, packets: Packets, selection: FrameSelection, decoder: str) -> Decoded:
    """Read the frames of a file that is not known to be damaged.

    decoder    one of DEVICES
    Raises DecoderUnavailable (see `prepare`), EmptySegmentError, ConcealedErrors, and DecodeError where the file does not
    tell its frames, torchcodec gives others, or FFmpeg complains, even softly.
    """
    name = prepare(decoder)
    if not packets.container & CONTAINERS:
        container = "/".join(sorted(packets.container))
        raise DecodeError(
            "decode", f"torchcodec is not used for {container}, whose files do not say when a frame is shown"
        )
    if not packets.order:
        raise DecodeError("decode", "torchcodec would mix up frames: time stamps are missing or repeated")
    if not is_heard():
        raise DecodeError(
            "decode", "torchcodec is not used: what it reports of damage is not heard in this process"
        )
    jumps = _jumps(packets)
    with contextlib.suppress(DecodeError):
        if len(jumps) > 1:
            return _read(path, packets, selection, DEVICES[decoder], name, jumps)
    return _read(path, packets, selection, DEVICES[decoder], name, [0])


def _jumps(packets: Packets) -> list[int]:
    """Return where decoding may begin: positions in the order of showing, the first one included."""
    if not packets.container & SEEKABLE or packets.discarded:
        return [0]
    keys = (packets.pts[key] for key in packets.closed_gop_keyframes)
    return sorted({0} | {packets.rank[pts] for pts in keys if pts is not None})


def _read(
    path: str, packets: Packets, selection: FrameSelection, device: str, name: str, jumps: list[int]
) -> Decoded:
    def read(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            frames, decoded = _Frames(file, packets, device, jumps), -1
            for position in positions:  # one by one: a clip of large frames need not fit in memory
                start = jumps[bisect_right(jumps, position) - 1]
                if decoded < start < position:
                    frames[start]
                yield position, frames[position]
                decoded = position

    with capture_stderr() as lines:
        decoded = selection.decode_by_time_stamp(packets, read, name)
    check_heard(lines, "torchcodec")
    return decoded


class _Frames:
    """The frames of an open file by their position in the order of showing.

    The file is handed over open: FFmpeg then opens no other one, whatever it holds.
    """

    def __init__(self, file: io.RawIOBase, packets: Packets, device: str, jumps: list[int]) -> None:
        """jumps    positions at which decoding may begin; 0 stands for the beginning of the file"""
        self._packets, self._device = packets, device
        stamps = packets.display_pts
        # Looking for the time of the first frame may lead to a later key frame: containers are searched by the times of
        # decoding, which are earlier. So the beginning is a frame of its own, which is never asked for.
        begin = min(stamps[0], stamps[0] if packets.first_dts is None else packets.first_dts)
        self._shift = int(begin < stamps[0])
        keys = set(jumps[1:]) if self._shift else set(jumps)
        listed = [{"pts": begin, "duration": 1, "key_frame": 1}] * self._shift
        listed += [
            {"pts": pts, "duration": 1, "key_frame": int(position in keys)}
            for position, pts in enumerate(stamps)
        ]
        with reading_errors(), audible():
            self._video = video_decoder()(
                file,
                stream_index=packets.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device=device,
                custom_frame_mappings=json.dumps({"frames": listed}),
            )
        if device == "cuda" and self._video.cpu_fallback:
            raise DecodeError("decode", f"the GPU does not decode {packets.codec} of this kind")

    def __getitem__(self, position: int) -> np.ndarray:
        """Return a frame [H, W, 3] uint8, upright. Raises DecodeError where another one comes."""
        with reading_errors():
            frame = self._video.get_frame_at(position + self._shift)
            pixels = frame.data.cpu().numpy()
        found, asked = round(frame.pts_seconds / self._packets.time_base), self._packets.display_pts[position]
        if found != asked:
            at, instead = (tick * self._packets.time_base for tick in (asked, found))
            raise DecodeError(
                "decode", f"torchcodec gives the frame at {instead:.3f} s for the one at {at:.3f} s"
            )
        return pixels
