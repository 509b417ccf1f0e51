"""The frames of a video that is a folder of images: `img_00001.jpg`, `img_00002.jpg`, ...

The images are the frames, in the order of the numbers in their names; only the chosen ones are read. A folder
has no frame rate: its frames have no times.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .frame_selection import FrameSelection
from .image_file import read_image
from .request import IMAGE_SUFFIXES, Decoded, DecodeError


def read_image_folder(folder: str, selection: FrameSelection) -> Decoded:
    """Read the chosen frames of a folder of images, turned upright as their EXIF flags ask.

    Images of different sizes are each resized and cropped by themselves. `timestamps` are NaN, and
    `duration_seconds` is 0: the frame rate is unknown, and a guess would pass for a fact.
    Raises DecodeError for a folder whose images are no video, for an image that is damaged, by name, and
    where a segment is asked for.
    """
    names = frame_names(folder)
    if selection.request.start_seconds or selection.request.end_seconds is not None:
        raise DecodeError(
            "decode", "is a folder of images: without a frame rate it has no segments in seconds"
        )
    chosen = selection.frame_indices(len(names))
    readers: set[str] = set()

    def read(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        for position in positions:
            name = names[position]
            try:
                image, reader = read_image(os.path.join(folder, name))  # noqa: PTH118
            except DecodeError as error:
                raise DecodeError(error.stage, f"{name} {error.reason}") from error
            readers.add(reader)
            yield position, image

    decoded = selection.decode(
        chosen,
        read,
        frame_indices=chosen,
        timestamps=np.full(chosen.shape, np.nan),
        duration_seconds=0.0,
        n_frames=len(names),
        readable_frames=len(names),
        decoder="",
        note="images without a frame rate: no times are known",
    )
    return replace(decoded, decoder=f"images ({', '.join(sorted(readers))})")


def frame_names(folder: str) -> list[str]:
    """Return the names of the images of a folder, in the order of showing: `img_2.jpg` before `img_10.jpg`.

    Left out are hidden files, folders, and what is not called like an image. Optical flow often lies beside
    the frames: names that begin with `flow` are left out too, where there are others.
    Raises DecodeError where there are no images, or where names of several kinds leave no order to trust.
    """
    suffixes = tuple(sorted(IMAGE_SUFFIXES))
    try:
        with os.scandir(folder) as scan:  # a link that leads nowhere is a frame too: one that cannot be read
            names = [entry.name for entry in scan if not entry.is_dir()]
    except OSError as error:
        raise DecodeError("open", f"is a folder that cannot be read: {error.strerror}") from error
    images = [name for name in names if name.lower().endswith(suffixes) and not name.startswith(".")]
    if not images:
        raise DecodeError("open", f"is a folder without images ({', '.join(suffixes)})")
    images = [name for name in images if not name.lower().startswith("flow")] or images
    stems = Counter(_stem(name) for name in images)
    twice = min((stem for stem, count in stems.items() if count > 1), default=None)
    if twice is not None:
        same = ", ".join(sorted(name for name in images if _stem(name) == twice))
        raise DecodeError("open", f"is a folder with several images of one frame: {same}")
    # Two series in one folder (RGB and depth, two cameras) have no order: the frames of one are not the other's.
    series = Counter(re.sub(r"[0-9]+", "#", stem) for stem in stems)
    if len(series) > 1 and any("#" in pattern for pattern in series):
        several = ", ".join(f"{pattern} ({count})" for pattern, count in sorted(series.items())[:4])
        more = ", ..." if len(series) > 4 else ""
        raise DecodeError(
            "open",
            f"is a folder with several series of images, not one video: {several}{more} (--images reads each image "
            f"as a video)",
        )
    return sorted(images, key=_order)


def _stem(name: str) -> str:
    return name.lower().rpartition(".")[0]


def _order(name: str) -> tuple[list[int], str, str]:
    stem = _stem(name)
    return [int(number) for number in re.findall(r"[0-9]+", stem)], stem, name
