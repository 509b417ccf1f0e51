"""A public copy of a cache -> a dataset on a hub, in one commit: the page has the old state or the new one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .card import card_section, new_card, updated_card
from .errors import ExchangeError
from .hub_client import HubError, hub, hub_errors
from .public_copy import MANIFEST, Manifest, PublicCopy

CARD = "README.md"


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    url: str
    created: bool
    """Whether the dataset is new."""
    changed: bool
    """False: it had all of this already."""
    card: str
    """new; updated, of a card that vidclip began; kept, of another's."""


def push_copy(
    copy: PublicCopy,
    repo: str,
    *,
    revision: str = "main",
    public: bool = False,
    license: str = "",
    token: str | None = None,
) -> Pushed:
    """Write a public copy to the dataset `repo` (OWNER/NAME) of the hub that HF_ENDPOINT names.

    public     whether a new dataset can be seen by all; one that is there stays what it is
    license    of the card of a new dataset; empty: none is stated
    token      None: that of HF_TOKEN, or of `hf auth login`

    Sent is what the hub does not have; run again after it broke off, it goes on. A cache that is there is replaced by one
    of the same encoder and sampling, and its files that are no longer part of it are deleted; other files stay.
    Raises HubError, and ExchangeError for a dataset whose cache is of another identity.
    """
    package = hub()
    api = package.HfApi(token=token)
    with hub_errors(repo, "writing to"), tempfile.TemporaryDirectory(prefix="vidclip-push-") as scratch:
        info, created = _existing(package, api, repo), False
        if info is None:
            api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
            info, created = api.dataset_info(repo), True
        elif public and info.private:
            raise ExchangeError(f"{repo} is private: make it public on its page, or leave --public out.")
        if revision != "main":
            info = api.dataset_info(repo, revision=revision)
        there = {file.rfilename for file in info.siblings or ()}

        def stored(name: str) -> bytes | None:
            if name not in there:
                return None
            path = api.hf_hub_download(
                repo, name, repo_type="dataset", revision=info.sha, local_dir=Path(scratch)
            )
            return Path(path).read_bytes()

        before = _manifest(stored(MANIFEST), copy, repo)
        old_card = stored(CARD)
        text, card = new_card(copy, repo, license), "new"
        if old_card is not None:
            if license:
                raise ExchangeError(f"{repo} has a card: write the license there, and leave --license out.")
            written = updated_card(old_card.decode("utf-8", "replace"), card_section(copy, repo))
            text, card = written or "", "kept" if written is None else "updated"
        content = copy.manifest.encode()
        add: list[tuple[str, Any]] = [(name, str(copy.folder / name)) for name in copy.manifest.files]
        if before is not None:
            add = [each for each in add if before.files.get(each[0]) != copy.manifest.files[each[0]]]
        add.append((MANIFEST, content))
        if card != "kept" and text.encode() != old_card:
            add.append((CARD, text.encode()))
        gone = sorted((set(before.files) if before else set()) - set(copy.manifest.files))
        operations = [package.CommitOperationAdd(name, source) for name, source in add]
        operations += [package.CommitOperationDelete(name) for name in gone if name in there]
        url = f"{package.constants.ENDPOINT}/datasets/{repo}"
        if before is not None and before.encode() == content and len(operations) == 1:
            return Pushed(url, created, False, card)
        api.create_commit(
            repo,
            operations,
            repo_type="dataset",
            revision=revision,
            parent_commit=info.sha,
            commit_message=f"Write {copy.manifest.videos:,} videos with vidclip",
        )
        return Pushed(url, created, True, card)


def _existing(package: Any, api: Any, repo: str) -> Any:
    try:
        return api.dataset_info(repo)
    except package.errors.GatedRepoError:
        raise
    except package.errors.RepositoryNotFoundError:
        return None


def _manifest(content: bytes | None, copy: PublicCopy, repo: str) -> Manifest | None:
    if content is None:
        return None
    try:
        found = Manifest.decode(content)
    except ValueError as error:
        raise HubError(
            f"{repo} has a {MANIFEST} that cannot be read ({error}): delete it there, or push to another name."
        ) from error
    if found.identity != copy.manifest.identity:
        raise ExchangeError(
            f"{repo} holds features of another encoder or sampling: push these to another name, or delete {MANIFEST} and the "
            "features on its page."
        )
    return found
