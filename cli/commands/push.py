"""`vidclip push`: a cache onto a hub of datasets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..conditions import without_option
from ..confirm import ask
from ..options import cache_option, vidclip_command
from ..parameters import argument, option

if TYPE_CHECKING:
    from ...pipeline.exchange import PublicCopy

SENDS = without_option("--dry-run")


@vidclip_command(
    epilog="Example:  vidclip push OWNER/NAME --cache features --license cc-by-4.0 --dry-run",
    short_help="A cache onto a hub of datasets, with a card.",
)
@argument("repo", metavar="OWNER/NAME")
@cache_option
@option(
    "--license", default="",
    help="License of the features, as the hub calls it (cc-by-4.0, other).  [default: the card says that none is stated]",
)  # fmt: skip
@option(
    "--public", is_flag=True, needs=SENDS, help="Let all see a new dataset.  [default: a new one is private]"
)
@option("--revision", default="main", show_default=True, needs=SENDS, help="Branch that is written to.")
@option(
    "--labels/--no-labels", default=True, show_default=True,
    help="Labels, splits, and the texts of class names too.",
)  # fmt: skip
@option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing; the hub is not asked.")
@option("--yes", is_flag=True, needs=SENDS, help="Do not ask.")
def command(
    repo: str,
    cache: Path,
    license: str,
    public: bool,
    revision: str,
    labels: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Sends the cache to the dataset OWNER/NAME of the Hugging Face hub (or of HF_ENDPOINT), with a card.

    First it makes a copy, in a temporary folder, without the paths of this machine, and says what is in it; then it asks. Ids of
    videos stay: their paths below the root of the list. Sent is what the hub does not have, in one commit, so that the
    same command goes on after it broke off. `vidclip pull` reads it.

    The token is that of `hf auth login`, or HF_TOKEN. Needs pip install 'vidclip[hf]'.
    """
    from ...cache import FeatureCache
    from ...pipeline.exchange import make_public_copy, new_card, push_copy
    from ..output import count, printable, warn

    with tempfile.TemporaryDirectory(prefix="vidclip-push-") as folder:
        copy = make_public_copy(FeatureCache(cache), Path(folder) / "features", labels=labels)
        try:
            new_card(copy, repo, license)
        except ValueError as error:
            raise click.BadParameter(f"{error}.", param_hint="--license") from error
        _describe(copy, repo)
        if dry_run:
            click.echo("Nothing was sent.")
            return
        ask(f"Send this to {repo}?", yes=yes)
        done = push_copy(copy, repo, revision=revision, public=public, license=license)
    new = " (new, public)" if done.created and public else " (new, private)" if done.created else ""
    state = f"{count(copy.manifest.videos, 'video')} sent" if done.changed else "had all of this already"
    click.echo(f"{printable(done.url)}{new}: {state}.")
    if done.card == "kept":
        warn(
            f"the card of {repo} is its owner's, and was left as it is: {done.url} may say what is no longer so."
        )
    if done.card == "new" and not license:
        warn("its card states no license: say on its page under which others may use the features.")


def _describe(copy: PublicCopy, repo: str) -> None:
    """Print what is sent, what is not, and what to look at before it is."""
    from ..output import count, echo_some, printable, size, warn

    cache = copy.cache
    labels = sorted({label for own in cache.labels for label in own})
    click.echo(
        f"To be sent to {printable(repo)}: {count(len(cache), 'video')}, "
        f"{size(copy.manifest.n_bytes)} in {count(len(copy.manifest.files), 'file')}."
    )
    click.echo(f"Encoder: {printable(cache.identity)}")
    click.echo("Ids of videos:")
    echo_some(cache.ids)
    click.echo(f"Labels: {len(labels):,}" if labels else "Labels: none")
    echo_some(labels)
    for text in copy.texts:
        click.echo(f"Text: {printable(text.lexicon)}, {count(text.phrases, 'phrase')}")
    click.echo(f"Not sent: {printable('; '.join(copy.left_out))}.")
    for each in copy.remaining:
        warn(f"this is sent, and looks like a path of this machine: {each}")
