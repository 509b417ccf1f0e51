"""A video of the cache, by what its user calls it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..cache import FeatureCache


def is_there(name: str) -> bool:
    """Return whether there is a file or folder of this name; a name that none can have is no error."""
    try:
        return Path(name).exists()
    except OSError:
        return False


def find_video(features: FeatureCache, video: str, option: str) -> int:
    """Return the position of a video: its id, its path, or the end of its id. Raises click.BadParameter where none, or
    several, are meant."""
    if video in features:
        return features.index(video)
    path = str(Path(video).absolute()) if is_there(video) else None
    found = [
        index
        for index, info in enumerate(features.videos)
        if info.id.endswith(f"/{video}") or info.path == path
    ]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(features.ids[index] for index in found[:3])
        raise click.BadParameter(f"{video!r} may be any of {several}; say more of the id.", param_hint=option)
    import difflib

    close = difflib.get_close_matches(video, features.ids[:20_000], n=3, cutoff=0.4)
    hint = f" Closest: {', '.join(close)}." if close else ""
    raise click.BadParameter(
        f"{video!r} is not in {features.folder}; bring it in with `vidclip extract`.{hint}", param_hint=option
    )
