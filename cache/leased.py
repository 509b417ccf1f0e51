"""Shards that processes without the writer's lock write, each under a name of its own: pieces of a shared work.

Who gives out the pieces holds the lock (`CacheWriter`) and sees to it that no two write at the same videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import CacheError
from .files import write_whole
from .hdf5 import file_parts
from .layout import FRAMES_FORMAT, VideoRecord, columns_of
from .open_file import OpenFile


def write_shard(
    path: Path, records: Sequence[VideoRecord], identity: str, precision: str, created_by: str
) -> None:
    """Write a shard, whole, in the order of the videos' ids, in the place of one that has the name.

    records      with embeddings that float16 can hold, and none all zero
    identity     digest of the cache's identity
    precision    in which the encoder ran
    Raises OSError.
    """
    attributes = {
        "format": FRAMES_FORMAT,
        "identity": identity,
        "precision": precision,
        "created_by": created_by,
    }
    ordered = sorted(records, key=lambda record: record.id)
    write_whole(path, *file_parts(columns_of(ordered), attributes))


def ids_of_shard(path: Path, identity: str) -> list[str]:
    """Return which videos a shard holds; none where there is no such file, or not a whole one of this identity."""
    try:
        with OpenFile(path, FRAMES_FORMAT) as file:
            return file.read_strings("id") if file.attributes.get("identity") == identity else []
    except CacheError:
        return []
