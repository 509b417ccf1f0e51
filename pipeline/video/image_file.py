"""An image: a frame of a folder of images, or by itself a video of one frame.

JPEG is read by OpenCV: both OpenCV and Pillow fill the holes of a damaged picture with gray and return it,
but libjpeg under OpenCV reports the damage on standard error. (JPEG has no checksum: damage that leaves a
valid file, with other blocks in it, cannot be detected.) Everything else is read by Pillow: once decord is
loaded, whose zlib conflicts with OpenCV's, OpenCV reads no PNG any more.

What a file is follows from its first bytes. Formats beyond those of `IMAGE_SUFFIXES` are refused whatever the file
is called: Pillow would start other programs for some (Ghostscript for EPS).
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator

import cv2
import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from .frame_selection import FrameSelection
from .native_stderr import capture_stderr
from .packets import check_file
from .request import Decoded, DecodeError, check_n_pixels

FORMATS = ("PNG", "WEBP", "BMP")
"""What Pillow is asked to recognize; OpenCV reads JPEG."""
STRAY_BYTES = 16
"""Bytes between the last block of a JPEG and its end mark that are no sign of damage, at most."""
OPENCV, PILLOW = f"opencv {cv2.__version__}", f"pillow {PIL.__version__}"


def read_image_file(path: str, selection: FrameSelection) -> Decoded:
    """Read an image as a video of one frame, which repeats where a clip has more.

    `timestamps` are NaN and `duration_seconds` is 0, as of a folder of images.
    Raises DecodeError for a file that is missing, damaged, or no still image, and where a segment is asked for.
    """
    check_file(path)
    if selection.request.start_seconds or selection.request.end_seconds is not None:
        raise DecodeError("decode", "is an image: it has no segments in seconds")
    image, reader = read_image(path)
    chosen = selection.frame_indices(1)

    def read(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        return ((position, image) for position in positions)

    return selection.decode(
        chosen,
        read,
        frame_indices=chosen,
        timestamps=np.full(chosen.shape, np.nan),
        duration_seconds=0.0,
        n_frames=1,
        readable_frames=1,
        decoder=f"images ({reader})",
    )


def read_image(path: str) -> tuple[np.ndarray, str]:
    """Return an image [H, W, 3] uint8, red-green-blue, upright as its EXIF flag asks, and who read it.

    Raises DecodeError, whose reason begins with a verb: `is damaged: ...`.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read()
    except OSError as error:
        raise DecodeError("decode", f"cannot be read: {error.strerror}") from error
    if not data:
        raise DecodeError("decode", "is empty (0 bytes)")
    try:
        return (_jpeg(data), OPENCV) if data.startswith(b"\xff\xd8") else (_other(data), PILLOW)
    except (DecodeError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DecodeError("decode", f"claims more pixels than are read: {error}") from error
    except Exception as error:  # Pillow alone has half a dozen kinds
        if isinstance(error, cv2.error) and error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(str(error)) from error
        if isinstance(error, UnidentifiedImageError):
            raise DecodeError("decode", "is no image (JPEG, PNG, WebP, BMP), or damaged") from error
        raise DecodeError("decode", f"is damaged: {error}") from error


def _jpeg(data: bytes) -> np.ndarray:
    with (
        contextlib.suppress(UnidentifiedImageError),
        Image.open(io.BytesIO(data), formats=["JPEG"]) as header,
    ):
        check_n_pixels(header.width, header.height, "is an image")
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


def _other(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check_n_pixels(image.width, image.height, "is an image")
        n_frames: int = getattr(image, "n_frames", 1)
        if n_frames > 1:
            raise DecodeError("decode", f"is animated ({n_frames} frames): make it a video, or a still image")
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255 rather than scale
            upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
        return np.asarray(upright.convert("RGB"))
