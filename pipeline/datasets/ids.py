"""What a video is called: its path below the root, and the segment of it that is meant."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable

from .video_list import DatasetError, Video, preview

_SEGMENT = re.compile(r"#t=(?=[0-9,])([0-9][0-9.e+-]*)?(?:,([0-9][0-9.e+-]*))?$")


def id_below(base: str, given: str) -> str:
    """Return a path (absolute, or relative to `base`) as it is below `base`; where it is not, as it was given.

    ``link/../x.mp4`` lies beside what the link leads to, and not beside the link: that place counts.
    """
    below = base if base.endswith("/") else f"{base}/"
    joined = os.path.join(base, given)
    whole = without_dots(joined)
    if whole.startswith(below):
        return whole[len(below) :]
    if os.path.isabs(given) or whole != os.path.normpath(joined):
        return whole
    return os.path.normpath(given)


def without_dots(path: str) -> str:
    """Return an absolute path of the same file, without ``.`` and ``..``; links stay as they are where they can.

    `os.path.abspath` takes ``link/..`` out as if the link were a folder, and names another file then.
    """
    path = os.path.join(os.getcwd(), path)
    flat = os.path.normpath(path)
    up = path.rfind("/../") + 3 if "/../" in path else len(path) if path.endswith("/..") else 0
    if not up:
        return flat
    way, rest = path[:up], path[up:]
    true = os.path.realpath(way)
    if os.path.realpath(os.path.normpath(way)) == true:
        return flat
    return os.path.normpath(f"{true}/{rest}")


def segment_id(id: str, start: float | None, end: float | None) -> str:
    """Return ``a.mp4#t=12,15.5``; without an end ``a.mp4#t=12``, without a start ``a.mp4#t=,15.5``.

    So the web writes a part of a video (W3C Media Fragments 1.0, 4.2.1), in seconds.
    """
    if start is None and end is None:
        return id
    return f"{id}#t={format_seconds(start)}" + ("" if end is None else f",{format_seconds(end)}")


def file_id(video: Video) -> str:
    """Return the id that the file of a video has as a whole."""
    return video.id.removesuffix(segment_id("", video.start_seconds, video.end_seconds))


def segment_of(id: str, path: str) -> tuple[float | None, float | None]:
    """Return the start and end that `segment_id` wrote behind the id of a video; both None for a whole video.

    path    path of its file: a name that itself ends like a segment is none
    """
    match = _SEGMENT.search(id)
    if match is None or path.endswith(match[0]):
        return None, None
    start, end = (float(text) if text else None for text in match.groups())
    return start, end


def format_seconds(seconds: float | None) -> str:
    return "" if seconds is None else repr(seconds).removesuffix(".0")


def seconds(text: str, what: str, where: str) -> float:
    """Return a time that is written in a file. Raises DatasetError where it is none, or before 0."""
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise DatasetError(
            f"{where} has the {what} {text!r}: write seconds from the start of the video, such as 12.5."
        )
    return value + 0.0  # -0.0 is 0.0


def check_segment(start: float | None, end: float | None, where: str) -> None:
    """Raise DatasetError for a segment that ends before it begins, or at once."""
    if end is not None and end <= (start or 0.0):
        raise DatasetError(
            f"{where} has a segment from {format_seconds(start) or '0'} to {format_seconds(end)} seconds: its end must be later."
        )


def check_unicode(ids: Iterable[str]) -> None:
    """Raise DatasetError for names that cannot be written as UTF-8."""
    # Undecodable bytes on disk come as lone surrogates, which are dropped here.
    unwritable = [ascii(id) for id in ids if id.encode(errors="ignore").decode() != id]
    if unwritable:
        raise DatasetError(
            f"File names that are not valid UTF-8: {preview(unwritable)}. Rename them: a video's id is text."
        )
