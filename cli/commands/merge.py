"""`vidclip merge`: several caches become one."""

from __future__ import annotations

from pathlib import Path

import click

from ..messages import say
from ..options import vidclip_command
from ..parameters import argument, option


@vidclip_command(epilog="Example:  vidclip merge features-0 features-1 --output features")
@argument("caches", nargs=-1, required=True, type=click.Path(path_type=Path))
@option("--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="The joined cache.")
def command(caches: tuple[Path, ...], output: Path) -> None:
    """Joins CACHES that several machines extracted with one encoder and one sampling.

    A video that several have is taken from the first, and one that was removed from a source, or from OUTPUT, from none
    (`vidclip remove --undo` there, and it is). The sources stay as they are.
    """
    from ...cache import merge
    from ..output import count, printable, warn

    merged = merge(caches, output)
    already_there = f", {merged.already_there:,} were there already" if merged.already_there else ""
    failed = f", {merged.failures:,} could be read by none" if merged.failures else ""
    left_out = f", {merged.left_out:,} left out that had been removed" if merged.left_out else ""
    relabeled = f", {merged.relabeled:,} labeled anew" if merged.relabeled else ""
    say(
        f"{printable(output)}: {count(merged.videos, 'video')} taken in{already_there}{left_out}{relabeled}{failed}."
    )
    if merged.kept:
        warn(
            f"{count(merged.kept, 'video')} that a source has removed stay in {output}, which has them from before: `vidclip "
            "remove --cache` takes them out."
        )
