"""`vidclip prune`: videos whose files are gone."""

from __future__ import annotations

from pathlib import Path

import click

from ..confirm import yes_option
from ..messages import say
from ..options import cache_option, vidclip_command
from ..parameters import option
from .remove import take_out


@vidclip_command(epilog="Example:  vidclip prune --cache features")
@cache_option
@option(
    "--whole-folders", is_flag=True,
    help="Also take out the videos of a root below which no file of any is left: otherwise a disk that is not mounted is "
    "suspected.",
)  # fmt: skip
@yes_option
def command(cache: Path, whole_folders: bool, yes: bool) -> None:
    """Takes the videos out of the cache whose files are gone, as `vidclip remove` does, and asks before.

    Files are looked for where they were read; a cache from another machine has none of them here.
    """
    from ...cache import FeatureCache
    from ...pipeline.extraction import find_gone
    from ..output import count, echo_some, printable

    features = FeatureCache(cache)
    gone = find_gone(features)
    ids = list(gone.ids)
    if gone.roots and whole_folders:
        ids += [id for several in gone.roots.values() for id in several]
    elif gone.roots:
        kept = sum(map(len, gone.roots.values()))
        click.echo(
            f"Left: {count(kept, 'video')} of folders where no file of any is left. Is a disk not mounted, or was a folder "
            "moved? --whole-folders takes them out too:"
        )
        echo_some([f"{root}: {count(len(several), 'video')}" for root, several in gone.roots.items()])
    if gone.unknown:
        click.echo(f"Left: {count(len(gone.unknown), 'video')} whose files cannot be asked for:")
        echo_some([f"{id}: {features.videos[features.index(id)].path or 'no path'}" for id in gone.unknown])
    if not ids:
        say(f"{printable(cache)}: no video to take out.")
        return
    take_out(features, sorted(ids), yes=yes)
