"""Where attributes come from: a lexicon whose phrases are retrieved, or files that name each video's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..cache import FeatureCache, StoredAttributes
    from ..pipeline.encoders import EncoderLoader
    from ..pipeline.scoring import Matched

_SHOWN = 3


def stored_attributes(
    features: FeatureCache, options: dict[str, Any], load: EncoderLoader
) -> StoredAttributes:
    """The attributes that `--attributes` names: lexicons, or .json files such as BIKE publishes."""
    from ..lexicons import load_lexicon
    from ..pipeline.scoring import attributes_of

    files = [name for name in options["attributes"] if name.lower().endswith(".json")]
    if files:
        if len(files) < len(options["attributes"]):
            raise click.UsageError(
                "--attributes takes lexicons, or .json files that name each video's attributes; not both at once."
            )
        if options["retriever"]:
            raise click.UsageError(
                "--retriever has no part where files name the attributes: nothing is retrieved."
            )
        return attributes_in_files(
            features, [Path(name) for name in files], options["top"], options["attributes_prompt"], load
        ).stored
    from ..cache import FeatureCache

    retriever = FeatureCache(options["retriever"]) if options["retriever"] else None
    if retriever and options.get("single_view"):
        retriever = retriever.single_view()
    stored, _ = attributes_of(
        features,
        [load_lexicon(name) for name in options["attributes"]],
        retriever=retriever,
        top=options["top"],
        prompt=options["attributes_prompt"],
        load=load,
    )
    return stored


def attributes_in_files(
    features: FeatureCache, paths: Sequence[Path], top: int, prompt: str, load: EncoderLoader
) -> Matched:
    """Reads the files, and says which videos they do not name."""
    from ..pipeline.scoring import attributes_from_files, read_attribute_file
    from .messages import note
    from .output import count

    files = [read_attribute_file(path) for path in dict.fromkeys(paths)]
    matched = attributes_from_files(features, files, top=top, prompt=prompt, load=load)
    if matched.without:
        named = ", ".join(matched.without[:_SHOWN]) + (", ..." if len(matched.without) > _SHOWN else "")
        note(
            f"{count(len(matched.without), 'video')} of {features.folder} without attributes in "
            f"{' and '.join(map(str, paths))}: {named}."
        )
    return matched
