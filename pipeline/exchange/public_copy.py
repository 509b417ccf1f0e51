"""A copy of a cache for others: features, ids, times, texts; none of the paths of the machine that made it.

The copy is a cache, and beside it a manifest, `vidclip.json`, says what it consists of: name, size and SHA-256 of each
file. One cache makes one copy, to the byte, so that a copy that was partly sent can be sent on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from ...cache import (
    CacheWriter,
    FeatureCache,
    Identity,
    TextFileInfo,
    VideoRecord,
    copy_texts,
    list_texts,
    stored_records,
)
from .errors import ExchangeError

MANIFEST = "vidclip.json"
_FORMAT = ("vidclip-public-cache", 1)
_FILE = re.compile(r"cache\.json|(frames|text)-[A-Za-z0-9][A-Za-z0-9_.+-]{0,150}\.h5", re.ASCII)
_MOST_FILES = 100_000


@dataclass(frozen=True)
class Manifest:
    """What a public copy consists of."""

    identity: str
    """Digest of the cache's encoder and sampling."""
    videos: int
    files: Mapping[str, tuple[int, str]]
    """(bytes, SHA-256) of each file, by name."""

    @property
    def n_bytes(self) -> int:
        return sum(size for size, _ in self.files.values())

    def encode(self) -> bytes:
        """Return the content of the file."""
        files = {name: {"bytes": size, "sha256": sha} for name, (size, sha) in sorted(self.files.items())}
        kind, number = _FORMAT
        document = {
            "format": kind,
            "version": number,
            "identity": self.identity,
            "videos": self.videos,
            "files": files,
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes) -> Manifest:
        """Return what `encode` wrote. Raises ValueError for anything else: another format, or a file that is none of a
        cache's, such as one with a folder in its name."""
        try:
            document = json.loads(content)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(document, dict) or (document.get("format"), document.get("version")) != _FORMAT:
            raise ValueError("it has another format")
        files = document.get("files")
        if not isinstance(files, dict) or not 0 < len(files) <= _MOST_FILES or "cache.json" not in files:
            raise ValueError("it names no files of a cache")
        found: dict[str, tuple[int, str]] = {}
        for name, facts in files.items():
            if not _FILE.fullmatch(name):
                raise ValueError(f"a cache has no file of the name {name!r}")
            size, sha = (facts.get("bytes"), facts.get("sha256")) if isinstance(facts, dict) else (None, None)
            if type(size) is not int or not 0 < size < 2**50:
                raise ValueError(f"the size of {name} is missing")
            if not isinstance(sha, str) or not re.fullmatch(r"[0-9a-f]{64}", sha):
                raise ValueError(f"the digest of {name} is missing")
            found[name] = (size, sha)
        identity, videos = document.get("identity"), document.get("videos")
        if not isinstance(identity, str) or type(videos) is not int or videos < 1:
            raise ValueError("it does not say how many videos of which identity there are")
        return cls(identity, videos, found)


@dataclass(frozen=True)
class PublicCopy:
    """A copy, and what is to be known of it before it is sent."""

    folder: Path
    cache: FeatureCache
    """The copy."""
    manifest: Manifest
    texts: tuple[TextFileInfo, ...]
    """The text files in it."""
    left_out: tuple[str, ...]
    """What of the cache is not in it, in words."""
    remaining: tuple[str, ...]
    """What in it looks like a path of this machine, and cannot be taken out."""


def make_public_copy(cache: FeatureCache, folder: str | Path, *, labels: bool = True) -> PublicCopy:
    """Write a copy of a cache for others into a new folder.

    labels    whether labels, splits and the texts of class names are in it

    Paths of videos become their ids, which stay: they are what videos are called by. A model or checkpoint of this machine
    keeps the last part of its path. Failures, missing videos, removed ones, attributes, indexes and what earlier lists said
    stay out. Memory is that of a batch.
    Raises ExchangeError for an empty cache, CacheError for damage, OSError.
    """
    if not len(cache):
        raise ExchangeError(f"{cache.folder} has no videos to publish.")
    folder = Path(folder)
    precision = "+".join(sorted({shard.precision for shard in cache.shards}))
    created_by = f"vidclip {version('vidclip')}"
    identity = public_identity(cache.identity)
    with CacheWriter(
        folder, identity, precision=precision, created_by=created_by, shard_seconds=float("inf")
    ) as writer:
        for record in _public_records(cache, labels=labels):
            writer.add(record)
    all_texts = list_texts(cache.folder)
    texts = [text for text in all_texts if labels and not _is_path(text.tower)]
    for text in texts:
        copy_texts(text.path, folder / text.path.name, cache.identity.encoder_digest)
    files = {
        path.name: (path.stat().st_size, sha256_of(path))
        for path in sorted(folder.iterdir())
        if _FILE.fullmatch(path.name)
    }
    made = FeatureCache(folder)
    manifest = Manifest(identity.digest, len(made), files)
    (folder / MANIFEST).write_bytes(manifest.encode())
    return PublicCopy(
        folder,
        made,
        manifest,
        tuple(list_texts(folder)),
        tuple(_left_out(cache, len(all_texts) - len(texts), labels=labels)),
        tuple(_remaining(made)),
    )


def public_identity(identity: Identity) -> Identity:
    """Return the same identity, whose names of a folder or file are without the path to it."""
    kind, colon, rest = identity.model.partition(":")
    model = identity.model
    if colon and kind == "local-dir":
        model = f"{kind}:{PurePath(rest).name}"
    elif _is_path(identity.model) and not colon:
        model = PurePath(identity.model).name
    pretrained = identity.pretrained
    return Identity(
        identity.encoder,
        identity.sampling,
        model,
        PurePath(pretrained).name if _is_path(pretrained) else pretrained,
    )


def sha256_of(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            sha.update(piece)
    return sha.hexdigest()


def _public_records(cache: FeatureCache, *, labels: bool) -> Iterator[VideoRecord]:
    for _, stored in stored_records(cache):
        note = stored.note
        for path in (stored.path, stored.root):  # the longer first
            note = note.replace(path, "...") if path else note
        record = replace(stored, path=stored.id, root="", note=note, generation=0)
        yield record if labels else replace(record, labels=(), split="")


def _left_out(cache: FeatureCache, n_texts: int, *, labels: bool) -> Iterator[str]:
    yield "the paths of the videos and the root of their list"
    if not labels:
        yield "labels, splits, and the texts of class names"
    elif n_texts:
        yield f"{n_texts} text files of text towers that are folders of this machine"
    for n, what in (
        (len(cache.failures()), "videos that could not be read"),
        (len(cache.missing()), "videos that were missing"),
        (len(cache.removed) + cache.replaced, "videos that were removed or replaced, whose features are still in the cache"),
        (len(list(cache.folder.glob("attributes-*.h5"))), "files of attributes"),
    ):  # fmt: skip
        if n:
            yield f"{n:,} {what}"


def _remaining(cache: FeatureCache) -> Iterator[str]:
    for key, value in _texts({"encoder": cache.identity.encoder, "sampling": cache.identity.sampling}):
        if _is_path(value) and value.startswith(("/", "~", "\\")):
            yield f"{key} of the identity: {value}"
    ids = [id for id in cache.ids if id.startswith("/")]
    if ids:
        yield f"ids that are whole paths: {len(ids):,}, the first is {ids[0]}"
    notes = Counter(video.note for video in cache.videos if re.search(r"(^|[\s'\"(])[/~]\w", video.note))
    if notes:
        yield f"notes on videos: {sum(notes.values()):,}, such as {next(iter(notes))}"


def _texts(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner, prefix)
    elif isinstance(value, str):
        yield prefix, value


def _is_path(name: str) -> bool:
    return "\\" in name or ("/" in name and not name.startswith("hf-hub:"))
