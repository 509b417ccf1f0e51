"""`vidclip predict`: the classes of videos, of files or of a cache, zero-shot or by a trained head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import POOLS, VIDEO_PROMPTS
from ..conditions import Condition, with_option, without_option
from ..options import (
    cache_option_of,
    decoding_options_of,
    device_option,
    encoder_loader,
    json_option,
    model_options,
    open_cache,
    prompts_of,
    reading_settings,
    vidclip_command,
)
from ..parameters import FiniteRange, argument, option
from ..scoring_options import (
    SPOTS,
    prompts_option,
    queries_options,
    renormalize_option,
    temperature_option,
    view_average_option,
    words_option,
)

if TYPE_CHECKING:
    from ...cache import FeatureCache
    from ...pipeline.encoders import EncoderLoader
    from ...pipeline.evaluation import Predictor

FILES = Condition(lambda call: bool(call.values("videos")), "VIDEOS")
NO_FILES = Condition(lambda call: not call.values("videos"), "calls without VIDEOS")
ZERO_SHOT = without_option("--head")


@vidclip_command(
    epilog="Example:  vidclip predict clip.mp4 other.mp4 --head head.safetensors\n\n"
    "          vidclip predict --cache features --lexicon k400 --calibrate val --none-of-these val",
    groups={
        "Zero-shot (without --head)": "--pool --prompt",
        "Concept spotting (--pool vcs)": "--words --saliency --recognition --temperature --renormalize",
        "How sure": "--calibrate --threshold --none-of-these --false-positive-rate",
        "Reading VIDEOS": "--workers --timeout --worker-memory --decoder",
        "Encoder and output": "--top --model --pretrained --device --json --debug",
    },
)
@argument("videos", nargs=-1, type=click.Path(path_type=Path))
@cache_option_of(
    NO_FILES | ZERO_SHOT | with_option("--calibrate") | with_option("--none-of-these"),
    "In the place of VIDEOS, the videos of a cache. Its labeled videos are what probabilities are calibrated on; zero-shot, "
    "VIDEOS are read as its videos were.",
)
@option("--split", needs=NO_FILES, help="Of the cache: these videos alone.  [default: all]")
@option(
    "--head", type=click.Path(path_type=Path, dir_okay=False),
    help="A head that `vidclip fit` trained.  [default: zero-shot]",
)  # fmt: skip
@option(
    "--lexicon",
    help="Class names: a lexicon or a text file; of a head, for the text classifier.  [default: the head's own, or the "
    "labels of the cache]",
)
@option(
    "--pool", type=click.Choice(POOLS), default="mean", show_default=True, needs=ZERO_SHOT,
    help="How frames make a score, as in eval.",
)  # fmt: skip
@prompts_option(ZERO_SHOT)
@words_option(SPOTS)
@queries_options(SPOTS, SPOTS)
@temperature_option(SPOTS)
@renormalize_option(SPOTS)
@view_average_option(with_option("--pool", "mean", "vcs") | with_option("--head"))
@option(
    "--video-prompts", type=click.Choice(VIDEO_PROMPTS), needs=with_option("--head"),
    help="Of X-CLIP's head: class embeddings that look at the video, or its integration transformer alone.  "
    "[default: on]",
)  # fmt: skip
@option(
    "--calibrate", metavar="SPLIT",
    help="Fit the temperature of the probabilities on this labeled split of the cache.  [default: the softmax at the "
    "scorer's temperature, not calibrated]",
)  # fmt: skip
@option(
    "--threshold", type=FiniteRange(0, 1), needs=without_option("--none-of-these"),
    help="A video whose best class has no more than this probability is none of these.",
)  # fmt: skip
@option(
    "--none-of-these", metavar="SPLIT",
    help="Choose this threshold on a split of the cache: on its videos whose labels are not in the lexicon, or where all "
    "are, on its videos with their own class left out.",
)  # fmt: skip
@option(
    "--false-positive-rate", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
    needs=with_option("--none-of-these"), help="Share of videos of none of the classes that may get one.",
)  # fmt: skip
@option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes shown of a video.")
@decoding_options_of(FILES)
@json_option
@model_options
@device_option
@click.pass_context
def command(
    ctx: click.Context, videos: tuple[Path, ...], head: Path | None, json_file: Path | None, **options: Any
) -> None:
    """Names the likeliest classes of VIDEOS, or of the videos of a cache.

    VIDEOS are files and folders, or one CSV. They are read as those were that the head was trained on; zero-shot, as
    those of the cache. The encoder is that of the head or cache; where that is a folder, a file or a hub page,
    --model must name it too.

    Exit status: 0 done; 1 done, but some videos could not be read; 2 could not.
    """
    from ...pipeline.datasets import read_paths
    from ..output import printable, progress_bar, warn, write_json
    from ..prediction_report import print_predictions, to_json

    load = encoder_loader()
    listed = read_paths(videos) if videos else None
    predictor, cache = _predictor(head, load, reads_cache=listed is None, **options)
    if options["calibrate"] and cache:
        predictor = predictor.calibrated(cache, options["calibrate"])
    if options["threshold"] is not None:
        predictor = predictor.with_threshold(options["threshold"])
    if options["none_of_these"] and cache:
        predictor = predictor.rejecting(cache, options["none_of_these"], options["false_positive_rate"])
    for message in predictor.notes:
        warn(message)
    failures = []
    predictions = []
    if listed is None and cache:
        predictions = predictor.predict(cache, options["split"], top=options["top"])
    if listed is not None:
        with progress_bar("reading videos") as advance:
            predictions, failures = predictor.predict_files(
                listed,
                load(predictor.identity, "auto"),
                reading_settings(options),
                top=options["top"],
                on_progress=lambda progress: advance(progress.done, progress.listed, ""),
            )
    path_of = {video.id: str(video.path) for video in listed or ()}
    if str(json_file) != "-":
        print_predictions(predictor, predictions)
    if json_file:
        document = {
            "head": str(head or ""),
            "cache": str(cache.folder) if cache else "",
            **to_json(predictor, predictions),
            "failures": [
                {"video": failure.id, "path": path_of[failure.id], "reason": failure.reason}
                for failure in failures
            ],
        }
        write_json(json_file, document)
    for failure in failures:
        click.echo(f"{printable(failure.id)}: could not be read: {printable(failure.reason)}", err=True)
    ctx.exit(1 if failures else 0)


def _predictor(
    head: Path | None, load: EncoderLoader, *, reads_cache: bool, **options: Any
) -> tuple[Predictor, FeatureCache | None]:
    """Return what names the classes, and the cache, where the call reads one."""
    from ...cache import FeatureCache
    from ...lexicons import load_lexicon
    from ...pipeline.evaluation import ScoringSettings, head_predictor, zero_shot_predictor
    from ...pipeline.heads import load_head
    from ...pipeline.scoring import ConceptSpottingConfig

    device = options["device"]
    if head is None:
        cache, lexicon = open_cache(options["cache"], options["lexicon"])
        spotting = ("saliency", "recognition", "temperature", "renormalize")
        settings = ScoringSettings(
            prompts_of(*options["prompts"]),
            (options["pool"],),
            options["words"],
            ConceptSpottingConfig(**{name: options[name] for name in spotting}),
            options["view_average"],
        )
        return zero_shot_predictor(cache, lexicon, settings, load=load, device=device), cache
    stored = load_head(head)
    prompts = options["video_prompts"]
    if prompts and stored.kind != "x-clip":
        raise click.UsageError(f"--video-prompts {prompts} goes with an x-clip head; {head} is none.")
    needs_cache = reads_cache or options["calibrate"] or options["none_of_these"]
    cache = FeatureCache(options["cache"]) if needs_cache else None
    found = head_predictor(
        stored,
        load_lexicon(options["lexicon"]) if options["lexicon"] else None,
        cache=cache,
        name=head.name,
        load=load,
        video_prompts=prompts != "off",
        view_average=options["view_average"],
        device=device,
    )
    return found, cache
