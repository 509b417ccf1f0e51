"""`vidclip compare`: two evaluations against each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import json_option, vidclip_command
from ..parameters import argument, option

if TYPE_CHECKING:
    from ...pipeline.evaluation import PairedComparison, PredictionRow


@vidclip_command(
    epilog="Example:  vidclip eval --cache b16 --predictions b16.csv && vidclip eval --cache l14 --predictions l14.csv\n\n"
    "          vidclip compare b16.csv l14.csv"
)
@argument("first", type=click.Path(path_type=Path, dir_okay=False))
@argument("second", type=click.Path(path_type=Path, dir_okay=False))
@option(
    "--scorer", "scorers", multiple=True,
    help="Which scorer of the files; twice: of FIRST and of SECOND.  [default: each that both have, or the only ones]",
)  # fmt: skip
@option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Classes and videos that are shown."
)
@json_option
def command(first: Path, second: Path, scorers: tuple[str, ...], top: int, json_file: Path | None) -> None:
    """Says how much better SECOND is than FIRST.

    Two files of `vidclip eval --predictions` are paired by video: the difference with its interval, and the classes and
    videos that differ most. Two of `vidclip eval --json` have figures alone: their differences, as of independent tests.
    """
    from ..output import write_json

    documents = [_eval_json(path) for path in (first, second)]
    if all(document is not None for document in documents):
        found = _compare_figures(documents, scorers, shown=str(json_file) != "-")
    else:
        found = _compare_predictions(first, second, scorers, top, shown=str(json_file) != "-")
    if json_file:
        write_json(json_file, found)


def _eval_json(path: Path) -> Any:
    """Return the content of a file of `vidclip eval --json`; None where it is no JSON list."""
    import json

    if path.suffix.lower() != ".json":
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # what reads predictions says what is wrong
    return document if isinstance(document, list) else None


def _compare_figures(documents: list[Any], scorers: tuple[str, ...], *, shown: bool) -> list[dict[str, Any]]:
    from ...pipeline.evaluation import compare_figures
    from ..output import console, table

    if scorers:
        raise click.UsageError("--scorer goes with files of `vidclip eval --predictions` alone.")
    found = compare_figures(*documents)
    rows = []
    for each in found:
        interval = "" if each.interval is None else f" [{each.interval[0]:+.1f}, {each.interval[1]:+.1f}]"
        difference = f"{each.second - each.first:+.1f}{interval}"
        rows.append(
            [each.protocol, each.scorer, each.metric, f"{each.first:.1f}", f"{each.second:.1f}", difference]
        )
    if shown:
        names = ["protocol", "scorer", "metric", "first %", "second %", "difference"]
        console().print(table("", names, rows, left=3))
        click.echo(
            "Brackets: 95 %, as of independent tests. Two files of `vidclip eval --predictions FILE` are compared video by "
            "video, which says more."
        )
    return [asdict(each) for each in found]


def _compare_predictions(
    first: Path, second: Path, scorers: tuple[str, ...], top: int, *, shown: bool
) -> list[dict[str, Any]]:
    from ...pipeline.evaluation import compare_predictions, read_predictions

    one, other = (_by_scorer(read_predictions(path)) for path in (first, second))
    documents = []
    for a, b in _pairs(first, second, list(one), list(other), scorers):
        found = compare_predictions(one[a], other[b])
        if shown:
            _print(found, top)
        documents.append(
            {
                **{key: value for key, value in vars(found).items() if key not in ("gained", "lost")},
                "comparison": vars(found.comparison),
                "classes": [asdict(each) for each in found.classes],
                **{
                    key: [[asdict(row) for row in pair] for pair in getattr(found, key)]
                    for key in ("gained", "lost")
                },
            }
        )
    return documents


def _by_scorer(rows: list[PredictionRow]) -> dict[str, list[PredictionRow]]:
    found: dict[str, list[PredictionRow]] = {}
    for row in rows:
        found.setdefault(row.scorer, []).append(row)
    return found


def _pairs(
    first: Path, second: Path, one: list[str], other: list[str], asked: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Return the scorers to compare, of each file."""
    if len(asked) > 2:
        raise click.UsageError(f"--scorer is given once or twice, not {len(asked)} times.")
    if asked:
        for path, has, name in ((first, one, asked[0]), (second, other, asked[-1])):
            if name not in has:
                raise click.UsageError(f"{path} has no scorer {name!r}. It has {', '.join(map(repr, has))}.")
        return [(asked[0], asked[-1])]
    common = [name for name in one if name in other]
    if common:
        return [(name, name) for name in common]
    if len(one) == len(other) == 1:
        return [(one[0], other[0])]
    raise click.UsageError(
        f"{first} has the scorers {', '.join(map(repr, one))}, and {second} {', '.join(map(repr, other))}: say which to "
        "compare, with --scorer twice."
    )


def _print(found: PairedComparison, top: int) -> None:
    from ..output import console, count, printable, table

    both = found.first if found.first == found.second else f"{found.first} and {found.second}"
    alone = [f"{n:,} in {name} alone" for n, name in ((found.n_only_first, "FIRST"), (found.n_only_second, "SECOND")) if n]  # fmt: skip
    click.echo(
        printable(
            f"{both}: {count(found.n, 'test')} of videos in both{''.join(f', {each}' for each in alone)}."
        )
    )
    made = found.comparison
    p = f"p = {made.p:.3f}" if made.p >= 0.001 else "p < 0.001"
    click.echo(
        f"top-1 {found.top1_first:.1f} % and {found.top1_second:.1f} %: {made.difference:+.1f} "
        f"[{made.low:+.1f}, {made.high:+.1f}], {p} (95 % bootstrap interval over videos, paired)"
    )
    if found.classes:
        rows = [
            [
                each.label,
                each.n,
                f"{each.first:.1f}",
                f"{each.second:.1f}",
                f"{each.second - each.first:+.1f}",
            ]
            for each in found.classes[:top]
        ]
        title = f"classes that differ most, of {len(found.classes)}"
        console().print(table(title, ["class", "n", "FIRST %", "SECOND %", ""], rows))
    for name, pairs in (("SECOND", found.gained), ("FIRST", found.lost)):
        if pairs:
            rows = [[a.id, a.label, _said(a), _said(b)] for a, b in pairs[:top]]
            title = f"right in {name} alone: {len(pairs):,}"
            console().print(table(title, ["video", "label", "FIRST", "SECOND"], rows, left=4))


def _said(row: PredictionRow) -> str:
    return "right" if row.rank == 1 else f"{row.best[0][0] if row.best else '?'} (rank {row.rank})"
