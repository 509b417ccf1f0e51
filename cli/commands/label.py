"""`vidclip label`: labels and splits of videos in a cache."""

from __future__ import annotations

from pathlib import Path

import click

from ..conditions import with_option, without_option
from ..messages import say, suggestion
from ..options import cache_option, vidclip_command
from ..parameters import option

_AHEAD = without_option("--undo")


@vidclip_command(
    epilog="Example:  vidclip label --from list.csv\n\n          vidclip label --set 'yoga/*=yoga' --set-split 'yoga/*=test'"
)
@cache_option
@option(
    "--from", "list_file", type=click.Path(path_type=Path), metavar="LIST", needs=_AHEAD,
    help="A CSV with the header path,label,split, as for `extract`; label and split may be absent. The videos need not be "
    "there.",
)  # fmt: skip
@option(
    "--root", type=click.Path(path_type=Path, file_okay=False), needs=with_option("--from"),
    help="Where the ids of the list begin.  [default: its folder]",
)  # fmt: skip
@option(
    "--set", "labels", multiple=True, metavar="ID=LABEL", needs=_AHEAD,
    help="The label of a video, or of those of a pattern ('yoga/*'); several with ; between them, none to take it away. "
    "After the list; the last one counts.",
)  # fmt: skip
@option(
    "--set-split", "splits", multiple=True, metavar="ID=SPLIT", needs=_AHEAD, help="The same for the split."
)
@option("--lexicon", needs=_AHEAD, help="Check that every new label is in this lexicon.")
@option("--undo", is_flag=True, help="Give back what the last `vidclip label` changed.")
def command(
    cache: Path,
    list_file: Path | None,
    root: Path | None,
    labels: tuple[str, ...],
    splits: tuple[str, ...],
    lexicon: str | None,
    undo: bool,
) -> None:
    """Gives videos of the cache other labels and splits. Nothing is encoded, and no video is opened.

    A row of a list names the video of its id (its path below the root), or else the video that was read from its path.
    A list without any label leaves labels as they are, and one without any split splits. Rows of videos that the cache
    does not have are counted.

    `vidclip extract` with another list changes them again: the last list counts.
    """
    from ...cache import FeatureCache
    from ...lexicons import load_lexicon
    from ...pipeline.datasets import Video, check_labels, read_rows
    from ...pipeline.extraction import plan_relabeling, undo_relabeling
    from ..output import count, echo_some, printable, quoted

    if not (undo or list_file or labels or splits):
        raise click.UsageError(
            "nothing was said of any video: give --from LIST, --set ID=LABEL, --set-split or --undo."
        )
    features = FeatureCache(cache)
    if undo:
        planned = undo_relabeling(features)
    else:
        planned = plan_relabeling(
            features, read_rows(list_file, root=root) if list_file else (), labels, splits
        )
    if lexicon:
        check_labels(
            (Video(id, Path(), each.labels) for id, each in planned.facts.items()), load_lexicon(lexicon)
        )
    known = {label for labels in features.labels.used() for label in labels}
    planned.apply(features)
    changed = planned.changed
    named = count(len(planned.facts), "video")
    if changed:
        have = "has another label or split" if len(changed) == 1 else "have other labels or splits"
        back = quoted(["vidclip", "label", "--undo", "--cache", str(cache)])
        say(f"{printable(cache)}: {len(changed):,} of {named} {have} now. This takes it back: {back}")
    else:
        say(f"{printable(cache)}: nothing to change; {named} named, with these labels and splits already.")
    new = dict.fromkeys(label for id in changed for label in planned.facts[id].labels if label not in known)
    if new and known and not (lexicon or undo):
        shown = [printable(repr(label) + suggestion(label, known)) for label in list(new)[:5]]
        more = [f"... and {len(new) - 5:,} more"] if len(new) > 5 else []
        say("\n  ".join([f"{count(len(new), 'label')} that no video had before:", *shown, *more]))
    if planned.absent:
        click.echo(f"Not in the cache: {count(len(planned.absent), 'video')} of {printable(list_file)}:")
        echo_some([f"{video.id}  ({video.origin})" for video in planned.absent])
