"""`vidclip report`: results as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..conditions import Condition, without_option
from ..messages import say
from ..named_video import find_video
from ..options import (
    cache_option,
    decoding_options,
    device_option,
    encoder_loader,
    lexicon_option,
    model_options,
    open_cache,
    prompt_of,
    prompts_of,
    reading_settings,
    vidclip_command,
)
from ..parameters import OutputFile, option
from ..scoring_options import SPOTS, scoring_options, scoring_settings

DEFAULT_EXAMPLES = 6
EXAMPLES = Condition(
    lambda call: bool(call.values("--video")) or call.values("--videos") != (0,),
    "--videos above 0 or --video",
)
SCORED = without_option("--predictions")


@vidclip_command(
    epilog="Example:  vidclip report --pool mean --pool vcs --attributes k400 --output page.html",
    groups={
        "Scores": "--prompt --pool --head --video-prompts --view-average",
        "Concept spotting": "--words --saliency --recognition --temperature --renormalize",
        "Attributes": "--attributes --top --attributes-prompt --retriever --fusion --fusion-form",
        "Reading videos": "--workers --timeout --worker-memory --decoder",
        "Encoder": "--model --pretrained --device --debug",
    },
    short_help="Results as one HTML page: tables, confusions, videos.",
)
@cache_option
@lexicon_option
@option(
    "--predictions", "predictions_file", type=click.Path(path_type=Path, dir_okay=False),
    help="Show what this file of `vidclip eval --predictions` says, instead of scoring: .csv, .json or .parquet. Its videos "
    "are those of the cache.",
)  # fmt: skip
@option(
    "--split",
    needs=SCORED,
    help="Tested videos; all: every labeled one.  [default: test, else val; all of a cache without splits]",
)
@option(
    "--videos", "n_examples", type=click.IntRange(0, 50),
    help=f"So many videos with their frames and saliency, half of them wrong, spread over the classes.  [default: "
    f"{DEFAULT_EXAMPLES}, or none with --video]",
)  # fmt: skip
@option("--video", "examples", multiple=True, help="This video too: its id, the end of it, or its path.")
@scoring_options(trains=False, spots=SPOTS | EXAMPLES, scored=SCORED)
@option(
    "--single-view",
    is_flag=True,
    needs=SCORED,
    help="Of several views, the center crop of the first clip alone.",
)
@option(
    "--output", type=OutputFile(suffixes=(".html", ".htm")), default=Path("report.html"), show_default=True,
    help="The page.",
)  # fmt: skip
@decoding_options
@model_options
@device_option
def command(
    cache: Path, output: Path, examples: tuple[str, ...], predictions_file: Path | None, **options: Any
) -> None:
    """Writes a page to look at: one HTML file of at most 5 MB that needs no network.

    It has the figures of `vidclip eval --protocol full-classes` with the same options, or of --predictions, the accuracy of each class, the
    classes that are confused most often, frames of a few videos with their saliency (and attributes, with
    --attributes), and all tested videos with what the scorers take them for, to sort and to filter. Pictures are read
    from the video files; where one is gone, the page says so.
    """
    from ...cache import FeatureCache
    from ...pipeline.evaluation import build_scorers, plan_zero_shot, read_predictions
    from ...pipeline.heads import load_head
    from ...pipeline.report import (
        compute_page,
        gallery_videos,
        page_of_predictions,
        read_strips,
        read_thumbnails,
        render_page,
    )
    from ..files import write_text
    from ..output import count, printable, progress_bar, size, warn

    options["prompts"] = prompts_of(*options["prompts"])
    options["attributes_prompt"] = prompt_of("--attributes-prompt", options["attributes_prompt"])
    features, lexicon = open_cache(cache, options["lexicon"], single_view=options["single_view"])
    load, scoring, device = encoder_loader(), scoring_settings(**options), options["device"]
    n_examples = options["n_examples"]
    if n_examples is None:
        n_examples = 0 if examples else DEFAULT_EXAMPLES
    chosen = [find_video(features, video, "--video") for video in examples]
    shown: dict[str, Any] = {
        "n_examples": n_examples,
        "examples": chosen,
        "load": load,
        "device": device,
        "settings": {
            "cache": str(features.folder),
            "encoder": features.identity.encoder_name,
            "lexicon": lexicon.name,
            "prompts": scoring.prompts,
        },
    }
    if predictions_file:
        rows = read_predictions(predictions_file)
        _check_tested(chosen, examples, {features.index(row.id) for row in rows if row.id in features})
        shown["settings"] |= {"predictions": str(predictions_file)}
        page = page_of_predictions(features, lexicon, rows, scoring, **shown)
    else:
        heads = [(path.name, load_head(path)) for path in options["heads"]]
        plan = plan_zero_shot(features, lexicon, "full-classes", options["split"], heads=heads)
        _check_tested(chosen, examples, set(plan.test.indices.tolist()))
        retriever = FeatureCache(options["retriever"]) if options["retriever"] else None
        if retriever and options["single_view"]:
            retriever = retriever.single_view()
        scorers = build_scorers(
            features, lexicon, scoring, heads=heads, retriever=retriever, load=load, device=device
        )
        page = compute_page(features, lexicon, plan, scorers, scoring, retriever=retriever, **shown)
    for message in page.test.notes:
        warn(message)
    reading = reading_settings(options)
    indices = [int(page.test.indices[i]) for i in gallery_videos(page)]
    with progress_bar("reading videos") as advance:
        strips = read_strips(
            features, [int(page.test.indices[each.position]) for each in page.examples], reading
        )
        thumbnails = read_thumbnails(
            features, indices, reading=reading, on_video=lambda done: advance(done, len(indices), "")
        )
    text = render_page(page, thumbnails, strips)
    write_text(output, text)
    missing = sum(not hasattr(picture, "shape") for picture in thumbnails)
    say(f"{printable(output)}: {count(len(page.ids), 'video')}, {size(len(text.encode()))}.")
    if missing:
        warn(f"{count(missing, 'video')} without a picture: the page says why.")


def _check_tested(chosen: list[int], examples: tuple[str, ...], tested: set[int]) -> None:
    """Raise click.BadParameter for a video to look at that is not tested."""
    from ..output import count

    for index, video in zip(chosen, examples, strict=True):
        if index not in tested:
            raise click.BadParameter(
                f"{video!r} is not among the {count(len(tested), 'video')} that are tested; --split says which.",
                param_hint="--video",
            )
