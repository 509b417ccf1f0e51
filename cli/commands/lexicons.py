"""`vidclip lexicons`: what can be said."""

from __future__ import annotations

import click

from ..conditions import Condition
from ..options import vidclip_command
from ..parameters import argument, option

NAMED = Condition(lambda call: bool(call.values("name")), "NAME")


@vidclip_command(epilog="Example:  vidclip lexicons k400")
@argument("name", required=False)
@option("--labels", is_flag=True, needs=NAMED, help="Print the dataset's own spelling of each label.")
def command(name: str | None, labels: bool) -> None:
    """Lists the lexicons that come with vidclip; with NAME (or a text file of one's own), prints its phrases in
    their official order."""
    from ...lexicons import available_lexicons, load_lexicon

    if name is None:
        from ..output import console, table

        rows = [
            [info.name, ", ".join(info.aliases), info.description, f"{info.n_entries:,}"]
            for info in available_lexicons()
        ]
        console().print(table("", ["name", "also", "what", "phrases"], rows, left=3))
        return
    lexicon = load_lexicon(name)
    from ..output import printable

    click.echo("\n".join(printable(text) for text in (lexicon.labels if labels else lexicon.phrases)))
