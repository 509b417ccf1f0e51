"""Verification: every byte of a cache is read and checked once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .attributes import read_attributes
from .cache_json import read_identity
from .errors import CacheError
from .failures import FAILURES_FILE, parse_failure
from .hdf5 import Contents
from .identity import Identity
from .index import INDEX_FILE, INDEX_FORMAT, read_index
from .labels import BEFORE_FILE, LABELS_FILE, ListFacts, read_labels, read_labels_before
from .layout import FRAMES_FORMAT, facts_of, read_columns
from .lines import damage_message, damaged_lines
from .missing import MISSING_FILE, parse_missing
from .open_file import OpenFile, describe_all
from .removed import REMOVED_FILE, read_removed
from .rows import StoredRows
from .shards import shard_paths
from .table import Videos, table_of
from .texts import read_texts


@dataclass(frozen=True)
class Checked:
    """What was found in one file."""

    path: Path
    videos: int
    """0 for text files."""
    problems: tuple[str, ...]
    """Empty when the file is sound."""


def verify(folder: str | Path) -> Iterator[Checked]:
    """Check every file of a cache, one after the other: readable, whole, of vidclip, of the cache's encoder and
    sampling, finite, not zero, checksums right, no video twice with different content.

    Raises CacheError when the folder is no cache at all; what is wrong with a file is in its `problems`.
    """
    folder = Path(folder)
    identity = read_identity(folder)
    shards = shard_paths(folder)
    text_paths, attributes_paths = (sorted(folder.glob(f"{kind}-*.h5")) for kind in ("text", "attributes"))
    contents = describe_all([*shards, *text_paths, *attributes_paths])
    labels = folder / LABELS_FILE
    facts: dict[str, ListFacts] = {}
    problems: tuple[str, ...] = ()
    n_videos = sum(_rows(contents[path]) for path in shards)
    try:
        facts = read_labels(folder, n_videos)
    except CacheError as error:
        problems = (str(error),)
    seen: dict[tuple[str, int], tuple[str, bytes]] = {}
    for path in shards:
        yield _check_shard(path, contents[path], identity, facts, seen)
    if problems or labels.exists():
        yield Checked(labels, 0, problems)
    for name, read in ((BEFORE_FILE, read_labels_before), (REMOVED_FILE, read_removed)):
        if os.path.lexists(folder / name):
            yield _checked(folder / name, lambda path, read=read: read(path.parent, n_videos))
    if os.path.lexists(folder / INDEX_FILE):
        yield _checked(folder / INDEX_FILE, _check_index, identity, shards)
    for name, parse in ((FAILURES_FILE, parse_failure), (MISSING_FILE, parse_missing)):
        if os.path.lexists(folder / name):
            yield _checked(folder / name, _check_lines, parse)
    for path in text_paths:
        digest = identity.encoder_digest
        yield _checked(path, read_texts, digest, towers=True, whole=True, contents=contents[path])
    for path in attributes_paths:
        yield _checked(path, _check_attributes, identity, contents[path])


def _checked(path: Path, check: Callable[..., object], *arguments: Any, **options: Any) -> Checked:
    """Return what `check` finds in a file without videos, as a CacheError."""
    try:
        check(path, *arguments, **options)
    except CacheError as error:
        return Checked(path, 0, (str(error),))
    return Checked(path, 0, ())


def _check_attributes(path: Path, identity: Identity, contents: Contents | CacheError) -> None:
    if read_attributes(path, whole=True, contents=contents).settings.get("reader") != identity.encoder_digest:
        raise CacheError(f"{path} holds attributes that another encoder has read; delete it.")


def _check_index(path: Path, identity: Identity, shards: Sequence[Path]) -> None:
    with OpenFile(path, INDEX_FORMAT) as file:
        file.check_image()
    index = read_index(path, identity.digest, {each.name: each for each in shards})
    if index is None:  # it is not used either
        return
    if differs := StoredRows.of_index(path.parent, identity.digest, index).differs_from_shards():
        raise CacheError(
            f"{path} says otherwise than the shards: {differs}. Delete it: the shards have all that it says, and `vidclip "
            "compact` writes it again."
        )


def _check_lines(path: Path, parse: Callable[[dict[str, Any]], object]) -> None:
    if damaged := damaged_lines(path, parse):
        raise CacheError(damage_message(path, damaged))


def _rows(found: Contents | CacheError) -> int:
    frames = None if isinstance(found, CacheError) else found.columns.get("frames")
    return frames.shape[0] if frames else 0


def _check_shard(
    path: Path,
    found: Contents | CacheError,
    identity: Identity,
    facts: Mapping[str, ListFacts],
    seen: dict[tuple[str, int], tuple[str, bytes]],
) -> Checked:
    try:
        with OpenFile(path, FRAMES_FORMAT, found) as file:
            columns = read_columns(file)
            file.check_image()
            attributes = file.attributes
    except CacheError as error:
        return Checked(path, 0, (str(error),))
    problems = []
    if attributes.get("identity") != identity.digest:
        problems.append(f"{path} holds features of another encoder or sampling than cache.json says.")
    broken = ~np.isfinite(columns["frames"]).all(axis=(1, 2, 3))
    empty = ~columns["frames"].any(axis=3).all(axis=(1, 2))
    if "patches" in columns:
        broken |= ~np.isfinite(columns["patches"]).all(axis=(1, 2, 3))
    for rows, what in ((broken, "not finite"), (empty, "all zero")):
        for row in np.flatnonzero(rows):
            problems.append(f"{path} has embeddings that are {what}, of the video {columns['id'][row]!r}.")
    arrays = [
        columns[name] for name in ("frames", "frame_indices", "timestamps", "patches") if name in columns
    ]
    for row, video in enumerate(Videos(table_of(columns), np.arange(len(columns["id"])))):
        if video.id in facts:
            video = replace(video, **facts[video.id]._asdict())
        digest = hashlib.sha256(repr(facts_of(video)).encode())
        for array in arrays:
            digest.update(array[row].tobytes())
        content = digest.digest()
        other, seen_content = seen.setdefault((video.id, video.generation), (path.name, content))
        if content != seen_content:
            problems.append(
                f"{path} holds the video {video.id!r}, which is in {other} too, with different content."
            )
    return Checked(path, len(columns["id"]), tuple(problems))
