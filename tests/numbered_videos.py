"""Videos whose frames carry their own number, so that the pixels tell which frame they are."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np

from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling

HEIGHT, WIDTH = 96, 128
RATE = 25
AS_THEY_ARE = Preprocess((HEIGHT, WIDTH), resize_mode="squash")
DEFAULT = ClipSpec(Sampling(), AS_THEY_ARE)
GOOD = [
    "h264.mp4",
    "h264.mkv",
    "open_gop.mp4",
    "intra_refresh.mp4",
    "mpeg4.mp4",
    "mpeg4.avi",
    "h264.ts",
    "vp9.webm",
    "fragmented.mp4",
    "no_edit_list.mp4",
]


def numbered_frame(number):
    """A frame that shows its number: ten blocks, light for 1 and dark for 0."""
    frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for bit in range(10):
        if number >> bit & 1:
            top, left = 8 + bit // 5 * 40, 4 + bit % 5 * 25
            frame[top : top + 32, left : left + 20] = 220
    return frame


def frame_numbers(frames):
    """The numbers that frames show, [..., H, W, 3] -> [...]."""
    blocks = [
        frames[..., 16 + b // 5 * 40 : 32 + b // 5 * 40, 8 + b % 5 * 25 : 20 + b % 5 * 25, :]
        for b in range(10)
    ]
    return sum((block.mean((-1, -2, -3)) > 130).astype(int) << bit for bit, block in enumerate(blocks))


def render(
    path,
    n_frames=60,
    codec="libx264",
    *,
    pts=None,
    draw=numbered_frame,
    muxer=None,
    keys=(),
    pixel_format="yuv420p",
    **options,
):
    """A video whose frames show their numbers; `keys` are made key frames beside those that `g` makes."""
    defaults = {"libx264": {"g": "12", "bf": "2"}, "mpeg4": {"g": "12", "bf": "2"}}.get(codec, {})
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=defaults | options)
        stream.height, stream.width = draw(0).shape[:2]
        stream.pix_fmt = pixel_format
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(draw(number)), format="rgb24")
            if pts is not None:
                frame.pts = pts[number]
                frame.time_base = Fraction(1, RATE)
            if number in keys:
                frame.pict_type = av.video.frame.PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damaged(source, path, keep):
    """The first part of a file, its frames cut off after the share `keep`; the header is in front."""
    content = source.read_bytes()
    data = content.index(b"mdat")
    cut = data + int((len(content) - data) * keep)
    return content[:cut], len(content), path


def truncated(source, path, keep=0.5):
    head, _, path = damaged(source, path, keep)
    path.write_bytes(head)
    return path


def zeroed(source, path, keep=0.5):
    head, length, path = damaged(source, path, keep)
    path.write_bytes(head.ljust(length, b"\0"))
    return path


def patched(source, path, box, offset, data):
    """A copy of an MP4 file with the bytes at `offset` behind a box's name replaced."""
    content = bytearray(source.read_bytes())
    at = content.index(box) + 4 + offset
    content[at : at + len(data)] = data
    path.write_bytes(content)
    return path


# The matrix of a track header (a, b, u, c, d, v; 16.16 fixed point), and quarter turns that undo it.
ROTATIONS = {90: ((0, 1, 0, -1, 0, 0), 1), 180: ((-1, 0, 0, 0, -1, 0), 2), 270: ((0, -1, 0, 1, 0, 0), 3)}


def rotated(folder, degrees):
    """Two MP4 files of 12 frames that lie on their sides, or stand on their heads: without the flag that says so, and with it."""
    matrix, turns = ROTATIONS[degrees]
    stored = render(folder / "lying.mp4", 12, draw=lambda number: np.rot90(numbered_frame(number), turns))
    flag = struct.pack(">6i", *(value << 16 for value in matrix))
    return stored, patched(stored, folder / "flagged.mp4", b"tkhd", 40, flag)


def edited(source, path):
    """A copy of an MP4 file whose edit list shows the frames 20 to 49 alone."""
    content = source.read_bytes()
    at = content.index(b"elst") + 12
    duration, media_time = struct.unpack(">II", content[at : at + 8])
    ticks = struct.unpack(">I", content[(m := content.index(b"mdhd") + 16) : m + 4])[0] // RATE
    return patched(source, path, b"elst", 8, struct.pack(">II", duration * 30 // 60, media_time + 20 * ticks))


def without_a_slice(source, path, packet):
    """A copy of an MP4 file, one H.264 slice of a frame renamed to what decoders skip: nothing else is wrong."""
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    at, size = packets[packet]
    end, slices, filler = at + size, [], 12
    while at < end:
        if content[at + 4] & 31 in (1, 5):
            slices.append(at + 4)
        at += 4 + int.from_bytes(content[at : at + 4], "big")
    assert len(slices) == 4
    content[slices[1]] = filler
    path.write_bytes(content)
    return path


def turning(path):
    """A video whose first 20 frames are wider than high, and the others higher than wide: light on the left."""
    encoded = []
    for start, (width, height) in [(0, (WIDTH, HEIGHT)), (20, (HEIGHT, WIDTH))]:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.options = Fraction(1, RATE), {"g": "10", "bf": "0"}
        for number in range(start, start + 20):
            picture = np.zeros((height, width, 3), np.uint8)
            picture[:, : width // 2] = 200
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            encoded += encoder.encode(frame)
        encoded += encoder.encode(None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for packet in encoded:
            packet.stream, packet.time_base = stream, Fraction(1, RATE)
            container.mux(packet)
    return path
