"""`vidclip saliency`: which frames of a video speak of a phrase."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import cache_option, device_option, vidclip_command

if TYPE_CHECKING:
    from ..cache import FeatureCache

_BAR = 40


@vidclip_command(
    epilog='Example:  vidclip saliency juggling/clip.mp4 "juggling balls" --png saliency.png',
    short_help="Which frames of a video speak of a phrase.",
)
@click.argument("video")
@click.argument("phrases", nargs=-1, required=True)
@cache_option
@click.option(
    "--prompt", default="This is a video about {}", show_default=True, help="Sentence around the phrase."
)
@click.option(
    "--temperature", type=click.FloatRange(min=0, min_open=True), default=0.01, show_default=True,
    help="Of the softmax over frames.",
)  # fmt: skip
@click.option(
    "--words", type=click.Choice(["name", "sentence", "all"]), default="name", show_default=True,
    help="Which tokens ask the frames.",
)  # fmt: skip
@click.option("--view", type=click.IntRange(0), default=0, show_default=True, help="Which clip and crop.")
@click.option(
    "--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw the frames with their bars."
)
@device_option
def command(
    video: str, phrases: tuple[str, ...], cache: Path, view: int, png: Path | None, **options: Any
) -> None:
    """Shows how much attention each PHRASE gives each frame of VIDEO (BIKE, Video Concept Spotting).

    VIDEO is the id of a video in the cache, its path, or the end of its id. The shares of a phrase's frames sum
    to 100 %.
    """
    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.concept_spotting import ConceptSpotter, Spotting
    from ..pipeline.prompts import check_prompt
    from ..pipeline.texts import EncoderLoader
    from .output import printable

    try:
        check_prompt(options["prompt"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--prompt") from error
    features = FeatureCache(cache)
    row = _find(features, video)
    if view >= features.shape[1]:
        raise click.BadParameter(f"{cache} has the views 0 to {features.shape[1] - 1}.", param_hint="--view")
    asked = Lexicon("phrases", tuple(dict.fromkeys(phrases)), tuple(dict.fromkeys(phrases)))
    encoder = EncoderLoader(options["device"])(features.identity)
    texts = encoder.encode_text(asked.phrases, [options["prompt"]], words=options["words"])
    spotter = ConceptSpotter(texts, Spotting(temperature=options["temperature"]))
    frames = features.frames([row])[:, view]
    shares, scores = spotter.saliency(frames)[0], spotter.scores(frames)[0]
    seconds = features.timestamps([row])[0, view]
    indices = features.frame_indices([row])[0, view]
    click.echo(printable(features.ids[row]))
    for phrase, of_phrase, score in zip(asked.phrases, shares, scores, strict=True):
        click.echo(f"\n  {printable(phrase)}   (score of the video {score:.3f})")
        for share, index, second in zip(of_phrase, indices, seconds, strict=True):
            bar = "█" * round(_BAR * float(share) / float(of_phrase.max()))
            click.echo(f"  frame {index:5}  {second:7.2f} s  {100 * share:5.1f} %  {bar}")
    if png:
        from ..pipeline.report import saliency_strip

        picture = saliency_strip(_pixels(features, row)[view], shares, asked.phrases, seconds)
        picture.save(png, format="PNG")
        click.echo(f"\n{printable(png)}: {picture.width} x {picture.height} pixels.")


def _find(features: FeatureCache, video: str) -> int:
    """The row of a video. Raises click.BadParameter where none, or several, are meant."""
    if video in features:
        return features.row(video)
    path = Path(video)
    found = [
        row
        for row, info in enumerate(features.videos)
        if info.id.endswith(f"/{video}") or (path.exists() and Path(info.path) == path.absolute())
    ]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(features.ids[row] for row in found[:3])
        raise click.BadParameter(
            f"{video!r} may be any of {several}; say more of the id.", param_hint="VIDEO"
        )
    import difflib

    close = difflib.get_close_matches(video, features.ids[:20_000], n=3, cutoff=0.4)
    hint = f" Closest: {', '.join(close)}." if close else ""
    raise click.BadParameter(
        f"{video!r} is not in {features.folder}; bring it in with `vidclip extract`.{hint}",
        param_hint="VIDEO",
    )


def _pixels(features: FeatureCache, row: int) -> Any:
    """[V, T, h, w, 3] uint8: what the encoder saw of a video, decoded again."""
    from ..pipeline.decode import DecodeError, decode_video
    from ..pipeline.preprocess import Preprocess
    from ..pipeline.sampling import Sampling

    identity = features.identity
    sampling = {key: value for key, value in identity.sampling.items() if key != "resize"}
    preprocess = {**identity.encoder["preprocess"], "resize": identity.sampling.get("resize")}
    path = features.videos[row].path
    try:
        return decode_video(path, Sampling.from_dict(sampling), Preprocess.from_dict(preprocess)).pixels
    except DecodeError as error:
        raise click.ClickException(f"{path} cannot be drawn: {error.reason}") from error
