"""`vidclip saliency`: how relevant each frame of a video is to a phrase."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..named_video import find_video
from ..options import (
    cache_option,
    device_option,
    encoder_loader,
    model_options,
    prompts_of,
    vidclip_command,
)
from ..parameters import OutputFile, argument, option
from ..scoring_options import prompt_option, temperature_option, words_option

if TYPE_CHECKING:
    from ...cache import FeatureCache

_BAR = 40


@vidclip_command(epilog='Example:  vidclip saliency juggling/clip.mp4 "juggling balls" --png saliency.png')
@argument("video")
@argument("phrases", nargs=-1, required=True)
@cache_option
@prompt_option()
@temperature_option(None)
@words_option(None)
@option("--view", type=click.IntRange(0), default=0, show_default=True, help="Which clip and crop.")
@option("--png", type=OutputFile(), help="Draw the frames with their bars.")
@model_options
@device_option
def command(
    video: str, phrases: tuple[str, ...], cache: Path, view: int, png: Path | None, **options: Any
) -> None:
    """Shows how much attention each PHRASE gives each frame of VIDEO (BIKE, Video Concept Spotting).

    VIDEO is the id of a video in the cache, its path, or the end of its id. The shares of a phrase's frames sum
    to 100 %.
    """
    from ...cache import FeatureCache
    from ...lexicons import Lexicon
    from ...pipeline.encoders import collapse_note
    from ...pipeline.scoring import ConceptSpotter, ConceptSpottingConfig
    from ..output import printable

    prompts = prompts_of(options["prompt"])
    features = FeatureCache(cache)
    video_index = find_video(features, video, "VIDEO")
    if view >= features.shape[1]:
        raise click.BadParameter(f"{cache} has the views 0 to {features.shape[1] - 1}.", param_hint="--view")
    asked = Lexicon("phrases", tuple(dict.fromkeys(phrases)), tuple(dict.fromkeys(phrases)))
    load = encoder_loader()
    texts = load(features.identity).encode_text(asked.phrases, prompts, words=options["words"])
    load.note(collapse_note(texts))
    spotter = ConceptSpotter(texts, ConceptSpottingConfig(temperature=options["temperature"]))
    frames = features.frames([video_index])[:, view]
    shares, scores = spotter.saliency(frames)[0], spotter.scores(frames)[0]
    seconds = features.timestamps([video_index])[0, view]
    indices = features.frame_indices([video_index])[0, view]
    click.echo(printable(features.ids[video_index]))
    for phrase, of_phrase, score in zip(asked.phrases, shares, scores, strict=True):
        click.echo(f"\n  {printable(phrase)}   (score of the video {score:.3f})")
        for share, place, second in zip(of_phrase, indices, seconds, strict=True):
            bar = "█" * round(_BAR * float(share) / float(of_phrase.max()))
            # A folder of images has no times.
            shown = " " * 9 if math.isnan(second) else f"{second:7.2f} s"
            click.echo(f"  frame {place:5}  {shown}  {100 * share:5.1f} %  {bar}")
    if png:
        from ...pipeline.report import saliency_strip

        captions = [
            f"frame {index}" if math.isnan(second) else f"{second:.1f} s"
            for index, second in zip(indices, seconds, strict=True)
        ]
        picture = saliency_strip(_pixels(features, video_index)[view], shares, asked.phrases, captions)
        picture.save(png, format="PNG")
        click.echo(f"\n{printable(png)}: {picture.width} x {picture.height} pixels.")


def _pixels(features: FeatureCache, index: int) -> Any:
    """[V, T, h, w, 3] uint8: what the encoder saw of a video, decoded again.

    Raises Failed where the video cannot be read any more, or is not the one that the features are of.
    """
    import numpy as np

    from ...pipeline.datasets import segment_of
    from ...pipeline.video import ClipSpec, DecodeError, VideoRequest, decode_video
    from ..main import Failed
    from ..output import printable

    info = features.videos[index]
    name = printable(info.id)
    clip_spec = ClipSpec.from_identity(features.identity)
    draw = clip_spec.sampling.draw_of(info.id)
    request = VideoRequest(info.path, *segment_of(info.id, info.path), draw)
    try:
        decoded = decode_video(request, clip_spec)
    except DecodeError as error:
        raise Failed(
            f"{name} cannot be drawn: {printable(info.path)}: {printable(error.reason)}. Leave --png out, or bring "
            "the video back."
        ) from error
    stored = features.frame_indices([index])[0]  # [V, T]
    now = decoded.frame_indices.repeat(len(stored) // len(decoded.frame_indices), axis=0)
    if not np.array_equal(stored, now):
        raise Failed(
            f"{name} cannot be drawn: {printable(info.path)} now gives the frames {_few(now)}, where the features "
            f"are of {_few(stored)}: the file has changed. Leave --png out, or extract it into another --cache."
        )
    return decoded.pixels


def _few(indices: Any) -> str:
    numbers = [str(index) for index in indices[0][:8]]
    return ", ".join(numbers) + (", ..." if indices.size > 8 else "")
