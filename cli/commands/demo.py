"""`vidclip demo`: a world in the box."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from ..conditions import with_option
from ..messages import say
from ..options import vidclip_command
from ..parameters import argument, option

SETTINGS = """\
# The demo's settings: what every command in this folder takes where nothing else is said.
model = "demo"            # the small encoder that comes with vidclip; it knows this world only

[extract]
source = "videos.csv"

[attributes]
lexicon = ["demo"]

[eval]
lexicon = "demo-classes"
pool = ["mean", "vcs"]
temperature = {temperature}         # of concept spotting, chosen on validation videos
shots = [0, 1, 2, 4]       # of few-shot: there are four training videos of a class

[fit]
lexicon = "demo-classes"
"""


@vidclip_command(epilog="Example:  vidclip demo && cd vidclip-demo && vidclip eval --split test-idle")
@argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("vidclip-demo"))
@option("--videos-only", is_flag=True, help="Render the videos and their list, and stop.")
@option(
    "--count", type=click.IntRange(1, 1_000_000), needs=with_option("--videos-only"),
    help="With --videos-only: this many trimmed videos, for benchmarks.  [default: 900 of all kinds]",
)  # fmt: skip
@option("--workers", type=click.IntRange(1, 1024), help="Processes that render.  [default: one a processor]")
def command(folder: Path, videos_only: bool, count: int | None, workers: int | None) -> None:
    """Renders short videos of people doing things into FOLDER, and runs vidclip's commands on them with an
    encoder that comes with the package and understands them. No network, no GPU, about half a minute.

    Run again, it reuses what is there.
    """
    from ...demo.videos import first_clips, list_clips

    _render(folder, first_clips(count) if count else list_clips(), workers)
    if videos_only:
        return
    from ...demo.measure import TEMPERATURE

    settings = folder / "vidclip.toml"
    if not settings.exists():
        settings.write_text(SETTINGS.format(temperature=TEMPERATURE), encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for arguments in (
            ["extract"],
            ["attributes", "--lexicon", "demo"],
            ["eval", "--protocol", "half-classes"],
        ):
            _run(arguments)
        _print_table()
    finally:
        os.chdir(before)
    say(
        f"\nTry next:\n"
        f"  cd {shlex.quote(str(folder))}\n"
        "  vidclip eval --split test-idle --attributes demo       # videos that show their action 30 % of the time\n"
        "  vidclip eval --protocol few-shot --classifier text --classifier linear --pool mean --json shots.json\n"
        "  vidclip plot few-shot shots.json\n"
        "  vidclip eval --pool mean --pool max --pool vote --pool vcs --split test-distracting\n"
        "  vidclip search 'swinging an umbrella' --moments        # which videos, and when in them\n"
        "  vidclip report --output page.html                      # a page with pictures: open it in a browser\n"
        "  vidclip info                                           # what the cache knows\n"
        "  vidclip extract YOUR_VIDEOS --cache features-b16 --model ViT-B-16 --pretrained openai"
    )


def _render(folder: Path, clips: list, workers: int | None) -> None:
    from ...demo.videos import LIST_FILE, write_world
    from ..output import count, printable, progress_bar

    with progress_bar("rendering videos") as advance:
        there = None
        for done, _ in write_world(folder, clips, workers=workers or 0):
            there = done if there is None else there
            advance(done, len(clips), "")
    new = len(clips) - (there or 0)
    say(f"{printable(folder / LIST_FILE)}: {count(len(clips), 'video')}, {new:,} of them rendered now.")


def _run(arguments: list[str]) -> None:
    from ..main import main
    from ..verbosity import flags

    say(f"\n$ vidclip {shlex.join(arguments)}")
    status = main.main(args=[*arguments, *flags()], prog_name="vidclip", standalone_mode=False)
    if status:
        raise click.exceptions.Exit(status)


def _print_table() -> None:
    """All kinds of videos, all methods, top-1 among all classes."""
    from ...cache import FeatureCache
    from ...demo.measure import PROMPT, main_scorers, results_by_kind
    from ...lexicons import load_lexicon
    from ...pipeline.encoders import text_embeddings
    from ...pipeline.scoring import attributes_of
    from ..output import console, table

    cache, classes = FeatureCache("features"), load_lexicon("demo-classes")
    texts = text_embeddings(cache, classes, [PROMPT])
    stored = attributes_of(cache, [load_lexicon("demo")]).stored
    found = results_by_kind(cache, classes, main_scorers(texts, stored))
    names = [result.scorer for result in next(iter(found.values()))]
    rows = [
        [name, *(str(results[i].figures["top1"]) for results in found.values())]
        for i, name in enumerate(names)
    ]
    rows.append(["chance", *(f"{100 / len(classes):.1f}" for _ in found)])
    title = f"zero-shot top-1 % among all {len(classes)} classes [95 % interval], by kind of video"
    columns = ["", *(f"{kind} ({results[0].n_videos})" for kind, results in found.items())]
    click.echo()
    console().print(table(title, columns, rows))
    click.echo(
        "trimmed: the action throughout; idle: 30 % of the time; distracting: and somebody else does another."
    )
