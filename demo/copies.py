"""Copies of a video as other programs make them: what a search for near-duplicates has to find.

crf       the same frames at a low quality
scale     three quarters of the width and height
rate      15 frames a second in the place of 10, by repeating some
codec     MPEG-4 part 2 in the place of H.264
start     without the first tenth
end       without the last tenth
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from .world import FRAMES_PER_SECOND

CHANGES = ("crf", "scale", "rate", "codec", "start", "end")


def write_copies(video: Path, folder: Path) -> list[Path]:
    """Write a copy `<change>.mp4` of a video of the world for each of CHANGES that is not there yet; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{change}.mp4" for change in CHANGES]
    if all(path.exists() for path in paths):
        return paths
    with av.open(str(video)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    height, width = frames.shape[1:3]
    smaller = (width * 3 // 8 * 2, height * 3 // 8 * 2)
    tenth = round(len(frames) / 10)
    crf, scale, rate, codec, start, end = paths
    _encode(crf, frames, options={"crf": "35"})
    _encode(scale, [cv2.resize(frame, smaller, interpolation=cv2.INTER_AREA) for frame in frames])
    _encode(rate, frames[(np.arange(int(1.5 * len(frames))) / 1.5).astype(int)], rate=1.5 * FRAMES_PER_SECOND)
    _encode(codec, frames, codec="mpeg4", options={"qscale": "5"})
    _encode(start, frames[tenth:])
    _encode(end, frames[:-tenth])
    return paths


def _encode(
    path: Path,
    frames: np.ndarray | list[np.ndarray],
    *,
    rate: float = FRAMES_PER_SECOND,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:
    unfinished = path.with_name(f".{path.stem}.part.mp4")
    try:
        with av.open(str(unfinished), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(100))
            stream.options = options or {"crf": "23"}
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
