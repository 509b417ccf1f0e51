"""`vidclip extract`: videos -> cache."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .conditions import NEARNESS, Condition, with_option
from .options import cache_option, decoding_options, device_option, vidclip_command
from .parameters import argument, option

if TYPE_CHECKING:
    from ..pipeline.datasets import VideoList
    from ..pipeline.extract import Progress, Summary

_SHOWN = 5
"""How many failed and missing videos are named on the screen."""

OF_DATASET = {
    "needs": Condition(
        lambda call: bool(call.values("--dataset")) and call.nearness("--dataset") <= call.nearness("source"),
        "--dataset",
    ),
    "hint": "A CSV names splits in the column `split`, segments in the columns `start` and `end`.",
}


class Part(click.ParamType):
    """`i/n`: the i-th of n parts, counted from 0."""

    name = "i/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        index, _, count = str(value).partition("/")
        several = index.isdecimal() and count.isdecimal() and max(len(index), len(count)) < 7
        if not (several and int(index) < int(count)):
            self.fail(f"{value!r} is not i/n with 0 <= i < n, such as 0/4, 1/4, 2/4, 3/4", param, ctx)
        return int(index), int(count)


@vidclip_command(
    epilog="Example:  vidclip extract videos/ --model ViT-B-16 --pretrained openai --frames 8",
    short_help="Read videos once; keep their CLIP embeddings.",
)
@argument("source", nargs=-1, type=click.Path(path_type=Path))
@cache_option
@option(
    "--model", default="ViT-B-16", show_default=True, help="An open_clip model, local-dir:FOLDER, or demo."
)
@option(
    "--pretrained",
    default="",
    help="Weights: a tag of open_clip or a checkpoint file.  [default: openai, where there are such]",
)
@option("--frames", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Frames of a clip.")
@option("--clips", type=click.IntRange(1, 1000), default=1, show_default=True, help="Clips of a video.")
@option("--crops", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Crops of a frame.")
@option(
    "--crop-positions", type=click.Choice(["longer-side", "width"]), default="longer-side", show_default=True,
    help="Three crops along the longer side, or along the width of portrait videos too, as the released BIKE and "
    "Text4Vis crop.",
)  # fmt: skip
@option(
    "--mode", type=click.Choice(["uniform", "dense"]), default="uniform", show_default=True,
    help="Frames over the whole video, or over 128 neighbouring frames.",
)  # fmt: skip
@option(
    "--position", type=click.Choice(["start", "middle"]), default="start", show_default=True,
    needs=with_option("--mode", "uniform"),
    help="Which frame of each segment.",
)  # fmt: skip
@option(
    "--resize", type=click.IntRange(1, 10_000), help="Short side before cropping.  [default: the model's own]"
)
@option(
    "--size", type=click.IntRange(1, 10_000), help="Side of the square the model sees.  [default: its own]"
)
@option(
    "--root", type=click.Path(path_type=Path, file_okay=False),
    help="Where ids begin, and what a list's paths are relative to; of --dataset, the folder of its videos.",
)  # fmt: skip
@option(
    "--dataset", metavar="NAME",
    help="In the place of SOURCE, a public data set as its own files list it: ucf101, hmdb51, kinetics400, ... "
    "`vidclip dataset check --help` names them all.",
)  # fmt: skip
@option(
    "--split",
    **OF_DATASET,
    help="Of --dataset: 1, 2 or 3 of UCF101 and HMDB51; train, val or test of the others.  [default: all]",
)
@option(
    "--annotations", type=click.Path(path_type=Path), **OF_DATASET,
    help="Of --dataset: its split and label files, their folder or one file.  [default: looked for below the root]",
)  # fmt: skip
@option(
    "--segments/--no-segments", default=None, **OF_DATASET,
    help="Of --dataset: whether a row is a segment of its video.  [default: of Kinetics, where a file is a whole "
    "video; of ActivityNet not]",
)  # fmt: skip
@option(
    "--allow-missing",
    is_flag=True,
    help="Leave out videos of a list that are not there; of --dataset, always.",
)
@option(
    "--lexicon",
    help="Check that every label is in this lexicon, before the work begins. The classes that the numbers of a "
    ".txt list count.",
)
@decoding_options
@option(
    "--batch-size", type=click.IntRange(1, 1_000_000),
    help="Frames in one pass of the encoder.  [default: 32 on a CPU, else 256]",
)  # fmt: skip
@device_option
@option(
    "--precision", type=click.Choice(["auto", "fp32", "fp16", "bf16"]), default="auto", show_default=True,
    help="auto: fp16 on an accelerator, fp32 on a CPU.",
)  # fmt: skip
@option("--shard", "part", type=Part(), help="Take every n-th video, from the i-th on: for job arrays.")
@option("--retry-failed", is_flag=True, help="Try again what could not be read before.")
@click.pass_context
def command(ctx: click.Context, source: tuple[Path, ...], **options: Any) -> None:
    """Reads every video of SOURCE once, and keeps its frame embeddings in the cache.

    SOURCE is a folder (ROOT/LABEL/VIDEO gives labels), a CSV with the header path,label,split, a .txt list of the
    BIKE, Text4Vis or X-CLIP repositories (with --lexicon), or video files. In its place, --dataset and --root read
    a public data set from its own split and label files.

    \b
        vidclip extract --dataset ucf101 --root /data/UCF-101
        vidclip extract val.txt --root /data/frames --lexicon kinetics400

    What the cache has is not done again: a run that was ended, however, is continued by the same command.

    Videos of a data set that are not there are counted and left out; the file missing.jsonl in the cache lists them
    all. A list must be whole, unless --allow-missing is given.

    Exit status: 0 done, also where videos are missing; 1 done, but some videos could not be read; 2 could not.
    """
    ctx.exit(run(*_choose_source(ctx, source, options), **options))


def _choose_source(
    ctx: click.Context, source: tuple[Path, ...], options: dict[str, Any]
) -> tuple[tuple[Path, ...], str | None]:
    """SOURCE or --dataset. What stands nearer counts: the command line before the environment before the file."""
    dataset: str | None = options.pop("dataset")
    if source and dataset:
        places = [ctx.get_parameter_source(name) for name in ("source", "dataset")]
        of_source, of_dataset = (
            NEARNESS.index(place) if place in NEARNESS else len(NEARNESS) for place in places
        )
        if of_source == of_dataset:
            raise click.UsageError(
                f"SOURCE and --dataset {dataset} both say which videos to read: give one of them. The folder of a "
                "data set is its --root."
            )
        source, dataset = (source, None) if of_source < of_dataset else ((), dataset)
    return source, dataset


def _videos(source: tuple[Path, ...], dataset: str | None, options: dict[str, Any]) -> VideoList:
    """What is to be read, its labels checked."""
    from ..lexicons import load_lexicon
    from ..pipeline.datasets import check_labels, read_dataset, read_videos

    lexicon = load_lexicon(options["lexicon"]) if options["lexicon"] else None
    if dataset:
        if options["root"] is None:
            raise click.UsageError(
                f"--dataset {dataset} needs --root: the folder of its videos, or of their folders of frames."
            )
        videos = read_dataset(
            dataset, options["root"], **{name: options[name] for name in ("split", "annotations", "segments")}
        )
    elif source:
        videos = read_videos(
            source[0] if len(source) == 1 else source,
            root=options["root"],
            allow_missing=options["allow_missing"],
            lexicon=lexicon,
        )
    else:
        raise click.UsageError(
            'no videos were named. Say where they are: `vidclip extract videos/`, or source = "videos" in '
            "vidclip.toml; or name a public data set: `vidclip extract --dataset ucf101 --root FOLDER`."
        )
    if lexicon:
        check_labels((*videos, *videos.missing), lexicon)
    return videos


def run(source: tuple[Path, ...], dataset: str | None = None, **options: Any) -> int:
    """Does the work of the command; returns its exit status."""
    from ..pipeline.sampling import Sampling
    from .output import printable, warn

    videos = _videos(source, dataset, options)
    for note in videos.notes:
        warn(note)
    _report_missing(videos)
    if options["crop_positions"] != "longer-side" and options["crops"] == "1":
        raise click.UsageError(
            f"--crop-positions {options['crop_positions']} is about three crops: give --crops 3 too, or leave it out."
        )
    try:
        sampling = Sampling(
            frames=options["frames"],
            clips=options["clips"],
            crops=int(options["crops"]),
            mode=options["mode"],
            position=options["position"],
            crop_positions=options["crop_positions"],
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error

    from dataclasses import replace
    from importlib.metadata import version

    from ..cache import MissingVideo, write_missing
    from ..pipeline.encoder import load_encoder
    from ..pipeline.extract import extract

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)  # a job scheduler's farewell: finish the shard, as on Ctrl-C
    with _Display(f"loading {printable(options['model'])}") as display:
        encoder = load_encoder(
            options["model"],
            options["pretrained"],
            device=options["device"],
            precision=options["precision"],
            image_size=options["size"],
        )
        for message in encoder.warnings:
            warn(message)
        try:
            preprocess = replace(encoder.preprocess, resize=options["resize"])
        except ValueError as error:
            raise click.UsageError(f"--resize: {error}") from error
        summary = extract(
            videos,
            encoder,
            options["cache"],
            sampling,
            preprocess=preprocess,
            workers=options["workers"],
            timeout_seconds=options["timeout"],
            memory_gib=options["worker_memory"],
            batch_size=options["batch_size"] or (32 if encoder.device.type == "cpu" else 256),
            part=options["part"],
            retry_failed=options["retry_failed"],
            created_by=f"vidclip {version('vidclip')}",
            on_progress=display,
        )
    write_missing(
        options["cache"],
        (MissingVideo(video.id, video.split, video.labels, video.origin) for video in videos.missing),
    )
    return _report(summary, options["cache"], videos)


def _report_missing(videos: VideoList) -> None:
    """Before the work: whoever gave the wrong folder need not wait for its end."""
    from .output import count, printable

    if not videos.missing:
        return
    listed = len(videos) + len(videos.missing)
    click.echo(f"{len(videos.missing):,} of {count(listed, 'listed video')} missing, and left out:")
    for video in videos.missing[:_SHOWN]:
        click.echo(f"  {printable(video.id)}  ({printable(video.origin)})")
    if len(videos.missing) > _SHOWN:
        click.echo(f"  ... and {len(videos.missing) - _SHOWN:,} more")


def _report(summary: Summary, folder: Path, videos: VideoList) -> int:
    from ..cache.missing import MISSING_FILE
    from .output import count, duration, printable

    progress = summary.progress
    parts = [f"{count(progress.encoded, 'video')} encoded in {duration(progress.seconds)}"]
    if progress.encoded:
        rate = progress.encoded / progress.seconds
        parts.append(f"{rate:.1f} videos/s, {progress.frames / progress.seconds:.1f} frames/s")
        parts.append(f"held up by {progress.held_up_by}")
    if progress.present:
        parts.append(f"{progress.present:,} done before")
    click.echo(f"{printable(folder)}: {'; '.join(parts)}.")
    if videos.n_other_files:
        click.echo(f"Left out: {count(videos.n_other_files, 'file')} not named like a video.")
    if videos.missing:
        click.echo(
            f"Missing: {count(len(videos.missing), 'video')}, listed in {printable(folder / MISSING_FILE)}."
        )
    if summary.interrupted:
        left = progress.listed - progress.done
        click.echo(
            f"Interrupted with {count(left, 'video')} to go; all that was encoded is kept. "
            "The same command goes on from here."
        )
        return 130
    if summary.failures:
        click.echo(
            f"{count(len(summary.failures), 'video')} of {progress.listed:,} could not be read; all are listed in "
            f"{printable(folder / 'failures.jsonl')}, and --retry-failed tries them again:"
        )
        for failure in summary.failures[:_SHOWN]:
            click.echo(f"  {printable(failure.id)}: {printable(failure.reason)}")
        if len(summary.failures) > _SHOWN:
            click.echo(f"  ... and {len(summary.failures) - _SHOWN:,} more")
        return 1
    return 0


class _Display:
    """Progress on standard error, where that is a terminal."""

    def __init__(self, beginning: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from .output import console

        screen = console(err=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=screen,
            disable=not screen.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(beginning, total=None, rate="", state="")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        state = f"held up by {progress.held_up_by}" if progress.seconds > 5 else ""
        if progress.failed:
            state = f"{progress.failed:,} failed  {state}"
        self._bar.update(
            self._task,
            description=f"{progress.done:,}/{progress.listed:,} videos",
            total=progress.listed,
            completed=progress.done,
            rate=f"{progress.encoded / max(progress.seconds, 1e-9):.1f}/s",
            state=state,
        )
