"""Pictures of videos, read again from their files, as small data URIs.

N videos, T frames of a view.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...cache import FeatureCache
from ..extraction import ExtractSettings
from ..search import read_again
from ..video import ClipSpec, Preprocess, Sampling, middle_frames
from .page import shown_view

SIDES = (160, 128, 112, 96, 80, 64, 48, 32)
"""Pixels along a side of a thumbnail, the largest first."""
_QUALITY = 60
_ROOM = 4_500_000
"""Characters that the pictures of a page may take, at most."""
_CHARACTERS_A_PIXEL = 0.35
"""Of a data URI, about: WebP of this quality and base64."""


@dataclass(frozen=True)
class NoPicture:
    """Why there is no picture of a video."""

    reason: str


def read_thumbnails(
    cache: FeatureCache,
    indices: Sequence[int],
    reading: ExtractSettings | None = None,
    *,
    on_video: Callable[[int], None] | None = None,
) -> list[np.ndarray | NoPicture]:
    """Return the middle frame of each video, [side, side, 3] uint8, its center cropped to a square.

    The side is one of SIDES: no larger than about what a page has room for.

    indices     [n] positions in the cache
    reading     workers, and their limits of time and memory
    on_video    called with how many have been read
    """
    wanted = _ROOM / max(1, len(indices)) / _CHARACTERS_A_PIXEL
    side = next((side for side in SIDES if side**2 <= 1.5 * wanted), SIDES[-1])
    clip_spec = ClipSpec(Sampling(1, position="middle"), Preprocess((side, side), resize_mode="shortest"))
    found: list[np.ndarray | NoPicture] = [NoPicture("not read")] * len(indices)
    for done, (place, decoded) in enumerate(read_again(cache, indices, clip_spec, reading), 1):
        found[place] = NoPicture(decoded) if isinstance(decoded, str) else decoded.pixels[0, 0].copy()
        if on_video:
            on_video(done)
    return found


def read_strips(
    cache: FeatureCache, indices: Sequence[int], reading: ExtractSettings | None = None
) -> list[np.ndarray | NoPicture]:
    """Return the frames of each video that the encoder saw, [T', h, w, 3] uint8 of the view that `shown_view` names, none
    larger than the largest of SIDES; of several frames that have one embedding, the middle one.

    A file that gives other frames now than the features are of is not shown.
    """
    try:
        clip_spec = ClipSpec.from_identity(cache.identity)
        times = middle_frames(clip_spec.sampling.frames, cache.shape[2])
    except ValueError as error:
        return [NoPicture(str(error))] * len(indices)
    view = shown_view(cache) if cache.view is None else cache.view
    stored = cache.frame_indices(np.asarray(indices, np.int64))[:, shown_view(cache)]  # [n, T']
    found: list[np.ndarray | NoPicture] = [NoPicture("not read")] * len(indices)
    for place, decoded in read_again(cache, indices, clip_spec, reading):
        if isinstance(decoded, str):
            found[place] = NoPicture(decoded)
            continue
        now = decoded.frame_indices[view // clip_spec.sampling.crops][times]
        if np.array_equal(now, stored[place]):
            found[place] = np.stack([_reduced(frame, SIDES[0]) for frame in decoded.pixels[view][times]])
        else:
            found[place] = NoPicture("the file has changed since it was read")
    return found


def encode_within(images: Sequence[np.ndarray], budget: int) -> list[str]:
    """Return data URIs of images [h, w, 3] uint8, as large as all of them fit into `budget` characters.

    Where not even the smallest fit, the last ones are empty.
    """
    if not images:
        return []
    sample = images[:: math.ceil(len(images) / 24)]
    largest = max(max(image.shape[:2]) for image in images)
    uris: list[str] = []
    for side in [largest, *(side for side in SIDES if side < largest)]:
        if len(images) * np.mean([len(_uri(image, side)) for image in sample]) <= 1.05 * budget:
            uris = [_uri(image, side) for image in images]
            if sum(map(len, uris)) <= budget:
                return uris
    uris = uris or [_uri(image, SIDES[-1]) for image in images]
    ends = np.cumsum([len(uri) for uri in uris])
    return [uri if end <= budget else "" for uri, end in zip(uris, ends, strict=True)]


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Return the image with a longer side of `side` pixels at most."""
    longer = max(image.shape[:2])
    if longer <= side:
        return image.copy()
    height, width = (max(1, round(length * side / longer)) for length in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _uri(image: np.ndarray, side: int) -> str:
    picture = io.BytesIO()
    Image.fromarray(_reduced(image, side)).save(picture, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode()
