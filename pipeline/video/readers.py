"""Which reader decodes a video: a folder of images has its own, and a file is read by decord or by PyAV.

Decord gets the files in which, by their `packets`, it counts frames correctly. If its decoder prints one
error, PyAV reads the file instead.

Codecs fill what they cannot read of a picture with guesses (FFmpeg: "concealing 120 DC, 120 AC, 120 MV errors in
P frame"), and log that at level info: both decoders are read at that level, and the note of such a video begins
with `damaged: `.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from .clip_spec import ClipSpec
from .decord_reader import ConcealedErrors, read_with_decord
from .frame_selection import EmptySegmentError, FrameSelection
from .packets import check_file, read_packets
from .pyav_reader import UnexpectedFrame, read_by_counting, read_by_time_stamp
from .request import DAMAGED, DECODERS, Decoded, DecodeError, VideoRequest
from .sampling import check_choice


def decode_request(request: VideoRequest, clip_spec: ClipSpec, decoder: str = "auto") -> Decoded:
    """Decode one video in this process. See `pool.decode_video`."""
    check_choice("decoder", decoder, DECODERS)
    # Not abspath, which takes `link/..` out without following the link: another file might be read than was
    # checked. An absolute path is no `concat:` or `http:` for a decoder, and bytes that are no UTF-8 stay.
    path = os.path.join(os.getcwd(), os.fsdecode(request.path))  # noqa: PTH109, PTH118
    selection = FrameSelection(request, clip_spec)
    if os.path.isdir(path):  # noqa: PTH112
        from .image_folder import read_image_folder  # OpenCV is not for those with video files alone

        return read_image_folder(path, selection)
    check_file(path)
    packets = read_packets(path)
    damage = [packets.damage] if packets.damage else []
    note = ""
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
