"""Videos whose frames carry their own number, so that the pixels tell which frame they are."""

from __future__ import annotations

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
