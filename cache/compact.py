"""Compaction: small shards become large ones, in the order of the ids, without what does not count any more.

A shard is never written again, so new ones are written first, whole and synced, and the old ones are deleted when all of them
are there. Wherever that is interrupted, each video is in an old shard, a new one, or in both, where it counts once; the next
compaction clears what was left.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import CacheError
from .failures import rewrite_failures
from .features import FeatureCache
from .files import folder_turn, remove_abandoned_files, sync_folder, write_whole, writer_lock
from .hdf5 import Columns, file_parts
from .layout import FRAMES_FORMAT, VideoRecord, columns_of
from .open_file import describe
from .removed import write_removed
from .rows import StoredRows
from .shards import Shard
from .table import Videos
from .writer import next_number

SHARD_BYTES = 128 << 20


@dataclass(frozen=True)
class Compaction:
    """What a compaction does, or did."""

    shards: list[Shard] = field(repr=False)
    """Those that are written anew."""
    new_shards: int
    """How many these become."""
    videos: int
    """How many videos these hold that count."""
    removed: list[str]
    """Videos that were taken out, and whose features go now: they cannot be given back any more."""
    dropped: int
    """Rows that go, and do not count: of removed videos, of files that were read again, and of copies."""
    num_bytes: int
    """Bytes of features to be written."""


def plan_compaction(
    cache: FeatureCache, *, shard_bytes: int = SHARD_BYTES, everything: bool = False
) -> Compaction:
    """Return what `compact` would do with an open cache: shards below half of `shard_bytes` are joined, and those with
    rows that do not count are written without them.

    everything    write all shards anew, so that the whole cache is in the order of the ids
    """
    return _plan(cache, shard_bytes, everything)[0]


def compact(
    folder: str | Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    everything: bool = False,
    created_by: str = "vidclip",
    removed: Collection[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Compaction:
    """Write small shards anew as large ones, each in the order of the ids, and `cache.index`.

    What was removed is left out, and can not be given back any more. Texts, attributes, labels and all that is known of
    each video stay. Readers that are open have to open the cache again. Memory is about four times `shard_bytes`.

    removed        the removed videos whose features may go; None: those of all
    on_progress    called with (videos written, of so many)
    Raises CacheBusy while another writes to the cache; CacheError where a shard is damaged, the disk too small, or a video was
    removed that is not among `removed`; OSError.
    """
    cache = FeatureCache(folder)  # before a lock's file is made in what is no cache
    folder = cache.folder
    with contextlib.ExitStack() as held:
        with folder_turn(folder):
            held.enter_context(writer_lock(folder))
        remove_abandoned_files(folder)
        cache.refresh()
        plan, groups = _plan(cache, shard_bytes, everything)
        if removed is not None and (more := set(plan.removed).difference(removed)):
            raise CacheError(
                f"{len(more)} videos were taken out of {folder} since it was asked whose features may go. Run the command again."
            )
        if (free := shutil.disk_usage(folder).free) < plan.num_bytes * 1.02:
            raise CacheError(
                f"compacting {folder} needs {plan.num_bytes / 1e9:.1f} GB beside what is there, and {free / 1e9:.1f} GB are "
                "free: the old shards are deleted when the new ones are whole."
            )
        rows, number, done = cache.rows, next_number(folder, "frames-"), 0
        written: list[tuple[Path, int]] = []
        for precision, pieces in groups:
            attributes = {
                "format": FRAMES_FORMAT,
                "identity": cache.identity.digest,
                "precision": precision,
                "created_by": created_by,
            }
            for piece in pieces:
                path = folder / f"frames-{number + len(written):05d}.h5"
                write_whole(path, *file_parts(_columns(rows, piece), attributes))
                written.append((path, len(piece)))
                done += len(piece)
                if on_progress:
                    on_progress(done, plan.videos)
        for path, n in written:  # before anything is deleted
            if describe(path).columns["frames"].shape[0] != n:
                raise CacheError(f"{path} is not what was written. Delete it, and check the disk.")
        for shard in plan.shards:
            shard.path.unlink()
        sync_folder(folder)
        # No row of a removed video is left. Failures that were taken out with them go first: nothing else hides them.
        with folder_turn(folder):
            if cache.removals:
                rewrite_failures(folder, cache.removals)
            write_removed(folder, {})
        cache.refresh()
        cache.store_index()
        return plan


def _plan(
    cache: FeatureCache, shard_bytes: int, everything: bool
) -> tuple[Compaction, list[tuple[str, list[np.ndarray]]]]:
    """Return the plan, and of each precision the rows of each new shard."""
    rows, counted = cache.rows, cache.counted
    counts = np.zeros(len(rows.table), bool)
    counts[counted] = True
    row_bytes = rows.row_bytes
    per_shard = max(1, shard_bytes // max(1, row_bytes))
    groups: list[tuple[str, list[np.ndarray]]] = []
    shards: list[Shard] = []
    videos = 0
    for precision in dict.fromkeys(shard.precision for shard in rows.shards):
        own = [
            number
            for number, shard in enumerate(rows.shards)
            if shard.precision == precision
            and (
                everything
                or shard.num_videos * row_bytes < shard_bytes / 2
                or not shard.digest  # of version 1, which has no place in an index
                or not counts[rows.rows_of(number)].all()
            )
        ]
        chosen = np.zeros(len(rows.table), bool)
        for number in own:
            chosen[rows.rows_of(number)] = True
        wanted = counted[chosen[counted]]  # in the order of the ids
        pieces = [wanted[start : start + per_shard] for start in range(0, len(wanted), per_shard)]
        whole = len(wanted) == int(chosen.sum())
        in_order = bool((np.diff(wanted) > 0).all())
        old = any(not rows.shards[number].digest for number in own)
        if whole and not old and len(pieces) >= len(own) and (in_order or not everything):
            continue  # nothing would be better for it
        groups.append((precision, pieces))
        shards += [rows.shards[number] for number in own]
        videos += len(wanted)
    total = sum(shard.num_videos for shard in shards)
    return (
        Compaction(
            shards,
            sum(len(pieces) for _, pieces in groups),
            videos,
            cache.removed,
            total - videos,
            videos * row_bytes,
        ),
        groups,
    )


def _columns(rows: StoredRows, piece: np.ndarray) -> Columns:
    """Return the columns of a shard of these rows."""
    return columns_of(list(_records(rows, piece)))


def _records(rows: StoredRows, piece: np.ndarray) -> Iterator[VideoRecord]:
    frames, indices, seconds = (
        rows.read(name, piece, dtype)
        for name, dtype in (("frames", np.float16), ("frame_indices", np.int64), ("timestamps", np.float64))
    )
    patches = rows.read("patches", piece, np.float16) if rows.patch_shape else [None] * len(piece)
    for row, video in enumerate(Videos(rows.table, piece)):
        yield VideoRecord(
            **vars(video),
            frames=frames[row],
            frame_indices=indices[row],
            timestamps=seconds[row],
            patches=patches[row],
        )
