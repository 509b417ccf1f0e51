"""By what a video's content is recognized when its file has another name: `content_digest`, and decoding with it.

A file of at most 64 MiB is read as a whole: equal digests are equal bytes. Of a larger one, its size and 32 pieces that
lie evenly from its first byte to its last are read, 16 MiB in all; as these prove less, who compares them asks for the
same time of modification too. Of a folder of images the sizes and images count, in the order of showing, and no names.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import stat
from dataclasses import replace
from pathlib import Path

from .clip_spec import ClipSpec
from .readers import decode_video
from .request import Decoded, DecodeError, VideoRequest

WHOLE_BYTES = 64 * 2**20
"""Up to this size all bytes are read."""
_N_PIECES, _PIECE_BYTES = 32, 2**19
_MOST_IMAGES = 1024
"""Folders with more images are read in parts: each image is a file to open."""


def content_digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of a video file, an image, or a folder of images; empty for what is none, or cannot be read.

    Its form is `KIND:DIGITS`: `sha256` over all bytes of a file, as `sha256sum` prints it, `sha256-images` over all
    images of a folder, and `sha256-parts` and `sha256-images-parts` over parts of large ones.
    """
    try:
        if Path(path).is_dir():
            return _of_folder(Path(path))
        with _open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= WHOLE_BYTES:
                sha = hashlib.sha256()
                while piece := file.read(2**20):
                    sha.update(piece)
                return f"sha256:{sha.hexdigest()}"
            sha = hashlib.sha256(b"%d " % size)
            for number in range(_N_PIECES):
                place = (size - _PIECE_BYTES) * number // (_N_PIECES - 1)
                sha.update(os.pread(file.fileno(), _PIECE_BYTES, place))
            return f"sha256-parts:{sha.hexdigest()}"
    except (OSError, ValueError, DecodeError):
        return ""


def is_whole(digest: str) -> bool:
    """Return whether equal digests of this kind mean equal bytes."""
    return digest.partition(":")[0] in ("sha256", "sha256-images")


def decode_with_digest(request: VideoRequest, clip_spec: ClipSpec, decoder: str = "auto") -> Decoded:
    """Do as `decode_video`, and digest the file that is decoded; without a digest where it changes meanwhile."""
    before = _stamp(request.path)
    digest = _digest_once(os.fspath(request.path), before) if before else ""
    decoded = decode_video(request, clip_spec, decoder)
    return replace(decoded, content_digest=digest if _stamp(request.path) == before else "")


@functools.lru_cache(maxsize=256)
def _digest_once(path: str, stamp: tuple[int, ...]) -> str:  # noqa: ARG001 - the stamp is a part of the key
    """Digest a file once, however many segments of it are decoded."""
    return content_digest(path)


def _stamp(path: str | os.PathLike[str]) -> tuple[int, ...]:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a file; a pipe is not waited for. Raises OSError, for what is no file too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = io.FileIO(descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(f"{os.fspath(path)!r} is no regular file")
    return file


def _of_folder(folder: Path) -> str:
    from .image_folder import frame_names  # OpenCV is not for those with video files alone

    paths = [folder / name for name in frame_names(str(folder))]
    sizes = [path.stat().st_size for path in paths]
    whole = sum(sizes) <= WHOLE_BYTES and len(paths) <= _MOST_IMAGES
    sha = hashlib.sha256(f"{len(paths)} images of {sizes} bytes".encode())
    last = len(paths) - 1
    for path in paths if whole else (paths[last * n // (_N_PIECES - 1)] for n in range(_N_PIECES)):
        with _open_regular(path) as file:
            while piece := file.read(_PIECE_BYTES):
                sha.update(piece)
                if not whole:
                    break
    return f"sha256-images{'' if whole else '-parts'}:{sha.hexdigest()}"
