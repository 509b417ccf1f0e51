"""The frames of a video that is a folder of images: `img_00001.jpg`, `img_00002.jpg`, ...

The images are the frames, in the order of the numbers in their names; only the chosen ones are read. A folder
has no frame rate: its frames have no times.

JPEG is read by OpenCV: both OpenCV and Pillow fill the holes of a damaged picture with gray and return it,
but libjpeg under OpenCV reports the damage on standard error. (JPEG has no checksum: damage that leaves a
valid file, with other blocks in it, cannot be detected.) Everything else is read by Pillow: once decord is
loaded, whose zlib conflicts with OpenCV's, OpenCV reads no PNG any more.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from .frame_selection import FrameSelection
from .native_stderr import capture_stderr
from .request import IMAGE_SUFFIXES, Decoded, DecodeError, check_n_pixels

STRAY_BYTES = 16
"""Bytes between the last block of a JPEG and its end mark that are no sign of damage, at most."""
OPENCV, PILLOW = f"opencv {cv2.__version__}", f"pillow {PIL.__version__}"


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
            image, reader = _read_image(folder, names[position])
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
            "open", f"is a folder with several series of images, not one video: {several}{more}"
        )
    return sorted(images, key=_order)


def _stem(name: str) -> str:
    return name.lower().rpartition(".")[0]


def _order(name: str) -> tuple[list[int], str, str]:
    stem = _stem(name)
    return [int(number) for number in re.findall(r"[0-9]+", stem)], stem, name


def _read_image(folder: str, name: str) -> tuple[np.ndarray, str]:
    """Return [H, W, 3] uint8, red-green-blue, upright, and who read it. Raises DecodeError with the image's name."""
    try:
        with open(os.path.join(folder, name), "rb") as file:  # noqa: PTH118, PTH123
            data = file.read()
    except OSError as error:
        raise DecodeError("decode", f"{name} cannot be read: {error.strerror}") from error
    if not data:
        raise DecodeError("decode", f"{name} is empty (0 bytes)")
    try:
        return (_jpeg(data, name), OPENCV) if data.startswith(b"\xff\xd8") else (_other(data, name), PILLOW)
    except (DecodeError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DecodeError("decode", f"{name} claims more pixels than are read: {error}") from error
    except Exception as error:  # Pillow alone has half a dozen kinds
        if isinstance(error, cv2.error) and error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(str(error)) from error
        if isinstance(error, UnidentifiedImageError):
            raise DecodeError("decode", f"{name} is no image, or damaged") from error
        raise DecodeError("decode", f"{name} is damaged: {error}") from error


def _jpeg(data: bytes, name: str) -> np.ndarray:
    with contextlib.suppress(UnidentifiedImageError), Image.open(io.BytesIO(data)) as header:
        check_n_pixels(header.width, header.height, f"{name} is an image")
    # IMREAD_COLOR: three channels whatever is stored, and the EXIF flag is honored, as the rotation flags of
    # video files are.
    with capture_stderr() as stderr_lines:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("the picture is cut off, or no picture")
    for line in stderr_lines:
        # Cameras leave a few stray bytes between a whole picture and its end mark (0xd9). When it is many,
        # the decoder lost its way in the picture, and was done too early.
        stray = re.search(r"(\d+) extraneous bytes before marker 0xd9", line)
        if stray and int(stray[1]) <= STRAY_BYTES:
            continue
        if "Corrupt JPEG data" in line or "Premature end of JPEG" in line:
            raise ValueError(line.strip())
    return image[..., ::-1]


def _other(data: bytes, name: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        check_n_pixels(image.width, image.height, f"{name} is an image")
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255 rather than scale
            upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
        return np.asarray(upright.convert("RGB"))
