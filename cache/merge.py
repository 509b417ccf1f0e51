"""Merging caches of one identity that several machines extracted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .cache_json import mismatch_message
from .errors import CacheError, CacheMismatch
from .features import FeatureCache
from .labels import ListFacts, update_labels
from .layout import VideoInfo
from .missing import read_missing, write_missing
from .records import stored_records
from .texts import copy_texts, read_texts
from .writer import CacheWriter


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    videos: int
    """Videos copied from the sources."""
    already_there: int
    """Videos left out because the output, or an earlier source, has them."""
    failures: int
    """Videos that no source could read."""
    relabeled: int = 0
    """Videos that were there, and whose labels or split a source has otherwise today."""
    left_out: int = 0
    """Videos of the sources that stay out, because the output or a source has removed them."""
    kept: int = 0
    """Videos that a source has removed, and that the output has from before."""


def merge(sources: Sequence[str | Path], output: str | Path, *, batch: int = 256) -> Merged:
    """Write the videos, failures and text embeddings of `sources` into the cache `output`.

    A video that several sources have is taken from the first; one that was removed (`remove_videos`) from the output, or from
    a source that has not read it again, is taken from none. Memory is that of one batch; run again
    after a kill, it goes on. What a source has read again, or labeled otherwise, since an earlier merge is
    updated.
    Raises CacheMismatch when two are of different encoders or samplings, CacheError for a damaged one:
    everything is checked before it is taken in.
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
        if len(cache) and len(caches[0]) and (cache.patch_shape is None) != (caches[0].patch_shape is None):
            one, other = (caches[0], cache) if cache.patch_shape else (cache, caches[0])
            raise CacheMismatch(
                f"{other.folder} holds patch tokens, and {one.folder} holds none: they cannot be joined."
            )
    if Path(output).resolve() in {cache.folder.resolve() for cache in caches}:
        raise CacheError(f"{output} is one of the caches to join; name a new folder with --output.")
    for cache in caches:
        for path in cache.folder.glob("text-*.h5"):  # now, not behind hours of copying features
            read_texts(path, cache.identity.encoder_digest, towers=True, whole=True)
    precisions = {shard.precision for cache in caches for shard in cache.shards}
    taken = skipped = 0
    decided: set[str] = set()
    facts: dict[str, ListFacts] = {}
    with CacheWriter(
        output, caches[0].identity, precision="+".join(sorted(precisions)), shard_seconds=float("inf")
    ) as writer:
        there = writer.stored
        removed = {id for cache in (there, *caches) for id in cache.removed if id not in there}
        kept = {id for cache in caches for id in cache.removed if id in there}
        left_out = {id for cache in caches for id in removed if id in cache}
        for cache in caches:
            wanted = []
            for index, video in enumerate(cache.videos):
                if (
                    video.id in decided or video.id in removed
                ):  # an earlier source has it, or none is to give it
                    continue
                decided.add(video.id)
                known = there.videos[there.index(video.id)] if video.id in there else None
                if known is None or _changed(known, video):
                    wanted.append(index)
                elif (known.labels, known.split) != (video.labels, video.split):
                    facts[video.id] = ListFacts(video.labels, video.split)
            skipped += len(cache) - len(wanted) - sum(id in cache for id in removed)
            for place, stored in stored_records(cache, wanted, batch=batch):
                generation = max(stored.generation, there.next_generation(stored.id))
                try:
                    writer.add(replace(stored, generation=generation))
                except ValueError as error:
                    raise CacheError(
                        f"{cache.shard_of(wanted[place]).path} cannot be merged: {error}. Delete the file, run the "
                        "command that made it again, then `vidclip merge`."
                    ) from None
                taken += 1
        writer.flush()
        update_labels(writer.folder, facts, len(there) + taken)
        missing = {video.id: video for video in read_missing(writer.folder) if video.id not in writer}
        for cache in caches:
            for failure in cache.failures():
                if failure.id not in writer and failure.id not in writer.failed_ids:
                    writer.add_failure(failure)
            missing |= {video.id: video for video in cache.missing() if video.id not in writer}
            for path in cache.folder.glob("text-*.h5"):
                if not (writer.folder / path.name).exists():
                    copy_texts(path, writer.folder / path.name, cache.identity.encoder_digest)
        write_missing(writer.folder, missing.values())
        return Merged(taken, skipped, len(writer.failed_ids), len(facts), len(left_out), len(kept))


def _changed(known: VideoInfo, video: VideoInfo) -> bool:
    """Whether a source has read another file than the one whose features an earlier merge took."""
    stamps = [(each.source_bytes, each.source_modified_ns) for each in (known, video)]
    return stamps[0] != stamps[1] and all(size >= 0 for size, _ in stamps)
