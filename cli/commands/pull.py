"""`vidclip pull`: a cache from a hub of datasets."""

from __future__ import annotations

from pathlib import Path

import click

from ..options import cache_option, vidclip_command
from ..parameters import argument, option


@vidclip_command(
    epilog="Example:  vidclip pull OWNER/NAME --cache features",
    short_help="A cache from a hub of datasets, every file checked.",
)
@argument("repo", metavar="OWNER/NAME")
@cache_option
@option("--revision", default="main", show_default=True, help="Branch, tag or commit.")
def command(repo: str, cache: Path, revision: str) -> None:
    """Fetches what `vidclip push` has sent to the dataset OWNER/NAME of the Hugging Face hub (or of HF_ENDPOINT).

    The folder of --cache must not be there. It is made when every file has the SHA-256 that the dataset's list says, and the
    cache as a whole is verified; what breaks off goes on with the same command. Nothing in the files is run, and no
    encoder that they name is loaded from a folder, file or page unless --model names it too.

    The token, for a private dataset, is that of `hf auth login`, or HF_TOKEN. Needs pip install 'vidclip[hf]'.
    """
    from ...pipeline.exchange import pull_cache
    from ..output import count, printable, progress_bar, size, warn

    with progress_bar("files") as advance:
        done = pull_cache(repo, cache, revision=revision, on_file=advance)
    click.echo(
        f"{printable(cache)}: {count(done.videos, 'video')}, {size(done.n_bytes)}, from {printable(repo)} at {printable(done.commit[:12])}; "
        f"license: {printable(done.license) or 'not stated'}. Every file was checked."
    )
    if not done.license:
        warn("its card states no license: ask its publisher before you publish what you make of it.")
