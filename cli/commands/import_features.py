"""`vidclip import-features`: features that another tool has computed, as a cache."""

from __future__ import annotations

from pathlib import Path

import click

from ..messages import say
from ..options import cache_option, vidclip_command
from ..parameters import argument, option


@vidclip_command(
    epilog="Example:  vidclip import-features clip_features/ --model ViT-B-32 --pretrained openai --cache imported"
)
@argument("source", type=click.Path(path_type=Path))
@option(
    "--model",
    required=True,
    help="The encoder that made them: an open_clip model, local-dir:FOLDER, hf:NAME or hf:FOLDER, demo or demo-vit.",
)
@option(
    "--pretrained", default="",
    help="Its weights: a tag of open_clip or a checkpoint file.  [default: openai, where there are such]",
)  # fmt: skip
@cache_option
@option(
    "--frames", type=click.IntRange(1, 10_000),
    help="Take so many frames of each video, for files with more or fewer.  [default: all, as many in each]",
)  # fmt: skip
@option(
    "--key",
    help="Name of the features, where the files of videos, or the groups of an .h5, hold several arrays.",
)
def command(
    source: Path, model: str, pretrained: str, cache: Path, frames: int | None, key: str | None
) -> None:
    """Writes SOURCE into a cache, which `eval`, `fit` and the others take.

    SOURCE is a folder with a .npy, .npz or .h5 for each video (LABEL/VIDEO.npy gives labels), one .npz or .h5 with an
    array for each video, or with `ids` and `features`, or what `vidclip export` wrote as .npz. Arrays are [D], [frames, D] or
    [views, frames, D]. `vidclip label` gives labels afterwards.

    The encoder is loaded, and the dimensions must be its own. Which weights really made the features cannot be seen in
    them: only an export of vidclip says, and must agree. Pickles, and links out of an .h5, are refused.
    """
    from importlib.metadata import version

    if not source.exists():
        raise click.UsageError(f"there is no file or folder {source}.")
    from ...pipeline.encoders import load_encoder
    from ...pipeline.exchange import import_features
    from ..output import count, printable, warn

    encoder = load_encoder(model, pretrained, device="cpu", precision="fp32")
    for message in encoder.warnings:
        warn(message)
    made = import_features(
        source, cache, encoder, frames=frames, key=key, created_by=f"vidclip {version('vidclip')}"
    )
    views, times, dimensions = made.shape
    there = f", {made.already_there:,} were there already" if made.already_there else ""
    say(
        f"{printable(cache)}: {count(made.videos, 'video')} taken in{there}; {views} views x {times} frames x {dimensions}."
    )
    if not made.exported:
        warn(
            f"that {model} made these features was not checked beyond their {dimensions} dimensions: zero-shot figures of "
            "another encoder's would be those of chance."
        )
