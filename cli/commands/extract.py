"""`vidclip extract`: videos -> cache."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import CHANGED, CROP_POSITIONS, ENGINES, MODES, POSITIONS, PRECISIONS
from ..conditions import with_option
from ..head_options import SEED
from ..messages import say
from ..options import (
    cache_option,
    decoding_options_of,
    device_option_of,
    encoder_options,
    reading_settings,
    vidclip_command,
)
from ..parameters import FiniteRange, option
from ..part import Part
from ..released import AsReleased, as_released_option
from ..video_source import print_missing, read_source, source_argument, source_options

if TYPE_CHECKING:
    from ...pipeline.datasets import VideoList
    from ...pipeline.extraction import RaySettings, Summary


LOCAL, RAY = (with_option("--engine", engine) for engine in ENGINES)


@vidclip_command(
    epilog="Example:  vidclip extract videos/ --model ViT-B-16 --pretrained openai --frames 8",
    groups={
        "With --engine ray": "--address --gpus-per-worker --cpus-per-worker --max-workers --lease",
    },
)
@source_argument
@cache_option
@encoder_options
@option(
    "--frames", type=click.IntRange(1, 10_000),
    help="Frames of a clip. A shorter video, such as an image, repeats its own.  [default: 8; with --images 1]",
)  # fmt: skip
@option("--clips", type=click.IntRange(1, 1000), default=1, show_default=True, help="Clips of a video.")
@option("--crops", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Crops of a frame.")
@option(
    "--crop-positions", type=click.Choice(CROP_POSITIONS), default="longer-side", show_default=True,
    needs=with_option("--crops", "3"),
    help="Three crops along the longer side, or along the width of portrait videos too, as the released BIKE and "
    "Text4Vis crop.",
)  # fmt: skip
@option(
    "--mode", type=click.Choice(MODES), default="uniform", show_default=True,
    help="Frames over the whole video, or over 128 neighboring frames.",
)  # fmt: skip
@option(
    "--position", type=click.Choice(POSITIONS), default="start", show_default=True,
    needs=with_option("--mode", "uniform"),
    help="Which frame of each segment; random: another one for each clip, as in the released tests of X-CLIP.",
)  # fmt: skip
@option(
    "--clip-seed", type=SEED, default=0, show_default=True, needs=with_option("--position", "random"),
    help="Random seed of the frames, which follow from it, the clip and the id of the video.",
)  # fmt: skip
@option(
    "--resize", type=click.IntRange(1, 10_000), help="Short side before cropping.  [default: the model's own]"
)
@as_released_option
@option(
    "--size", type=click.IntRange(1, 10_000), help="Side of the square the model sees.  [default: its own]"
)
@source_options
@option(
    "--lexicon",
    help="Check that every label is in this lexicon, before the work begins. The classes that the numbers of a "
    ".txt list count.",
)
@decoding_options_of(None, workers=LOCAL)
@option(
    "--batch-size", type=click.IntRange(1, 1_000_000),
    help="Frames in one pass of the encoder.  [default: 32 on a CPU, else 256]",
)  # fmt: skip
@device_option_of(LOCAL)
@option(
    "--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True,
    help="In which the encoder is held and run. auto: that of the cache, if it has features; else fp16 on an accelerator, "
    "bf16 on a CPU with instructions for it (avx512_bf16, AMX), fp32 on others.",
)  # fmt: skip
@option(
    "--patches/--no-patches", default=True, show_default=True,
    help="Keep the patch tokens of an X-CLIP encoder, for its video-specific prompts: many times the size of its "
    "frames.",
)  # fmt: skip
@option(
    "--part", type=Part(), metavar="i/n|auto",
    help="Take the i-th of n parts of the videos, by a digest of their ids: for job arrays. auto: as the scheduler counts "
    "(arrays and steps of Slurm, RANK and WORLD_SIZE, indexed jobs of Kubernetes).",
)  # fmt: skip
@option(
    "--changed", type=click.Choice(CHANGED), default="encode", show_default=True,
    help="What to do where the file of a video in the cache is another one today. encode: read it again, unless the "
    "earlier file is still there under another path; replace: then too; keep: leave the features; error: stop.",
)  # fmt: skip
@option("--retry-failed", is_flag=True, help="Try again what could not be read before.")
@option("--strict", is_flag=True, help="Exit status 1 for failures of earlier runs too.")
@option(
    "--engine", type=click.Choice(ENGINES), default="local", show_default=True,
    help="Where it runs: on this machine, or on a Ray cluster (pip install 'vidclip[ray]').",
)  # fmt: skip
@option(
    "--address", needs=RAY,
    help="Of the cluster; auto: that of this machine.  [default: RAY_ADDRESS, or else a Ray of this machine alone]",
)  # fmt: skip
@option(
    "--gpus-per-worker", type=FiniteRange(0, 64), default=1.0, show_default=True, needs=RAY,
    help="GPUs of a worker, which runs one encoder; 0.5: two share one; 0: it computes on CPUs.",
)  # fmt: skip
@option(
    "--cpus-per-worker", type=click.IntRange(1, 1024), default=8, show_default=True, needs=RAY,
    help="Processors of a worker, and its decoding processes.",
)  # fmt: skip
@option(
    "--max-workers", type=click.IntRange(1, 100_000), needs=RAY,
    help="How many workers at most, and to wait for.  [default: as many as the cluster has room for now]",
)  # fmt: skip
@option(
    "--lease", type=click.IntRange(1, 100_000), default=512, show_default=True, needs=RAY,
    help="Videos that a worker is given at a time, at most, and writes as one file.",
)  # fmt: skip
@click.pass_context
def command(ctx: click.Context, as_released: AsReleased, **options: Any) -> None:
    """Reads every video of SOURCE once, and keeps its frame embeddings in the cache.

    SOURCE is a folder (ROOT/LABEL/VIDEO gives labels), a CSV with the header path,label,split, a .txt list of the
    BIKE, Text4Vis or X-CLIP repositories (with --lexicon), video files, or several of these, whose ids then begin with
    the names of their folders. An image is a video of one frame; a folder of
    images is one video with these frames, or with --images as many videos. In place of SOURCE, --dataset and --root
    read a public data set from its own split and label files.

    \b
        vidclip extract --dataset ucf101 --root /data/UCF-101
        vidclip extract val.txt --root /data/frames --lexicon kinetics400
        vidclip extract imagenet/ --images --lexicon imagenet1k

    What the cache has is not done again: a run that was ended, however, is continued by the same command. A video
    whose file has changed since (size or modification time) is read again. Labels and splits follow the list.

    Videos of a data set that are not there are counted and left out; the file missing.jsonl in the cache lists them
    all. A list must be whole, unless --allow-missing is given.

    Exit status: 0 done, also where videos are missing; 1 done, but some videos could not be read that no earlier run
    has reported; 2 could not.
    """
    from ...lexicons import load_lexicon
    from ...pipeline.datasets import check_labels
    from ...pipeline.encoders import EncoderRequest
    from ...pipeline.extraction import run_extraction
    from ...pipeline.video import Sampling
    from ..output import printable, warn
    from ..progress import ProgressDisplay

    lexicon = load_lexicon(options["lexicon"]) if options["lexicon"] else None
    videos, folder = read_source(ctx, lexicon), options["cache"]
    if lexicon:
        check_labels((*videos, *videos.missing), lexicon)
    for note in videos.notes:
        warn(note)
    print_missing(videos)
    chosen = ("clips", "mode", "position", "crop_positions")
    frames = options["frames"] or (1 if options["images"] else 8)
    seed = options["clip_seed"] if options["position"] == "random" else None
    try:
        sampling = Sampling(
            frames, crops=int(options["crops"]), seed=seed, **{name: options[name] for name in chosen}
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    settings = replace(
        reading_settings(options),
        **{name: options[name] for name in ("batch_size", "part", "retry_failed", "changed", "patches")},
    )
    cluster = _cluster(options) if options["engine"] == "ray" else None
    with (
        _terminable(),
        _clean_output(cluster),
        ProgressDisplay(f"loading {printable(options['model'])}") as display,
    ):
        summary = run_extraction(
            videos,
            EncoderRequest(options["model"], options["pretrained"], options["size"]),
            folder,
            sampling,
            settings,
            cluster=cluster,
            resize=lambda size: as_released.short_side(size, int(options["crops"])),
            device=options["device"],
            precision=options["precision"],
            on_warning=warn,
            on_progress=display,
        )
    as_released.echo()
    ctx.exit(_report(summary, folder, videos, images=options["images"], strict=options["strict"]))


def _cluster(options: dict[str, Any]) -> RaySettings:
    from ...pipeline.extraction import RaySettings

    names = ("address", "gpus_per_worker", "cpus_per_worker", "lease", "max_workers")
    try:
        return RaySettings(**{name: options[name] for name in names})
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _clean_output(cluster: RaySettings | None) -> contextlib.AbstractContextManager[object]:
    """Keep what Ray prints, of workers that have died, out of the standard output."""
    return contextlib.redirect_stdout(sys.stderr) if cluster else contextlib.nullcontext()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM, which job schedulers send, interrupt as Ctrl-C does. Only the main thread may handle signals; the
    handler of before is restored."""
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


def _report(summary: Summary, folder: Path, videos: VideoList, *, images: bool, strict: bool) -> int:
    from ...cache.missing import MISSING_FILE
    from ..output import count, duration, printable

    progress = summary.progress
    parts = [f"{count(progress.encoded, 'video')} encoded in {duration(progress.seconds)}"]
    if progress.encoded:
        rates = [number / progress.seconds for number in (progress.encoded, progress.frames)]
        parts += [f"{rates[0]:.1f} videos/s, {rates[1]:.1f} frames/s", f"bottleneck: {progress.bottleneck}"]
    if progress.present:
        parts.append(f"{progress.present:,} done before")
    say(f"{printable(folder)}: {'; '.join(parts)}.")
    example = printable(next(iter((*summary.changed, *summary.plan.kept)), ""))
    were, them = ("was", "it") if progress.damaged == 1 else ("were", "them")
    for n, noun, before, after in (
        (len(summary.changed), "video", "Read again:", f" whose files had changed, such as {example}"),
        (len(summary.plan.kept), "video", "Left as before:", f" whose files have changed, such as {example}"),
        *_recognized(summary),
        (summary.plan.relabeled, "video", "Labels or splits: those of", " now follow this list"),
        (summary.plan.unknown, "video", "Not known: whether the files of", " have changed. An older vidclip read them, "
         "which did not write down their sizes and times"),
        (progress.damaged, "video", "Damaged:", f" {were} read with damage; `vidclip info {shlex.quote(printable(folder))}` names {them}"),
        (videos.n_other_files, "file", "Left out:", f" not named like {'an image' if images else 'a video'}"),
        (len(videos.missing), "video", "Missing:", f", listed in {printable(folder / MISSING_FILE)}"),
    ):  # fmt: skip
        if n:
            say(f"{before} {count(n, noun)}{after}.")
    if summary.interrupted:
        left = progress.listed - progress.done
        click.echo(
            f"Interrupted with {count(left, 'video')} to go; all that was encoded is kept. "
            "The same command goes on from here."
        )
        return 130
    return _report_failures(summary, folder, strict=strict)


def _recognized(summary: Summary) -> Iterator[tuple[int, str, str, str]]:
    """Yield the lines on videos whose content the cache had: number, noun, and the words around them."""
    from ..output import printable

    known = summary.plan.known
    again = [each for each in known if each.same_id]
    renamed = [each for each in known if each.gone]
    copies = [each for each in known if not each.same_id and not each.gone]
    twice = [each for each in copies if each.before.path == os.path.abspath(each.video.path)]  # noqa: PTH100
    for found, what in (
        (renamed, "renamed or moved, by content, such as {}. Features were taken over; the earlier ids are out of the "
         "cache, and `vidclip remove --undo` gives them back"),
        (copies, "with the content of others in the cache, such as {}. Their features were copied"),
        (again, "with another time or place and the same content, such as {}. Not read again"),
    ):  # fmt: skip
        example = found[0].video.id if found is again and found else next(map(str, found), "")
        yield len(found), "video", "Recognized:", f" {what.format(printable(example))}"
    if twice:
        what = (
            f"whose file the cache has under another id too, such as {printable(twice[0].before.id)}. `vidclip remove` "
            "takes ids out; where ids begin is what --root says"
        )
        yield len(twice), "video", "In the cache twice:", f" {what}"


def _report_failures(summary: Summary, folder: Path, *, strict: bool) -> int:
    """Names the failures that no earlier run has reported, and counts the others; returns the exit status."""
    from ..output import count, echo_some, printable

    new = summary.new_failures
    old = [failure for failure in summary.failures if failure.reported]
    if new or (old and strict):
        listed = count(len(summary.failures), "video")
        before = f", {len(old):,} of them reported before" if old else ""
        click.echo(
            f"{listed} of {summary.progress.listed:,} could not be read{before}; all are listed in "
            f"{printable(folder / 'failures.jsonl')}, and --retry-failed tries them again:"
        )
        echo_some([f"{failure.id}: {failure.reason}" for failure in new or old])
        return 1
    if old:
        say(
            f"No new failures. {count(len(old), 'video')} of {summary.progress.listed:,} could not be read before: "
            f"see {printable(folder / 'failures.jsonl')}; --retry-failed tries them again, --strict counts them."
        )
    return 0
