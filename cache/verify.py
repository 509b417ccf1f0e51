"""Reading every byte of a cache once, to know that it can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .attributes import read_attributes
from .errors import CacheError
from .features import read_identity, shard_paths
from .identity import Identity
from .labels import LABELS_FILE, read_labels
from .layout import FRAMES_FORMAT, OpenFile, content_digest, read_columns
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
    """Checks every file of a cache, one after the other: readable, whole, ours, of the cache's encoder and
    sampling, finite, checksums right, no video twice.

    Raises CacheError when the folder is no cache at all; what is wrong with a file is in its `problems`.
    """
    folder = Path(folder)
    identity = read_identity(folder)
    seen: dict[tuple[str, int], str] = {}
    for path in shard_paths(folder):
        yield _check_shard(path, identity, seen)
    if (folder / LABELS_FILE).exists():
        try:
            read_labels(folder, len(seen))
        except CacheError as error:
            yield Checked(folder / LABELS_FILE, 0, (str(error),))
        else:
            yield Checked(folder / LABELS_FILE, 0, ())
    for path in sorted([*folder.glob("text-*.h5"), *folder.glob("attributes-*.h5")]):
        try:
            if path.name.startswith("text-"):
                read_texts(path, identity.encoder_digest)
            elif read_attributes(path).settings.get("reader") != identity.encoder_digest:
                raise CacheError(f"{path} holds attributes that another encoder has read; delete it.")
        except CacheError as error:
            yield Checked(path, 0, (str(error),))
        else:
            yield Checked(path, 0, ())


def _check_shard(path: Path, identity: Identity, seen: dict[tuple[str, int], str]) -> Checked:
    try:
        with OpenFile(path, FRAMES_FORMAT) as file:
            columns = read_columns(file)
            attributes = file.attributes
    except CacheError as error:
        return Checked(path, 0, (str(error),))
    problems = []
    if attributes.get("identity") != identity.digest:
        problems.append(f"{path} holds features of another encoder or sampling than cache.json says.")
    if attributes.get("sha256") != content_digest(columns):
        problems.append(f"{path} has changed since it was written: its checksum does not fit its content.")
    broken = ~np.isfinite(columns["frames"]).all(axis=(1, 2, 3))
    for id in (columns["id"][row] for row in np.flatnonzero(broken)):
        problems.append(f"{path} has embeddings that are not finite, of the video {id!r}.")
    generations = columns.get("generation", [0] * len(columns["id"]))
    for row in zip(columns["id"], map(int, generations), strict=True):
        if row in seen:
            problems.append(f"{path} holds the video {row[0]!r}, which is in {seen[row]} too.")
        seen.setdefault(row, path.name)
    return Checked(path, len(columns["id"]), tuple(problems))
