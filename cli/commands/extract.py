"""`vidclip extract`: videos -> cache."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..conditions import NEARNESS, Condition, with_option
from ..options import cache_option, decoding_options, device_option, share_cores, vidclip_command
from ..parameters import argument, option
from ..released import apply_released, as_released_option, released_line, released_short_side

if TYPE_CHECKING:
    from ...cache import Failure
    from ...pipeline.datasets import VideoList
    from ...pipeline.encoders import EncoderRequest
    from ...pipeline.extraction import Progress, Summary
    from ...pipeline.video import Sampling

_SHOWN = 5
"""How many failed and missing videos are named on the screen."""
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?|mps")
LINE_SECONDS = 30.0
"""How often a line says where an extraction stands, where standard error is no terminal."""

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
    needs=with_option("--crops", "3"),
    help="Three crops along the longer side, or along the width of portrait videos too, as the released BIKE and "
    "Text4Vis crop.",
)  # fmt: skip
@option(
    "--mode", type=click.Choice(["uniform", "dense"]), default="uniform", show_default=True,
    help="Frames over the whole video, or over 128 neighboring frames.",
)  # fmt: skip
@option(
    "--position", type=click.Choice(["start", "middle"]), default="start", show_default=True,
    needs=with_option("--mode", "uniform"),
    help="Which frame of each segment.",
)  # fmt: skip
@option(
    "--resize", type=click.IntRange(1, 10_000), help="Short side before cropping.  [default: the model's own]"
)
@as_released_option
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
    help="In which the encoder is held and run. auto: that of the cache, if it has features; else fp16 on an accelerator, "
    "bf16 on a CPU with instructions for it (avx512_bf16, AMX), fp32 on others.",
)  # fmt: skip
@option(
    "--part", type=Part(),
    help="Take the i-th of n parts of the videos, by a digest of their ids: for job arrays.",
)  # fmt: skip
@option(
    "--changed", type=click.Choice(["encode", "replace", "keep", "error"]), default="encode", show_default=True,
    help="What to do where the file of a video in the cache is another one today. encode: read it again, unless the "
    "earlier file is still there under another path; replace: then too; keep: leave the features; error: stop.",
)  # fmt: skip
@option("--retry-failed", is_flag=True, help="Try again what could not be read before.")
@option("--strict", is_flag=True, help="Exit status 1 for failures of earlier runs too.")
@click.pass_context
def command(ctx: click.Context, source: tuple[Path, ...], **options: Any) -> None:
    """Reads every video of SOURCE once, and keeps its frame embeddings in the cache.

    SOURCE is a folder (ROOT/LABEL/VIDEO gives labels), a CSV with the header path,label,split, a .txt list of the
    BIKE, Text4Vis or X-CLIP repositories (with --lexicon), or video files. In its place, --dataset and --root read
    a public data set from its own split and label files.

    \b
        vidclip extract --dataset ucf101 --root /data/UCF-101
        vidclip extract val.txt --root /data/frames --lexicon kinetics400

    What the cache has is not done again: a run that was ended, however, is continued by the same command. A video
    whose file has changed since (size or modification time) is read again. Labels and splits follow the list.

    Videos of a data set that are not there are counted and left out; the file missing.jsonl in the cache lists them
    all. A list must be whole, unless --allow-missing is given.

    Exit status: 0 done, also where videos are missing; 1 done, but some videos could not be read that no earlier run
    has reported; 2 could not.
    """
    apply_released(options)
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
    from ...lexicons import load_lexicon
    from ...pipeline.datasets import check_labels, read_dataset, read_videos

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
    from ...pipeline.video import Sampling
    from ..output import printable, warn

    share_cores()
    videos = _videos(source, dataset, options)
    for note in videos.notes:
        warn(note)
    _report_missing(videos)
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

    from ...pipeline.encoders import EncoderRequest
    from ...pipeline.extraction import look, size_of

    folder = options["cache"]
    asked = EncoderRequest(options["model"], options["pretrained"], options["size"])
    listed_by = _listed_by(source, dataset, options)
    same = {name: options[name] for name in ("part", "changed", "retry_failed")}
    with _terminable():
        found = look(
            videos,
            folder,
            lambda identity: {
                **sampling.to_dict(),
                "resize": released_short_side(options, asked.image_size or size_of(identity)),
            },
            asked if _DEVICE.fullmatch(options["device"]) else None,  # a device that cannot be must be said
            precision=options["precision"],
            source=listed_by,
            **same,
        )
        summary = found.summary
        if summary is None:
            with _Display(f"loading {printable(options['model'])}") as display:
                summary = _extract(
                    videos, asked, sampling, found.precision, listed_by, display, same, options
                )
    if options["as_released"]:
        click.echo(released_line(options["as_released"]))
    return _report(summary, folder, videos, strict=options["strict"])


def _extract(
    videos: VideoList,
    asked: EncoderRequest,
    sampling: Sampling,
    precision: str,
    listed_by: str,
    display: _Display,
    same: dict[str, Any],
    options: dict[str, Any],
) -> Summary:
    """Loads the encoder, and reads what is to be read."""
    from dataclasses import replace
    from importlib.metadata import version

    from ...pipeline.encoders import files_of, load_encoder, remember_encoder
    from ...pipeline.extraction import cache_identity, extract
    from ..output import warn

    began_ns = time.time_ns()
    encoder = load_encoder(
        asked.model,
        asked.pretrained,
        device=options["device"],
        precision=precision,
        image_size=asked.image_size,
    )
    for message in encoder.warnings:
        warn(message)
    try:
        resize = released_short_side(options, max(encoder.preprocess.size))
        preprocess = replace(encoder.preprocess, resize=resize)
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
        source=listed_by,
        created_by=f"vidclip {version('vidclip')}",
        on_progress=display,
        **same,
    )
    identity = cache_identity(encoder, sampling, preprocess)
    remember_encoder(options["cache"], identity, asked, files_of(encoder), began_ns)
    return summary


def _listed_by(source: tuple[Path, ...], dataset: str | None, options: dict[str, Any]) -> str:
    """The list in a text: by it, its missing videos are found when it is read again."""
    root = options["root"].absolute() if options["root"] else ""
    if not dataset:
        return f"{' '.join(str(path.absolute()) for path in source)} below {root}"
    chosen = [
        f"{name} {options[name]}"
        for name in ("split", "annotations", "segments")
        if options[name] is not None
    ]
    return " ".join([dataset, f"below {root}", *chosen])


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """A job scheduler's farewell (SIGTERM) ends the shard, as Ctrl-C does. In the main thread alone: no other may
    listen to signals. What was there before is there again afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        # None: a handler that was not set from Python, and cannot be set again from here.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _report_missing(videos: VideoList) -> None:
    """Before the work: whoever gave the wrong folder need not wait for its end."""
    from ..output import count, printable

    if not videos.missing:
        return
    listed = len(videos) + len(videos.missing)
    click.echo(f"{len(videos.missing):,} of {count(listed, 'listed video')} missing, and left out:")
    for video in videos.missing[:_SHOWN]:
        click.echo(f"  {printable(video.id)}  ({printable(video.origin)})")
    if len(videos.missing) > _SHOWN:
        click.echo(f"  ... and {len(videos.missing) - _SHOWN:,} more")


def _report(summary: Summary, folder: Path, videos: VideoList, *, strict: bool) -> int:
    from ...cache.missing import MISSING_FILE
    from ..output import count, duration, printable

    progress = summary.progress
    parts = [f"{count(progress.encoded, 'video')} encoded in {duration(progress.seconds)}"]
    if progress.encoded:
        rate = progress.encoded / progress.seconds
        parts.append(f"{rate:.1f} videos/s, {progress.frames / progress.seconds:.1f} frames/s")
        parts.append(f"held up by {progress.bottleneck}")
    if progress.present:
        parts.append(f"{progress.present:,} done before")
    click.echo(f"{printable(folder)}: {'; '.join(parts)}.")
    if summary.changed:
        click.echo(
            f"Read again: {count(len(summary.changed), 'video')} whose files had changed, such as "
            f"{printable(summary.changed[0])}."
        )
    if summary.kept:
        click.echo(
            f"Left as before: {count(len(summary.kept), 'video')} whose files have changed, such as "
            f"{printable(summary.kept[0])}."
        )
    if summary.relabelled:
        click.echo(f"Labels or splits: those of {count(summary.relabelled, 'video')} now follow this list.")
    if summary.unknown:
        click.echo(
            f"Not known: whether the files of {count(summary.unknown, 'video')} have changed. An older vidclip read "
            "them, which did not write down their sizes and times."
        )
    if progress.damaged:
        were = "was" if progress.damaged == 1 else "were"
        click.echo(
            f"Damaged: {count(progress.damaged, 'video')} {were} read with damage; `vidclip info` names them."
        )
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
    return _report_failures(summary, folder, strict=strict)


def _report_failures(summary: Summary, folder: Path, *, strict: bool) -> int:
    """Names the failures that no earlier run has reported, and counts the others; returns the exit status."""
    from ..output import count, printable

    new = summary.new_failures
    old = [failure for failure in summary.failures if failure.reported]
    if new or (old and strict):
        listed = count(len(summary.failures), "video")
        before = f", {len(old):,} of them reported before" if old else ""
        click.echo(
            f"{listed} of {summary.progress.listed:,} could not be read{before}; all are listed in "
            f"{printable(folder / 'failures.jsonl')}, and --retry-failed tries them again:"
        )
        _name_failures(new or old)
        return 1
    if old:
        click.echo(
            f"No new failures. {count(len(old), 'video')} of {summary.progress.listed:,} could not be read before: "
            f"see {printable(folder / 'failures.jsonl')}; --retry-failed tries them again, --strict counts them."
        )
    return 0


def _name_failures(failures: Sequence[Failure]) -> None:
    from ..output import printable

    for failure in failures[:_SHOWN]:
        click.echo(f"  {printable(failure.id)}: {printable(failure.reason)}")
    if len(failures) > _SHOWN:
        click.echo(f"  ... and {len(failures) - _SHOWN:,} more")


class _Display:
    """Progress on standard error: a bar where that is a terminal, else a line now and then."""

    def __init__(self, beginning: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from ..output import console

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
        self._lines = None if screen.is_terminal else _Lines()

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._lines:
            self._lines.stop()

    def __call__(self, progress: Progress) -> None:
        if self._lines:
            self._lines.tell(progress)
            return
        state = f"held up by {progress.bottleneck}" if progress.seconds > 5 else ""
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


class _Lines:
    """A line for the log file as soon as it is known what there is to do, and one every `LINE_SECONDS` from then on,
    also where nothing comes back from the decoders."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vidclip-lines", daemon=True)

    def tell(self, progress: Progress) -> None:
        if self._progress is None and progress.done < progress.listed:
            self._progress = progress
            click.echo(progress_line(progress), err=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LINE_SECONDS):
            if self._progress:
                click.echo(progress_line(self._progress), err=True)


def progress_line(progress: Progress) -> str:
    """`0:30: 1,200 of 10,000 videos, 39.2 videos/s, 3:44 left, 2 failed`."""
    from ..output import duration

    parts = [f"{progress.done:,} of {progress.listed:,} videos"]
    read = progress.encoded + progress.failed
    if read:
        rate = read / max(progress.seconds, 1e-9)
        parts.append(f"{rate:.1f} videos/s")
        parts.append(f"{duration((progress.listed - progress.done) / rate)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    return f"{duration(progress.seconds)}: {', '.join(parts)}"
