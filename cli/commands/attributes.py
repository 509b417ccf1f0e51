"""`vidclip attributes`: video -> phrases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...pipeline.choices import INDEXES
from ..conditions import without_option
from ..messages import is_quiet, say
from ..options import (
    cache_option,
    device_option,
    encoder_loader,
    model_options,
    prompt_of,
    vidclip_command,
)
from ..parameters import OutputFile, option
from ..scoring_options import attributes_prompt_option, retriever_option, top_option


@vidclip_command(epilog="Example:  vidclip attributes --lexicon k400 --json attributes.json")
@cache_option
@option(
    "--lexicon", "lexicons", multiple=True, default=("kinetics400",), show_default=True,
    needs=without_option("--from"), help="A lexicon or a text file of phrases; several are joined.",
)  # fmt: skip
@option(
    "--from", "files", multiple=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Take the attributes that a file gives each video, {video: {\"classname_topk\": [phrases]}} as BIKE "
    "publishes, in the place of retrieving them; several are joined.",
)  # fmt: skip
@top_option(None)
@option(
    "--index", type=click.Choice(INDEXES), default="exact", show_default=True,
    needs=without_option("--from"), help="FAISS index; ivf and hnsw are for millions of phrases, and their recall is printed.",
)  # fmt: skip
@attributes_prompt_option(None, "--prompt")
@option(
    "--phrase-prompt", default="{}", show_default=True, needs=without_option("--from"),
    help="Around each phrase when it is retrieved.",
)  # fmt: skip
@retriever_option(without_option("--from"))
@option(
    "--json", "json_file", type=OutputFile(dash=True), metavar="FILE",
    help="Write what released BIKE trains on: {video: {\"classname_topk\": [phrases]}}; - for standard output.",
)  # fmt: skip
@model_options
@device_option
def command(
    cache: Path,
    lexicons: tuple[str, ...],
    files: tuple[Path, ...],
    top: int,
    index: str,
    attributes_prompt: str,
    phrase_prompt: str,
    retriever: Path | None,
    json_file: Path | None,
    **_: Any,
) -> None:
    """Finds the phrases of a lexicon that are nearest to each video, makes a sentence of them, and keeps both in
    the cache for `vidclip eval --attributes` (BIKE, Video-Attribute Association).

    With --from, takes them from a file instead; `vidclip eval --attributes FILE.json` then uses these. Videos are found
    in it by the end of their path, without the suffix.
    """
    from ...cache import FeatureCache
    from ...pipeline.scoring import (
        LEAST_RECALL,
        AttributeSettings,
        attributes_from_files,
        find_attributes,
        read_attribute_file,
        released_form,
    )
    from ..messages import note
    from ..output import count, echo_some, printable, warn, write_json

    prompt = prompt_of("--attributes-prompt", attributes_prompt)
    phrase_prompt = prompt_of("--phrase-prompt", phrase_prompt)
    features, load = FeatureCache(cache), encoder_loader()
    if files:
        read = [read_attribute_file(path) for path in dict.fromkeys(files)]
        found = attributes_from_files(features, read, top=top, prompt=prompt, load=load)
    else:
        found = find_attributes(
            features,
            lexicons,
            AttributeSettings(top, index, prompt, phrase_prompt),
            retriever=FeatureCache(retriever) if retriever else None,
            load=load,
        )
    stored, truncated, recall = found.stored, found.truncated, found.recall
    load.note(found.without_note(features))
    if found.unknown:
        note(f"{count(found.unknown, 'video')} of the files not in {cache}.")
    for text in truncated[:5]:
        warn(f"{text!r} is longer than the text encoder's context, and was cut.")
    if len(truncated) > 5:
        warn(f"... and so were {len(truncated) - 5:,} more.")
    if recall is not None and recall < LEAST_RECALL:
        warn(
            f"the index {index} misses {100 * (1 - recall):.0f} % of the attributes: use --index exact, or "
            f"{'ivf' if index == 'hnsw' else 'hnsw'}."
        )
    if json_file:
        write_json(json_file, released_form(stored))
    if str(json_file) == "-":
        return
    state = "computed" if found.computed else "there already"
    say(
        f"{printable(cache)}: {top} attributes of {count(len(stored.ids), 'video')} from "
        f"{count(len(stored.phrases), 'phrase')}, {state}."
    )
    if recall is not None:
        say(f"{index} found {100 * recall:.1f} % of what the exact search finds (1,000 videos at most).")
    if not is_quiet():
        echo_some([f"{id}: {', '.join(stored.of(row))}" for row, id in enumerate(stored.ids)])
