"""A dataset on a hub -> a cache: a stranger's files, of which none is trusted before it is checked.

They come into a folder beside the one that is asked for, which gets its name when every file has the size and SHA-256 that the
manifest says, and the cache as a whole is verified. What breaks off goes on at the next call.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache import CacheError, FeatureCache, verify
from ...cache.files import read_regular, sync_folder, writer_lock
from .errors import ExchangeError
from .hub_client import HubError, hub, hub_errors
from .public_copy import MANIFEST, Manifest, sha256_of

_LARGEST_MANIFEST = 2**25
_VERSION_2 = b"vidclip\n"
"""How files begin whose HDF5 nobody has to parse."""


@dataclass(frozen=True)
class Pulled:
    """What a pull brought."""

    videos: int
    n_bytes: int
    commit: str
    """The state of the dataset that it is."""
    license: str
    """As the card says; empty where it does not."""


def pull_cache(
    repo: str,
    folder: str | Path,
    *,
    revision: str = "main",
    token: str | None = None,
    on_file: Callable[[int, int, str], None] | None = None,
) -> Pulled:
    """Fetch the cache of the dataset `repo` (OWNER/NAME) of the hub that HF_ENDPOINT names.

    folder     where it is to be; must not be there
    token      None: that of HF_TOKEN, or of `hf auth login`
    on_file    called with (files done, of, name of the next)

    Raises HubError; ExchangeError where the folder is there, the dataset has no cache, or what it has is not what its
    manifest says; CacheBusy while another pulls into the same folder; OSError.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise ExchangeError(f"{folder} is there, and nothing is written over: name another --cache.")
    api = hub().HfApi(token=token)
    staging = folder.with_name(f".{folder.name}.pull")
    if staging.is_symlink() or (staging.exists() and not staging.is_dir()):
        raise ExchangeError(f"{staging} is in the way: delete it.")
    with hub_errors(repo, "reading"):
        info = api.dataset_info(repo, revision=revision, files_metadata=True)
        siblings = {file.rfilename: file for file in info.siblings or ()}
        if MANIFEST not in siblings:
            raise ExchangeError(
                f"{repo} holds no cache that `vidclip push` has written: it has no {MANIFEST} in {revision}."
            )
        if (siblings[MANIFEST].size or 0) > _LARGEST_MANIFEST:
            raise ExchangeError(f"{MANIFEST} of {repo} has {siblings[MANIFEST].size:,} bytes: it is none.")
        staging.mkdir(exist_ok=True)
        with writer_lock(staging):
            manifest = _read_manifest(api, repo, info.sha, staging)
            _check_listed(repo, manifest, siblings)
            _check_room(staging, manifest)
            for number, name in enumerate(manifest.files):
                if on_file:
                    on_file(number, len(manifest.files), name)
                _fetch(api, repo, info.sha, staging, name, manifest)
            _remove_others(staging, manifest)
            _check_cache(repo, staging, manifest)
            if os.path.lexists(folder):
                raise ExchangeError(f"{folder} has been made meanwhile, and nothing is written over.")
            staging.rename(folder)
            sync_folder(folder.parent)
    card = getattr(info, "card_data", None)
    license = getattr(card, "license", None) if card is not None else None
    return Pulled(
        manifest.videos, manifest.n_bytes, str(info.sha), license if isinstance(license, str) else ""
    )


def _download(api: Any, repo: str, commit: str, staging: Path, name: str) -> Path:
    path = Path(api.hf_hub_download(repo, name, repo_type="dataset", revision=commit, local_dir=staging))
    if path.is_symlink() or path.resolve().parent != staging.resolve():
        raise HubError(f"{name} of {repo} came to lie outside {staging}.")
    return path


def _read_manifest(api: Any, repo: str, commit: str, staging: Path) -> Manifest:
    (staging / MANIFEST).unlink(missing_ok=True)
    try:
        return Manifest.decode(
            read_regular(_download(api, repo, commit, staging, MANIFEST), _LARGEST_MANIFEST)
        )
    except ValueError as error:
        raise ExchangeError(f"{MANIFEST} of {repo} is damaged: {error}.") from error


def _check_listed(repo: str, manifest: Manifest, siblings: dict[str, Any]) -> None:
    for name, (size, _) in manifest.files.items():
        if name not in siblings:
            raise ExchangeError(f"{repo} lacks {name}, which its {MANIFEST} names: tell its publisher.")
        listed = siblings[name].size
        if listed is not None and listed != size:
            raise ExchangeError(
                f"{name} of {repo} has {listed:,} bytes, and its {MANIFEST} says {size:,}: tell its publisher."
            )


def _check_room(staging: Path, manifest: Manifest) -> None:
    there = sum((staging / name).stat().st_size for name in manifest.files if (staging / name).is_file())
    needed, free = manifest.n_bytes - there, shutil.disk_usage(staging).free
    if needed > free:
        raise ExchangeError(f"{needed:,} bytes more are needed, and the disk of {staging} has {free:,} left.")


def _fetch(api: Any, repo: str, commit: str, staging: Path, name: str, manifest: Manifest) -> None:
    size, sha = manifest.files[name]
    for attempt in range(2):
        path = _download(api, repo, commit, staging, name)
        if path.stat().st_size == size and sha256_of(path) == sha:
            return
        path.unlink()  # a file that an earlier call left may be damaged; one that has just come is not tried again
        if attempt:
            break
    raise ExchangeError(
        f"{name} of {repo} is not what its {MANIFEST} says: its SHA-256 differs, so it was damaged on the way or there. "
        "Nothing of it is used; the same command fetches it again."
    )


def _remove_others(staging: Path, manifest: Manifest) -> None:
    for path in staging.iterdir():
        if path.name in manifest.files or path.name.startswith(".lock"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_cache(repo: str, staging: Path, manifest: Manifest) -> None:
    """Raise ExchangeError, and remove everything, where files that came as they were sent are no sound cache."""
    problems: list[str] = []
    try:
        for path in sorted(staging.glob("*.h5")):
            with path.open("rb") as file:
                if file.read(len(_VERSION_2)) != _VERSION_2:
                    problems.append(f"{path.name} is of another format")
        if not problems:
            problems += [problem for checked in verify(staging) for problem in checked.problems]
        if not problems:
            cache = FeatureCache(staging)
            if (cache.identity.digest, len(cache)) != (manifest.identity, manifest.videos):
                problems.append(f"it holds other videos, or of another identity, than its {MANIFEST} says")
    except CacheError as error:
        problems.append(str(error))
    if problems:
        with contextlib.suppress(OSError):
            shutil.rmtree(staging)
        raise ExchangeError(
            f"what {repo} holds is no sound cache: {problems[0].replace(str(staging), repo)} Nothing of it was kept; tell its "
            "publisher."
        )
