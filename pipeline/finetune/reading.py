"""Who reads the clips of a training: pools of decoding processes, and what stands before them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..extraction import ExtractSettings
from ..video import ClipSpec, DecodePool, decode_whole
from .clips import ClipReader
from .kept_pixels import KeptReader, kept_spec
from .recipe import Recipe

_MOST_WAITING = 256


def open_pool(clip_spec: ClipSpec, reading: ExtractSettings, n_clips: int) -> DecodePool:
    """Return a pool that reads the clips of the next micro-batch, n_clips, while one is computed."""
    return DecodePool(
        clip_spec,
        workers=reading.workers,
        timeout_seconds=reading.timeout_seconds,
        memory_gib=reading.memory_gib,
        decoder=reading.decoder,
        slots=2 * reading.workers + 2 + min(n_clips, _MOST_WAITING),
    )


@contextlib.contextmanager
def training_reader(
    drawn: ClipSpec, recipe: Recipe, reading: ExtractSettings, n_clips: int
) -> Iterator[ClipReader | KeptReader]:
    """Read training clips: from the videos, or from what is kept of them.

    drawn    what a clip is
    """
    if not recipe.keep_pixels:
        with open_pool(drawn, reading, n_clips) as pool:
            yield ClipReader(pool, drawn.shape[1:])
        return
    with DecodePool(
        kept_spec(drawn, recipe.keep_pixels),
        workers=reading.workers,
        timeout_seconds=reading.timeout_seconds,
        memory_gib=reading.memory_gib,
        decoder=reading.decoder,
        decode=f"{decode_whole.__module__}:{decode_whole.__name__}",
    ) as pool:
        yield KeptReader(pool, drawn, recipe.keep_pixels, reading.workers)
