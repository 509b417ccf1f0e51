"""Whether torchcodec can be used on this machine, and what it says: everything but the frames (see `torchcodec_reader`).

Importing this module imports neither torchcodec nor PyAV: `prepare` does.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from .native_stderr import capture_stderr
from .request import DecodeError, DecoderUnavailable

DEVICES = {"torchcodec": "cpu", "torchcodec-cuda": "cuda"}
"""The decoders of this module, and where each runs. `cuda` is the first GPU that the process sees."""
_LOG_LEVEL = "TORCHCODEC_FFMPEG_LOG_LEVEL"
"""What torchcodec reads the level of its FFmpeg's log from, whenever it opens a video. By default it is silent."""
_CUT_OFF = b"\0\0\0\x14ftypisom\0\0\2\0isom"
"""The beginning of an MP4 file, and nothing else: FFmpeg complains of it."""
_OUT_OF_MEMORY = re.compile(r"(can't|[Cc]annot) allocate memory")
_ERRORS = (RuntimeError, IndexError, ValueError, AssertionError)
"""What torchcodec raises, of whatever it does not like."""


def check_decoder(decoder: str) -> None:
    """Raise DecoderUnavailable where a decoder's package is not installed; nothing is imported."""
    if decoder in DEVICES and importlib.util.find_spec("torchcodec") is None:
        raise DecoderUnavailable(
            f"The decoder {decoder} needs torchcodec, which is not installed: pip install 'vidclip[torchcodec]', or use the "
            "decoder auto."
        )


def video_decoder() -> Any:
    """Return torchcodec's class `VideoDecoder`; the package is optional, and large."""
    return importlib.import_module("torchcodec.decoders").VideoDecoder


@functools.cache
def prepare(decoder: str) -> str:
    """Import torchcodec and try it, once; return its name and version, as features are noted to be of it.

    decoder    one of DEVICES
    Raises DecoderUnavailable where torchcodec, the libraries of an FFmpeg, or a GPU with its decoder is missing.
    """
    check_decoder(decoder)
    try:
        torchcodec = importlib.import_module("torchcodec")
        video_decoder()
    except (ImportError, OSError, RuntimeError) as error:
        raise DecoderUnavailable(
            f"The decoder {decoder} cannot be used: torchcodec does not load ({_reason(error)}). Its version has to go with "
            "that of torch: pip install --upgrade torchcodec torch. Or use the decoder auto."
        ) from error
    version = f"torchcodec {getattr(torchcodec, '__version__', '?').partition('+')[0]}"
    try:
        video_decoder()(_CUT_OFF)
    except _ERRORS as error:
        if getattr(torchcodec, "ffmpeg_major_version", None) is None:
            raise DecoderUnavailable(
                f"The decoder {decoder} cannot be used: {version} does not load the libraries of FFmpeg (libavcodec and its "
                "kin, versions 4 to 9), or does not go with this torch. Install FFmpeg (apt-get install ffmpeg, conda install "
                "ffmpeg), or another version of torchcodec, or use the decoder auto."
            ) from error
    if decoder == "torchcodec-cuda":
        _try_gpu(version)
        return f"{version} cuda"
    return f"{version} (ffmpeg {torchcodec.ffmpeg_major_version})"


def _try_gpu(version: str) -> None:
    """Decode a frame on the GPU, which also makes ready what the driver needs in this process."""
    help_text = "It needs an NVIDIA GPU and its driver; use the decoder torchcodec or auto elsewhere."
    try:
        video = video_decoder()(_gray_video(), device="cuda")
        video.get_frame_at(0)
    except _ERRORS as error:
        raise DecoderUnavailable(
            f"The decoder torchcodec-cuda cannot be used: {version} finds no GPU that it can use ({_reason(error)}). {help_text}"
        ) from error
    if "nvcuvid" in str(video.cpu_fallback).lower():
        raise DecoderUnavailable(
            f"The decoder torchcodec-cuda cannot be used: {version} does not find libnvcuvid, NVIDIA's library for decoding. In "
            "a container, the driver's part `video` has to be asked for (NVIDIA_DRIVER_CAPABILITIES=compute,utility,video). "
            f"{help_text}"
        )


def _gray_video() -> bytes:
    """Return an MP4 file of a few gray frames."""
    import av

    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for _ in range(3):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((384, 256), 128, np.uint8), "yuv420p"))
            )
        container.mux(stream.encode(None))
    return content.getvalue()


@functools.cache
def is_heard() -> bool:
    """Have torchcodec's FFmpeg write the level before each line, and return whether its complaints arrive."""
    print_level = 2  # AV_LOG_PRINT_LEVEL
    with contextlib.suppress(AttributeError, OSError):
        # Through torchcodec's own library, in which the symbols of its FFmpeg are found too.
        library = importlib.import_module("torchcodec").core_library_path
        ctypes.CDLL(str(library)).av_log_set_flags(print_level)
    with capture_stderr() as lines, contextlib.suppress(*_ERRORS), audible():
        video_decoder()(_CUT_OFF)
    return any("[error] moov atom not found" in line for line in lines)


@contextlib.contextmanager
def reading_errors() -> Iterator[None]:
    """Turn what torchcodec raises into DecodeError, and MemoryError where memory is what it lacks."""
    try:
        yield
    except _ERRORS as error:
        reason = _reason(error)
        if _OUT_OF_MEMORY.search(reason):
            raise MemoryError from error
        raise DecodeError("decode", f"torchcodec: {reason}") from error


def _reason(error: BaseException) -> str:
    """Return the message of torchcodec or torch, without the place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return re.sub(r"^\S+, \S+\.(cpp|h|cu):\d+, ", "", first)[:200]


@contextlib.contextmanager
def audible() -> Iterator[None]:
    """Have torchcodec set its FFmpeg to level info, at which codecs tell what they conceal, when it opens a video."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = "INFO"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LOG_LEVEL]
        else:
            os.environ[_LOG_LEVEL] = before
