"""`vidclip compact`: few large files in the place of many small ones."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click

from ..confirm import ask, yes_option
from ..messages import say
from ..options import cache_option, vidclip_command
from ..parameters import option


@vidclip_command(epilog="Example:  vidclip compact --cache features")
@cache_option
@option(
    "--all", "everything", is_flag=True,
    help="Write large shards anew too: the whole cache is then in the order of the ids.",
)  # fmt: skip
@option(
    "--shard-megabytes", type=click.IntRange(1, 4096), default=128, show_default=True,
    help="Features of a new shard; shards below half of it are joined.",
)  # fmt: skip
@yes_option
def command(cache: Path, everything: bool, shard_megabytes: int, yes: bool) -> None:
    """Joins the small shards of the cache into large ones, each in the order of the ids, and writes its index.

    What was removed, or was read again since, is left out: where removed videos lose their features, `vidclip remove
    --undo` cannot give them back any more, and the command asks before. Texts, attributes and labels stay.

    The new shards are whole before an old one is deleted, so it needs as much free space as they take, and nothing is lost
    wherever it is interrupted. Commands that are reading the cache meanwhile have to be run again.
    """
    from ...cache import FeatureCache, compact, plan_compaction
    from ..output import count, echo_some, printable, progress_bar, size

    size_of = {"shard_bytes": shard_megabytes * 2**20, "everything": everything}
    plan = plan_compaction(FeatureCache(cache), **size_of)
    if plan.removed:
        click.echo(
            f"The features of {count(len(plan.removed), 'video')} that were taken out of {printable(cache)} go for good:"
        )
        echo_some(plan.removed)
        ask(f"Delete them? `vidclip remove --undo` cannot give {_them(plan.removed)} back then.", yes=yes)
    with progress_bar("videos") as advance:
        done = compact(
            cache,
            **size_of,
            created_by=f"vidclip {version('vidclip')}",
            removed=plan.removed,
            on_progress=lambda videos, total: advance(videos, total, ""),
        )
    if not done.shards:
        say(f"{printable(cache)}: there is nothing to join; the index is written.")
        return
    dropped = f", {done.dropped:,} rows that did not count left out" if done.dropped else ""
    say(
        f"{printable(cache)}: {count(done.videos, 'video')} of {count(len(done.shards), 'shard')} are in "
        f"{count(done.new_shards, 'shard')} now ({size(done.num_bytes)} of features){dropped}."
    )


def _them(ids: list[str]) -> str:
    return "it" if len(ids) == 1 else "them"
