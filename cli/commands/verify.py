"""`vidclip verify`: can this cache be trusted?"""

from __future__ import annotations

from pathlib import Path

import click

from ..messages import say
from ..options import cache_option, vidclip_command


@vidclip_command(epilog="Example:  vidclip verify --cache features")
@cache_option
@click.pass_context
def command(ctx: click.Context, cache: Path) -> None:
    """Reads every file of the cache: readable, whole, of one encoder and sampling, finite, checksums right,
    no video twice.

    Exit status: 0 sound; 2 not, with the names of the files that are not.
    """
    from ...cache import verify
    from ..output import count, printable

    files = videos = broken = 0
    for checked in verify(cache):
        files += 1
        videos += checked.videos
        broken += bool(checked.problems)
        for problem in checked.problems:
            click.echo(printable(problem), err=True)
    if broken:
        click.echo(f"{printable(cache)}: {broken} of {count(files, 'file')} not sound.")
        ctx.exit(2)
    say(f"{printable(cache)}: {count(files, 'file')} with {count(videos, 'video')}, all sound.")
