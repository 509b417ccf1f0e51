"""`cache.json`: the identity of a cache, made by its first extraction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import CacheError, CacheMismatch
from .failures import FAILURES_FILE
from .files import read_regular, write_whole
from .identity import Identity
from .shards import shard_paths

IDENTITY_FILE = "cache.json"
CACHE_FORMAT = "vidclip-features"
CACHE_VERSION = 1
_LARGEST_IDENTITY = 2**24


def read_identity(folder: Path) -> Identity:
    """Return what `cache.json` says. Raises CacheError where there is none or it is damaged."""
    path = folder / IDENTITY_FILE
    try:
        values = json.loads(read_regular(path, _LARGEST_IDENTITY))
    except FileNotFoundError:
        state = "has no cache.json" if folder.is_dir() else "does not exist"
        raise CacheError(
            f"{folder} is no feature cache: it {state}. Make one with `vidclip extract`, or name another "
            "with --cache."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CacheError(
            f"{path} cannot be read ({reason}). Restore it, or extract into another --cache."
        ) from None
    if not isinstance(values, dict) or values.get("format") != CACHE_FORMAT:
        raise CacheError(f"{path} was not written by vidclip; name another folder with --cache.")
    if values.get("version") != CACHE_VERSION:
        raise CacheError(
            f"{path} has format version {values.get('version')}; this vidclip reads version {CACHE_VERSION}. "
            "Use the vidclip that wrote it, or extract again into another --cache."
        )
    try:
        return Identity.from_dict(values)
    except ValueError as error:
        raise CacheError(
            f"{path} is damaged: {error}. Restore it, or extract into another --cache."
        ) from None


def ensure_identity(folder: Path, identity: Identity, *, alone: bool) -> None:
    """Make the folder a cache for `identity`, or check that it is one. Raises CacheMismatch, CacheError.

    alone    there is no other writer: an identity that nothing has been computed for may then be replaced
    """
    path = folder / IDENTITY_FILE
    if path.exists():
        stored = read_identity(folder)
        if stored.digest == identity.digest:
            return
        if not alone or next(folder.glob("*.h5"), None):
            check_identity(folder, stored, identity)
        (folder / FAILURES_FILE).unlink(missing_ok=True)  # they were those of another encoder or sampling
    elif shard_paths(folder):
        raise CacheError(
            f"{folder} has features but no cache.json, so it cannot be known what made them. "
            "Restore the file, or extract into another --cache."
        )
    document = {"format": CACHE_FORMAT, "version": CACHE_VERSION, **identity.to_dict()}
    write_whole(path, (json.dumps(document, indent=2) + "\n").encode())


def check_identity(folder: Path, stored: Identity, asked: Identity) -> None:
    """Raise CacheMismatch unless a cache is of the encoder and sampling that are asked for."""
    if stored.digest != asked.digest:
        raise CacheMismatch(mismatch_message(folder, stored, asked))


def mismatch_message(folder: Path, stored: Identity, asked: Identity) -> str:
    """Return a message with both identities, and the settings that differ where the names alone do not show it."""
    message = f"{folder} was extracted with {stored}; this run asks for {asked}."
    if str(stored) == str(asked):
        parts = [f"{key}: {_short(a)} there, {_short(b)} here" for key, a, b in stored.differences(asked)[:4]]
        message += f" They differ in {'; '.join(parts)}."
    return message + "\nUse another --cache, or the same --model, --pretrained and sampling."


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else text[:12] + "..."
