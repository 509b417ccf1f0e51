"""`vidclip export`: a cache in a form of other programs."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ...pipeline.choices import EXPORT_FEATURES, EXPORT_FORMS
from ..messages import say
from ..options import cache_option, vidclip_command
from ..parameters import OutputFile, argument, option


@vidclip_command(
    epilog="Example:  vidclip export features.npz\n\n          vidclip export videos.parquet --features mean"
)
@argument("file", type=OutputFile())
@cache_option
@option(
    "--to", "form", type=click.Choice(EXPORT_FORMS),
    help="npz, csv, parquet (needs pyarrow), safetensors, or webdataset: a tar of .npy and .json.  [default: by the end of FILE]",
)  # fmt: skip
@option(
    "--features", type=click.Choice(EXPORT_FEATURES), default="frames", show_default=True,
    help="frames: as the cache has them, not normalized. mean: over frames and views, L2-normalized, as --pool mean.",
)  # fmt: skip
def command(file: Path, cache: Path, form: str | None, features: str) -> None:
    """Writes the videos of the cache to FILE: features, ids, labels, splits, times, and what shaped them.

    docs/cache.md has what each form holds. FILE is written a batch at a time, whole or not at all. `vidclip
    import-features` reads an .npz back.
    """
    from ...cache import FeatureCache
    from ...pipeline.exchange import EXPORT_SUFFIXES, export_features
    from ..output import count, printable, size

    form = form or EXPORT_SUFFIXES.get(file.suffix.lower())
    if form is None:
        raise click.UsageError(
            f"--to says in which form {file} is written: its name ends in none of {', '.join(EXPORT_SUFFIXES)}."
        )
    target = Path(os.path.realpath(file))
    if target.exists() and not target.is_file():
        raise click.UsageError(f"{file} is no file: an export is not written to a pipe or device.")
    features_of = FeatureCache(cache)
    export_features(features_of, target, form, features=features)
    say(f"{printable(file)}: {count(len(features_of), 'video')} as {form}, {size(target.stat().st_size)}.")
