"""`vidclip remove`: videos out of a cache, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..conditions import with_option, without_option
from ..confirm import ask, yes_option
from ..messages import is_quiet, say
from ..options import cache_option, vidclip_command
from ..parameters import argument, option

if TYPE_CHECKING:
    from ...cache import FeatureCache


@vidclip_command(
    epilog="Example:  vidclip remove yoga/1.mp4 'swim/*'\n\n          vidclip remove --from withdrawn.csv --yes"
)
@argument("videos", nargs=-1)
@cache_option
@option(
    "--from", "list_file", type=click.Path(path_type=Path), metavar="LIST", needs=without_option("--undo"),
    help="A CSV with a column path; other columns are not looked at. The videos need not be there.",
)  # fmt: skip
@option(
    "--root", type=click.Path(path_type=Path, file_okay=False), needs=with_option("--from"),
    help="Where the ids of the list begin.  [default: its folder]",
)  # fmt: skip
@option("--undo", is_flag=True, help="Give back VIDEOS, or without any those that were removed last.")
@yes_option
def command(
    videos: tuple[str, ...], cache: Path, list_file: Path | None, root: Path | None, undo: bool, yes: bool
) -> None:
    """Takes VIDEOS out of the cache: ids, paths or patterns of ids ('yoga/*').

    Asks before it does. No other video is encoded again. A removed video that an extraction lists again is encoded anew.

    The features stay in the files of the cache, where `--undo` finds them, and no command uses them. `vidclip compact`
    deletes them; a copy without them: `vidclip merge features --output new`.
    """
    from ...cache import FeatureCache, restore_videos
    from ...pipeline.datasets import read_rows
    from ...pipeline.extraction import match_list, match_name, match_removed
    from ..main import Failed
    from ..output import count, echo_some, printable

    features = FeatureCache(cache)
    if undo:
        named = [id for name in videos for id in match_removed(name, features)]
        back = restore_videos(cache, named if videos else None)
        if not back:
            raise Failed(
                f"{cache} has nothing to give back: no video was removed that has not been read again since."
            )
        say(
            f"{printable(cache)}: {count(len(back), 'video')} given back, {len(FeatureCache(cache)):,} in all."
        )
        return
    if not (videos or list_file):
        raise click.UsageError("no videos were named: give ids or patterns, --from LIST, or --undo.")
    ids = [id for name in videos for id in match_name(name, features)]
    if list_file:
        rows, absent = match_list(read_rows(list_file, root=root), features)
        ids += rows
        if absent:
            click.echo(f"Not in the cache: {count(len(absent), 'video')} of {printable(list_file)}:")
            echo_some([f"{video.id}  ({video.origin})" for video in absent])
    take_out(features, list(dict.fromkeys(ids)), yes=yes)


def take_out(cache: FeatureCache, ids: Sequence[str], *, yes: bool) -> None:
    """Ask, and remove videos; says what is done, and how it is undone."""
    from ...cache import remove_videos
    from ..output import count, echo_some, printable, quoted

    if not ids:
        say(f"{printable(cache.folder)}: nothing to remove.")
        return
    if not (yes and is_quiet()):
        click.echo(f"To be taken out of {printable(cache.folder)}, which has {count(len(cache), 'video')}:")
        echo_some(ids)
    ask(f"Take {count(len(ids), 'video')} out?", yes=yes)
    gone = remove_videos(cache.folder, ids)
    back = quoted(["vidclip", "remove", "--undo", "--cache", str(cache.folder)])
    say(
        f"{count(len(gone), 'video')} removed; their features stay in the files of the cache until `vidclip compact` "
        f"deletes them. This takes it back: {back}"
    )
