"""`vidclip predict`: the classes of video files, by a trained head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...pipeline.choices import VIDEO_PROMPTS
from ..options import (
    decoding_options,
    device_option,
    encoder_loader,
    json_option,
    model_options,
    share_cores,
    vidclip_command,
)
from ..parameters import argument, option


@vidclip_command(epilog="Example:  vidclip predict clip.mp4 other.mp4 --head head.safetensors")
@argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@option(
    "--head", required=True, type=click.Path(path_type=Path, dir_okay=False),
    help="A head that `vidclip fit` trained.",
)  # fmt: skip
@option(
    "--lexicon", help="Other class names, for a head with the text classifier.  [default: the head's own]"
)
@option(
    "--video-prompts", type=click.Choice(VIDEO_PROMPTS),
    help="Of X-CLIP's head: class embeddings that look at the video, or its integration transformer alone.  "
    "[default: on]",
)  # fmt: skip
@option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes shown of a video.")
@decoding_options
@json_option
@model_options
@device_option
@click.pass_context
def command(
    ctx: click.Context, videos: tuple[Path, ...], head: Path, json_file: Path | None, **options: Any
) -> None:
    """Reads VIDEOS as those were read that the head was trained on, and names their likeliest classes.

    VIDEOS are files, one folder, or one CSV. The encoder is the head's; where that is a
    folder, a file or a hub page, --model must name it too.

    Exit status: 0 done; 1 done, but some videos could not be read; 2 could not.
    """
    share_cores()
    from ...lexicons import load_lexicon
    from ...pipeline.datasets import read_videos
    from ...pipeline.evaluation import predict
    from ...pipeline.extraction import ExtractSettings
    from ...pipeline.heads import head_over, load_head
    from ..output import console, printable, progress_bar, table, write_json

    stored = load_head(head)
    listed = read_videos(videos[0] if len(videos) == 1 else videos)
    load = encoder_loader()
    classes = load_lexicon(options["lexicon"]) if options["lexicon"] else None
    prompts = options["video_prompts"]
    if prompts and stored.kind != "x-clip":
        raise click.UsageError(f"--video-prompts {prompts} goes with an x-clip head; {head} is none.")
    module = head_over(stored, classes, load, video_prompts=prompts != "off")
    with progress_bar("reading videos") as advance:
        predictions, failures = predict(
            listed,
            stored,
            module,
            load(stored.identity, "auto"),
            ExtractSettings(options["workers"], options["timeout"], options["worker_memory"]),
            device=options["device"],
            on_progress=lambda progress: advance(progress.done, progress.listed, ""),
        )
    labels = classes.labels if classes else stored.classes
    path_of = {video.id: str(video.path) for video in listed}
    found = [
        {
            "video": prediction.id,
            "path": path_of[prediction.id],
            "classes": [
                {"label": labels[i], "probability": float(prediction.probabilities[i])}
                for i in prediction.best(options["top"])
            ],
        }
        for prediction in predictions
    ]
    document = {
        "head": str(head),
        "predictions": found,
        "failures": [
            {"video": failure.id, "path": path_of[failure.id], "reason": failure.reason}
            for failure in failures
        ],
    }
    if str(json_file) != "-":
        rows = []
        for each in found:
            for place, one in enumerate(each["classes"]):
                rows.append(["" if place else each["video"], one["label"], f"{100 * one['probability']:.1f}"])
        if rows:
            console().print(table("", ["video", "class", "%"], rows, left=2))
    if json_file:
        write_json(json_file, document)
    for failure in failures:
        click.echo(f"{printable(failure.id)}: could not be read: {printable(failure.reason)}", err=True)
    ctx.exit(1 if failures else 0)
