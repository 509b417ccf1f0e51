"""A question before something is taken away."""

from __future__ import annotations

import click

from .parameters import option

yes_option = option("--yes", is_flag=True, help="Do not ask.")


def ask(question: str, *, yes: bool) -> None:
    """Return where the user agrees, or has done so before; else end the command, with nothing done.

    Raises Failed where the answer is no, or nobody is there to answer.
    """
    from .main import Failed

    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        raise Failed("nothing was changed, for nobody answered: --yes does it without asking.") from None
    if not agreed:
        raise Failed("nothing was changed.")
