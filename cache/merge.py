"""Joining caches of one identity: what several machines extracted becomes one cache."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import CacheError, CacheMismatch
from .features import FeatureCache
from .layout import VideoRecord
from .missing import read_missing, write_missing
from .writer import CacheWriter, mismatch_message


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    videos: int
    """Videos taken in from the sources."""
    already_there: int
    """Videos left out because the output, or an earlier source, has them."""
    failures: int
    """Videos that no source could read."""


def merge(sources: Sequence[str | Path], output: str | Path, *, batch: int = 256) -> Merged:
    """Writes the videos, failures and text embeddings of `sources` into the cache `output`.

    A video that several sources have is taken from the first. Memory is that of one batch; run again
    after a kill, it goes on.
    Raises CacheMismatch when two are of different encoders or samplings, CacheError for a damaged one.
    """
    caches = [FeatureCache(source) for source in sources]
    if not caches:
        raise ValueError("nothing to merge")
    for cache in caches[1:]:
        if cache.identity.digest != caches[0].identity.digest:
            raise CacheMismatch(
                mismatch_message(caches[0].folder, caches[0].identity, cache.identity).split("\n")[0]
                + f" ({cache.folder})\nOnly caches of one encoder and one sampling can be joined."
            )
    if Path(output).resolve() in {cache.folder.resolve() for cache in caches}:
        raise CacheError(f"{output} is one of the caches to join; name a new folder with --output.")
    precisions = {shard.precision for cache in caches for shard in cache.shards}
    taken = skipped = 0
    with CacheWriter(
        output, caches[0].identity, precision="+".join(sorted(precisions)), shard_seconds=float("inf")
    ) as writer:
        for cache in caches:
            rows = [row for row, id in enumerate(cache.ids) if id not in writer.ids]
            skipped += len(cache) - len(rows)
            for start in range(0, len(rows), batch):
                piece = rows[start : start + batch]
                arrays = zip(
                    piece,
                    cache.frames(piece),
                    cache.frame_indices(piece),
                    cache.timestamps(piece),
                    strict=True,
                )
                for row, frames, indices, seconds in arrays:
                    info = vars(cache.videos[row])
                    record = VideoRecord(**info, frames=frames, frame_indices=indices, timestamps=seconds)
                    writer.add(record)
                    taken += 1
        writer.flush()
        missing = {video.id: video for video in read_missing(writer.folder) if video.id not in writer.ids}
        for cache in caches:
            for failure in cache.failures():
                if failure.id not in writer.ids and failure.id not in writer.failed_ids:
                    writer.add_failure(failure)
            missing |= {video.id: video for video in cache.missing() if video.id not in writer.ids}
            for path in cache.folder.glob("text-*.h5"):
                if not (writer.folder / path.name).exists():
                    shutil.copy2(path, writer.folder / path.name)
        write_missing(writer.folder, missing.values())
        return Merged(taken, skipped, len(writer.failed_ids))
