"""`vidclip saliency`: how relevant each frame of videos is to phrases."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..conditions import with_option, without_option
from ..messages import say
from ..named_video import find_video
from ..options import (
    cache_option,
    device_option,
    encoder_loader,
    json_option,
    model_options,
    prompts_of,
    vidclip_command,
)
from ..parameters import PICTURES, OutputFile, argument, option
from ..scoring_options import prompt_option, temperature_option, words_option

if TYPE_CHECKING:
    from numpy import ndarray

    from ...cache import FeatureCache
    from ...pipeline.report import VideoSaliency

_BAR = 40
_MOST_LINES = 40
"""Of more frames of a video the highest are listed, and a curve over time is drawn in the place of a strip."""
_HIGHEST = 10


@vidclip_command(
    epilog='Example:  vidclip saliency juggling/clip.mp4 "juggling balls" --output saliency.png\n\n'
    '          vidclip saliency long.mp4 "juggling balls" --frames 500 --output timeline.pdf'
)
@argument("video")
@argument("phrases", nargs=-1, required=True)
@cache_option
@option("--video", "others", multiple=True, help="This video too: its id, the end of it, or its path.")
@prompt_option()
@temperature_option(None)
@words_option(None)
@option(
    "--view", type=click.IntRange(0), default=0, show_default=True, needs=without_option("--frames"),
    help="Which clip and crop.",
)  # fmt: skip
@option(
    "--frames", type=click.IntRange(2, 4096),
    help="Read so many frames of each video anew, evenly over its time, in the place of the cache's: for long videos.",
)  # fmt: skip
@option(
    "--output", type=OutputFile(suffixes=PICTURES),
    help="Draw the frames with their saliency: .png, .svg or .pdf. The numbers are written beside it, as .json behind the "
    "whole name.",
)  # fmt: skip
@option(
    "--form", type=click.Choice(["strip", "timeline"]), needs=with_option("--output"),
    help=f"Draw the frames with a bar each, or a curve over time with the frames at its peaks.  [default: strip; timeline "
    f"of more than {_MOST_LINES} frames]",
)  # fmt: skip
@json_option
@model_options
@device_option
def command(
    video: str,
    phrases: tuple[str, ...],
    cache: Path,
    others: tuple[str, ...],
    output: Path | None,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Shows how much attention each PHRASE gives each frame of VIDEO (BIKE, Video Concept Spotting).

    VIDEO is the id of a video in the cache, its path, or the end of its id. The shares of a phrase's frames sum
    to 100 %. Bars and curves of all phrases and videos share one scale.
    """
    import numpy as np

    from ...cache import FeatureCache
    from ...lexicons import Lexicon
    from ...pipeline.encoders import check_has_text, check_has_time, collapse_note
    from ...pipeline.report import VideoSaliency, read_cached_frames, read_dense_frames
    from ...pipeline.scoring import ConceptSpotter, ConceptSpottingConfig
    from ..files import check_writable
    from ..output import write_json

    beside = output.with_name(f"{output.name}.json") if output and not json_file else None
    if beside:
        check_writable(beside, "--output")
    prompts = prompts_of(options["prompt"])
    features = FeatureCache(cache)
    check_has_text(features.identity)
    if not options["frames"]:
        check_has_time(features.identity, features.shape[2], "Saliency")
    found = [
        find_video(features, video, "VIDEO"),
        *(find_video(features, each, "--video") for each in others),
    ]
    view, count = options["view"], options["frames"]
    if view >= features.shape[1]:
        raise click.BadParameter(f"{cache} has the views 0 to {features.shape[1] - 1}.", param_hint="--view")
    asked = Lexicon("phrases", tuple(dict.fromkeys(phrases)), tuple(dict.fromkeys(phrases)))
    load = encoder_loader()
    texts = load(features.identity).encode_text(asked.phrases, prompts, words=options["words"])
    load.note(collapse_note(texts))
    spotter = ConceptSpotter(texts, ConceptSpottingConfig(temperature=options["temperature"]))
    videos: list[VideoSaliency] = []
    scores: list[ndarray] = []
    for index in dict.fromkeys(found):
        if count:
            dense = read_dense_frames(features, index, count, load(features.identity, "auto"))
            frames, pixels, seconds, numbers = (
                dense.embeddings[None], dense.pixels, dense.seconds, dense.indices,
            )  # fmt: skip
        else:
            frames = features.frames([index])[:, view]
            nothing = np.zeros((frames.shape[1], 1, 1, 3), np.uint8)
            pixels = read_cached_frames(features, index)[view] if output else nothing
            seconds, numbers = features.timestamps([index])[0, view], features.frame_indices([index])[0, view]
        scores.append(spotter.scores(frames)[0])
        videos.append(
            VideoSaliency(features.ids[index], pixels, spotter.saliency(frames)[0], seconds, numbers)
        )
    if str(json_file) != "-":
        _print(videos, asked.phrases, scores)
    if output:
        _draw(videos, asked.phrases, output, options["form"], beside, silent=str(json_file) == "-")
    target = json_file or beside
    if target:
        settings = {
            "prompts": prompts,
            "words": options["words"],
            "temperature": options["temperature"],
            "view": None if count else view,
            "frames_read": count,
        }
        write_json(target, _document(features, videos, asked.phrases, scores, settings))


def _print(videos: list[VideoSaliency], phrases: tuple[str, ...], scores: list[ndarray]) -> None:
    """Print the share of each frame; bars share one scale."""
    from ..output import count, printable

    scale = max(float(video.shares.max()) for video in videos)
    for number, (video, own) in enumerate(zip(videos, scores, strict=True)):
        click.echo(("\n" if number else "") + printable(video.name))
        total = len(video.seconds)
        for phrase, of_phrase, score in zip(phrases, video.shares, own, strict=True):
            shown = range(total)
            if total > _MOST_LINES:
                shown = sorted(sorted(shown, key=lambda t: -of_phrase[t])[:_HIGHEST])
            few = "" if total <= _MOST_LINES else f"; the {_HIGHEST} highest of {count(total, 'frame')}"
            click.echo(f"\n  {printable(phrase)}   (score of the video {score:.3f}{few})")
            for t in shown:
                share, second = float(of_phrase[t]), float(video.seconds[t])
                bar = "█" * round(_BAR * share / scale)
                # A folder of images has no times.
                when = " " * 9 if math.isnan(second) else f"{second:7.2f} s"
                click.echo(f"  frame {video.indices[t]:5}  {when}  {100 * share:5.1f} %  {bar}")


def _draw(
    videos: list[VideoSaliency],
    phrases: tuple[str, ...],
    output: Path,
    form: str | None,
    beside: Path | None,
    *,
    silent: bool,
) -> None:
    from ...pipeline import report
    from ..output import printable, save_picture

    timed = not any(math.isnan(second) for video in videos for second in video.seconds)
    long = timed and max(len(video.seconds) for video in videos) > _MOST_LINES
    if form is None:
        form = "timeline" if long else "strip"
    if form == "timeline" and not timed:
        raise click.UsageError("--form timeline needs the times of frames, and folders of images have none.")
    draw = report.saliency_timeline if form == "timeline" else report.saliency_strip
    save_picture(draw(videos, phrases), output)
    if not silent:
        numbers = f"; the numbers are in {printable(beside)}" if beside else ""
        say(f"\n{printable(output)}: a {form}{numbers}.")


def _document(
    features: FeatureCache,
    videos: list[VideoSaliency],
    phrases: tuple[str, ...],
    scores: list[ndarray],
    settings: dict[str, Any],
) -> dict[str, Any]:
    def shown(video: VideoSaliency, own: ndarray) -> dict[str, Any]:
        info = features.videos[features.index(video.name)]
        return {
            "video": info.id,
            "path": info.path,
            "frame_indices": [int(each) for each in video.indices],
            "seconds": [None if math.isnan(each) else float(each) for each in video.seconds],
            "phrases": [
                {"phrase": phrase, "score": float(score), "saliency": [float(share) for share in row]}
                for phrase, score, row in zip(phrases, own, video.shares, strict=True)
            ],
        }

    return {
        "cache": str(features.folder),
        "features": features.identity.digest,
        "encoder": features.identity.encoder_name,
        "encoder_sha256": features.identity.encoder_digest,
        "sampling": dict(features.identity.sampling),
        **settings,
        "videos": [shown(video, own) for video, own in zip(videos, scores, strict=True)],
    }
