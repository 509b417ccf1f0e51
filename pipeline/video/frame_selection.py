"""Which frames are asked of a video, and how they become its pixels, whichever reader decodes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .clip_spec import ClipSpec
from .request import Decoded, DecodeError, VideoRequest

if TYPE_CHECKING:
    from .packets import Packets

OVERSHOOT_SECONDS = 0.1
"""A segment that ends this little after its video has rounded times: no note is made of it."""


class EmptySegmentError(DecodeError):
    """A segment without a frame, whichever decoder reads it."""


@dataclass(frozen=True)
class FrameSelection:
    """What is asked of a video. Raises ValueError for random frames without a draw, and for a draw of others."""

    request: VideoRequest
    clip_spec: ClipSpec

    def __post_init__(self) -> None:
        draw, position = self.request.draw, self.clip_spec.sampling.position
        if (draw is None) == (position == "random"):
            raise ValueError(
                f"The sampling position 'random' and VideoRequest.draw need each other, got {position!r} and {draw}"
            )

    def frame_indices(self, n_frames: int) -> np.ndarray:
        """Choose among `n_frames` frames: [K, T] int64."""
        rng = None if self.request.draw is None else np.random.default_rng(self.request.draw)
        return self.clip_spec.sampling.frame_indices(n_frames, rng)

    def choose(self, seconds: np.ndarray, end: float, lost: int = 0) -> np.ndarray:
        """Choose frames inside the segment, as the sampling says.

        seconds  [n] when the frames that can be read are shown, counted from the first of the video
        end      when the last of them has been shown
        lost     frames of the video that cannot be read
        Returns [K, T] positions in `seconds`. Raises EmptySegmentError.
        """
        # 1e-6: a frame that is shown at 0.4 s may stand at 0.39999999 here
        start, stop = self.request.start_seconds or 0.0, self.request.end_seconds
        first = int(np.searchsorted(seconds, start - 1e-6))
        last = len(seconds) if stop is None else int(np.searchsorted(seconds, stop - 1e-6))
        if last > first:
            return first + self.frame_indices(last - first)
        unread = f" ({lost} frames could not be read)" if lost else ""
        if start > end - 1e-6:
            reason = f"{self._segment} begins after the video's end at {format_seconds(end)} s{unread}"
            raise EmptySegmentError("decode", reason)
        around = " and ".join(
            f"{format_seconds(second)} s" for second in seconds[max(0, first - 1) : first + 1]
        )
        reason = f"{self._segment} has no frame: those next to it are at {around}{unread}"
        raise EmptySegmentError("decode", reason)

    def overshoot(self, end: float) -> str:
        """Return what to note of a segment that reaches beyond the `end` of its video; else an empty string."""
        stop = self.request.end_seconds
        if stop is None or stop <= end + OVERSHOOT_SECONDS:
            return ""
        return f"{self._segment} ends after the video's end at {format_seconds(end)} s"

    @property
    def _segment(self) -> str:
        start, stop = self.request.start_seconds or 0.0, self.request.end_seconds
        if stop is None:
            return f"the segment from {format_seconds(start)} s"
        return f"the segment {format_seconds(start)} to {format_seconds(stop)} s"

    def decode(
        self, chosen: np.ndarray, read: Callable[[list[int]], Iterator[tuple[int, np.ndarray]]], **facts: Any
    ) -> Decoded:
        """Preprocess frames as they are read, and put each wherever it was chosen.

        chosen  [K, T] positions of frames
        read    yields (position, [H, W, 3] uint8) for each of the positions it is given, which ascend
        facts   the other fields of `Decoded`
        """
        sampling = self.clip_spec.sampling
        by_clip: np.ndarray | None = None
        for position, frame in read(np.unique(chosen).tolist()):
            crops = self.crops(frame)
            if by_clip is None:
                # Whole frames have the sides of their video: only what was read says which.
                shape = (sampling.clips, sampling.crops, sampling.frames, *crops.shape[1:])
                by_clip = np.empty(shape, np.uint8)
            if crops.shape[1:] != by_clip.shape[3:]:
                raise DecodeError(
                    "decode", "its frames have different proportions, and cannot be kept together"
                )
            for clip, t in np.argwhere(chosen == position):
                by_clip[clip, :, t] = crops
        if by_clip is None:
            raise DecodeError("decode", "none of the chosen frames could be read")
        pixels = by_clip.reshape(sampling.views, *by_clip.shape[2:])
        repeated = any(len(np.unique(clip)) < len(clip) for clip in chosen)
        return Decoded(pixels=pixels, repeated=repeated, **facts)

    def crops(self, frame: np.ndarray) -> np.ndarray:
        """Return the crops [crops, height, width, 3] of a frame [H, W, 3] uint8, as drawn where something is."""
        sampling, preprocess = self.clip_spec.sampling, self.clip_spec.preprocess
        augmentation, draw = self.clip_spec.augmentation, self.request.draw
        if augmentation is None or draw is None:
            return preprocess.pixels(frame, sampling.crops, sampling.crop_positions)
        if augmentation.crop:
            crops = augmentation.cut(frame, preprocess.size, draw)[None]
        else:
            crops = preprocess.pixels(frame)
        return crops[:, :, ::-1] if augmentation.flips(draw) else crops

    def decode_by_time_stamp(
        self, packets: Packets, read: Callable[[list[int]], Iterator[tuple[int, np.ndarray]]], decoder: str
    ) -> Decoded:
        """Choose and decode frames of a video whose time stamps name them: all of them can be read."""
        seconds = packets.frame_seconds(packets.display_pts)
        end = packets.end_seconds(seconds)
        chosen = self.choose(seconds, end)
        return self.decode(
            chosen,
            read,
            frame_indices=chosen,
            timestamps=seconds[chosen],
            duration_seconds=end,
            n_frames=packets.n_frames,
            readable_frames=packets.n_frames,
            decoder=decoder,
            note=self.overshoot(end),
        )


def format_seconds(seconds: float) -> str:
    """Return seconds for a person, to the millisecond: 30.0, 2.36."""
    short = f"{seconds:.3f}".rstrip("0")
    return f"{short}0" if short.endswith(".") else short
