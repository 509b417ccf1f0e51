"""Taking videos out of a cache, and giving them back: no shard is written anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .features import FeatureCache
from .files import folder_turn, writer_lock
from .removed import Removed, write_removed


def remove_videos(folder: str | Path, ids: Iterable[str]) -> list[str]:
    """Take videos out of a cache, and return the ids of those that were in it.

    Readers that have opened the cache keep them until `refresh`. `vidclip merge` leaves their features behind.
    Raises CacheBusy while another writes to the cache, CacheError, OSError.
    """
    with _sole_writer(Path(folder)) as cache:
        return list(_remove(cache, ids))


def remove_while_writing(folder: Path, ids: Iterable[str]) -> dict[str, Removed]:
    """Take videos out of a cache under the lock of a writer that the caller holds; jobs that share it take turns.

    Raises CacheError, OSError.
    """
    with folder_turn(folder):
        return _remove(FeatureCache(folder), ids)


def _remove(cache: FeatureCache, ids: Iterable[str]) -> dict[str, Removed]:
    removed = cache.removals
    number = 1 + max((each.removal for each in removed.values()), default=0)
    now = {id: Removed(cache.next_generation(id), number) for id in ids if id in cache}
    if now:
        write_removed(cache.folder, {**removed, **now})
    return now


def restore_videos(folder: str | Path, ids: Iterable[str] | None = None) -> list[str]:
    """Give removed videos back, and return the ids of those that are in the cache now and were not before.

    ids    None: those of the last removal. A video that was read again since stays as it is
    Raises CacheBusy, CacheError, OSError.
    """
    with _sole_writer(Path(folder)) as cache:
        removed, hidden = cache.removals, set(cache.removed)
        if ids is None:
            last = max((removed[id].removal for id in hidden), default=0)
            wanted = {id for id in hidden if removed[id].removal == last}
        else:
            wanted = hidden.intersection(ids)
        if wanted:
            write_removed(cache.folder, {id: each for id, each in removed.items() if id not in wanted})
        cache.refresh()
        return sorted(id for id in wanted if id in cache)


@contextlib.contextmanager
def _sole_writer(folder: Path) -> Iterator[FeatureCache]:
    """Hold the lock of the cache's writer: an extraction that runs counts on the videos that it found."""
    cache = FeatureCache(folder)  # before a lock's file is made in what is no cache
    with contextlib.ExitStack() as held:
        with folder_turn(folder):
            held.enter_context(writer_lock(folder))
        cache.refresh()
        yield cache
