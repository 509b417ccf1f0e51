"""Which reader decodes a video: images and folders of them have their own, and other files are read by decord or PyAV.

Decord gets the files in which, by their `packets`, it counts frames correctly. If its decoder prints one
error, PyAV reads the file instead. torchcodec reads only where it is asked for, and no other reads in its place.

Codecs fill what they cannot read of a picture with guesses (FFmpeg: "concealing 120 DC, 120 AC, 120 MV errors in
P frame"), and log that at level info: both decoders are read at that level, and the note of such a video begins
with `damaged: `.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from ..choices import DECODERS, check_choice
from .clip_spec import ClipSpec
from .decord_reader import read_with_decord
from .frame_selection import EmptySegmentError, FrameSelection
from .packets import check_file, read_packets
from .pyav_reader import UnexpectedFrame, read_by_counting, read_by_time_stamp
from .remote import is_remote, public_address, staged
from .request import DAMAGED, IMAGE_SUFFIXES, ConcealedErrors, Decoded, DecodeError, VideoRequest
from .torchcodec_reader import read_with_torchcodec
from .torchcodec_setup import DEVICES, prepare


def decode_video(
    path: str | os.PathLike[str] | VideoRequest, clip_spec: ClipSpec, decoder: str = "auto"
) -> Decoded:
    """Decode one video in this process: nothing helps here when a decoder hangs or crashes.

    path     a video file, a folder of images, an image (by the end of its name), or a VideoRequest for a segment
             of a video. An address (``s3://``, ``gs://``, ``https://``) is copied into a temporary file first
    decoder  `auto`: decord where its frames can be trusted, else PyAV; `pyav`; `decord` or `torchcodec`, which refuse
             what they might read wrongly, and damaged files; `torchcodec-cuda`: the decoder of an NVIDIA GPU, which hides
             damage inside frames without a word. Means nothing for images.
    Raises DecodeError for a video that cannot be decoded, DecoderUnavailable for a decoder that this machine does not
    have, ValueError for an unknown decoder, for random frames without a draw, and for a draw without random frames.
    While decord, torchcodec or OpenCV runs, the standard error of the whole process is caught.
    """
    check_choice("decoder", decoder, DECODERS)
    if decoder in DEVICES:
        prepare(decoder)
    selection = FrameSelection(VideoRequest.of(path), clip_spec)
    if is_remote(selection.request.path):
        address = os.fspath(selection.request.path)
        with staged(address) as copy:
            return _read(copy, public_address(address), selection, decoder)
    # Not abspath, which takes `link/..` out without following the link: another file might be read than was
    # checked. An absolute path is no `concat:` or `http:` for a decoder, and bytes that are no UTF-8 stay.
    path = os.path.join(os.getcwd(), os.fsdecode(selection.request.path))  # noqa: PTH109, PTH118
    return _read(path, path, selection, decoder)


def _read(path: str, name: str, selection: FrameSelection, decoder: str) -> Decoded:
    """Read the file at `path`, which is called `name`."""
    try:
        if os.path.isdir(path):  # noqa: PTH112
            from .image_folder import read_image_folder  # OpenCV is not for those with video files alone

            return read_image_folder(path, selection)
        if name.lower().endswith(tuple(IMAGE_SUFFIXES)):
            from .image_file import read_image_file

            return read_image_file(path, selection)
        return _read_file(path, selection, decoder)
    except MemoryError:
        raise DecodeError("memory", "needs more memory to decode than there is") from None


def _read_file(path: str, selection: FrameSelection, decoder: str) -> Decoded:
    check_file(path)
    packets = read_packets(path)
    damage = [packets.damage] if packets.damage else []
    note = ""
    if decoder in DEVICES:
        if damage:
            raise DecodeError("decode", f"{damage[0]}; {decoder} reads no damaged files, and auto does")
        return read_with_torchcodec(path, packets, selection, decoder)
    if decoder != "pyav" and not damage:
        note = packets.decord_unsafe_reason
        try:
            if not note:
                return read_with_decord(path, packets, selection)
        except ImportError:
            if decoder == "decord":
                note = "decord is not installed"
        except EmptySegmentError:
            raise
        except ConcealedErrors as error:
            damage.append(error.reason)
        except DecodeError as error:
            note = error.reason
    if decoder == "decord":
        raise DecodeError("decode", "; ".join(filter(None, [*damage, note])))
    decoded = None
    try:
        if packets.display_pts and not packets.damage:
            with contextlib.suppress(UnexpectedFrame):
                decoded = read_by_time_stamp(path, packets, selection, damage)
        decoded = decoded or read_by_counting(path, packets, selection, damage)
    except EmptySegmentError:
        raise
    except DecodeError as error:
        reasons = dict.fromkeys(filter(None, [*damage, note, error.reason]))
        raise DecodeError(error.stage, "; ".join(reasons)) from error
    notes = "; ".join(filter(None, [*damage, note, decoded.note]))
    return replace(decoded, note=DAMAGED * bool(damage) + notes)
