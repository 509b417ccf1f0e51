"""What is asked of a video, and what decoding it gives: values that pass between processes."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
) | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
"""Ends of the names that count as videos when a folder is read, in any case. Files that are named one by
one, or in a CSV, are taken as videos whatever they are called."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""Ends of the names of images, in any case. An image is a video of one frame. A folder that holds images, and
neither videos nor folders, is one video, unless its images are asked for: they are the frames."""

MAX_PIXELS = 2**27
"""Pixels of a frame or an image at most, 134,217,728: a frame of 16K video (15360 x 8640) is just below. A file
of a few kilobytes can claim a thousand times as many."""
DAMAGED = "damaged: "
"""What the note of a video begins with whose frames cannot all be right: some could not be read, or the codec
had to guess a part of them."""


class DecodeError(Exception):
    """A video that cannot be decoded: `stage` (missing, permission, network, open, decode, memory, timeout,
    crash) and `reason`."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.reason = stage, reason


class ConcealedErrors(DecodeError):
    """The codec guessed parts of frames, and said so."""


class DecodeWorkerError(RuntimeError):
    """Worker processes cannot be started: nothing is wrong with the videos."""


class DecoderUnavailable(DecodeWorkerError):
    """The decoder that was asked for cannot run on this machine, whatever the video; the message says what it needs."""


def check_n_pixels(width: int, height: int, what: str) -> None:
    """Raise DecodeError for a frame or an image of more than MAX_PIXELS; `what` is for the message."""
    if width * height > MAX_PIXELS:
        raise DecodeError(
            "open", f"{what} of {width} x {height} pixels; {MAX_PIXELS:,} are the most that are read"
        )


@dataclass(frozen=True)
class VideoRequest:
    """A video, or the part of it whose frames are shown from `start_seconds` up to before `end_seconds`.

    A segment that has no frame is a DecodeError. One that reaches beyond the end of its video gives the
    frames that are there, and the note says so.
    """

    path: str | os.PathLike[str]
    """A video file, or its address in an object store; or a folder of images or an image, of which no segment can be
    asked for."""
    start_seconds: float | None = None
    """Counted from the first frame that is shown. None: from the start."""
    end_seconds: float | None = None
    """None: to the end."""
    draw: tuple[int, ...] | None = None
    """Seeds the choice of random frames: (seed, epoch, number of the video) in training, `Sampling.draw_of` for a
    cache. The same draw gives the same frames, in whichever process. Needed with the sampling position `random`, and refused without it."""

    def __post_init__(self) -> None:
        start, end = self.start_seconds, self.end_seconds
        if (start is not None and not start >= 0) or (end is not None and not end > (start or 0)):
            raise ValueError(f"A segment needs 0 <= start_seconds < end_seconds, got {start} and {end}")
        if self.draw is not None:
            object.__setattr__(self, "draw", tuple(map(operator.index, self.draw)))
            if min(self.draw, default=-1) < 0:
                raise ValueError(f"draw must be whole numbers of at least 0, got {self.draw}")

    @classmethod
    def of(cls, path: str | os.PathLike[str] | VideoRequest) -> VideoRequest:
        return path if isinstance(path, VideoRequest) else cls(path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words, for JSON; `from_dict` reads them back."""
        return {**vars(self), "path": os.fsencode(self.path).hex()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VideoRequest:
        return cls(**{**data, "path": os.fsdecode(bytes.fromhex(data["path"]))})


@dataclass(frozen=True, eq=False)
class Decoded:
    """Frames of one video as the model will see them.

    Indices, times and counts are those of the whole video, also where a segment of it was asked for.
    """

    frame_indices: np.ndarray
    """[K, T] int64: position of each frame among those the video shows, in the order of showing."""
    timestamps: np.ndarray
    """[K, T] float64: seconds from the first frame shown to each frame; NaN for images."""
    pixels: np.ndarray
    """[V, T, height, width, 3] uint8, V = K x crops: view v is crop v % crops of clip v // crops."""
    duration_seconds: float
    """From the first readable frame to the end of the last; 0, for unknown, of images."""
    n_frames: int
    """Frames the video claims to show: those its edit list hides do not count."""
    readable_frames: int
    """Frames that can be read. Less than n_frames only where PyAV read a damaged file from end to end;
    otherwise all packets are there, and no frame decoded on the way to the chosen ones was damaged. Of
    a folder of images all that are there count, though the chosen ones alone are read."""
    decoder: str
    """Name and version: `decord 3.4.0`, `pyav 18.1.0`, `torchcodec 0.17.0 (ffmpeg 5)`, `torchcodec 0.17.0 cuda`, `images
    (opencv 5.0.0)`."""
    repeated: bool
    """Whether a clip has a frame twice, because the video, or its segment, is too short."""
    note: str = ""
    """Why decord was not used, how many frames could not be read, that the segment ends after the video, or
    that images have no times; empty when there is nothing to say. It may begin with DAMAGED."""
    content_digest: str = ""
    """Of its file, where it was asked for (see `digest.py`)."""
    on_release: Callable[[], None] | None = field(default=None, repr=False)

    def facts(self) -> dict[str, Any]:
        """Return all but the pixels, in plain numbers and words, with the shape of the pixels."""
        facts = {name: value for name, value in vars(self).items() if name not in ("pixels", "on_release")}
        arrays = {name: facts[name].tolist() for name in ("frame_indices", "timestamps")}
        return facts | arrays | {"shape": list(self.pixels.shape)}

    @classmethod
    def from_facts(
        cls, facts: dict[str, Any], pixels: np.ndarray, on_release: Callable[[], None] | None = None
    ) -> Decoded:
        """Return the video that `facts` describes, with `pixels` (flat, uint8, at least as many as the shape says)."""
        facts = dict(facts)
        shape = facts.pop("shape")
        facts["frame_indices"] = np.array(facts["frame_indices"], dtype=np.int64)
        facts["timestamps"] = np.array(facts["timestamps"], dtype=np.float64)
        return cls(**facts, pixels=pixels[: int(np.prod(shape))].reshape(shape), on_release=on_release)

    def release(self) -> None:
        """Give the shared memory back: another video's pixels take its place. `pixels` is empty then.

        To be called once done, from any thread; copies of `pixels` stay, views of it do not.
        """
        free = self.on_release
        if free is not None:
            object.__setattr__(self, "on_release", None)
            object.__setattr__(self, "pixels", np.empty((0, *self.pixels.shape[1:]), np.uint8))
            free()

    def __enter__(self) -> Decoded:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class DecodeFailure:
    """A video that could not be decoded, and why."""

    stage: str
    """missing, permission and network (of an address), open, decode, memory (the decoder needs too much), timeout (it
    hangs) or crash (it takes its process down)."""
    reason: str
    """For a person; both decoders' reasons where both were tried."""

    def release(self) -> None:
        """Do nothing: a failure holds no memory, and both kinds of result are used in one way."""

    def __enter__(self) -> DecodeFailure:
        return self

    def __exit__(self, *_: object) -> None:
        pass
