"""`vidclip eval`: accuracy from the cache, without training and with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache as cache_result
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..compare import PAPERS, dataset_of, find_published, print_published, to_json
from ..conditions import Condition, with_option
from ..learning import plan_learning
from ..multi_label import plan_multi_label, print_multi_label
from ..options import (
    TEMPERATURE,
    cache_option,
    device_option,
    json_option,
    lexicon_option,
    model_options,
    prompts_of,
    vidclip_command,
)
from ..parameters import FiniteRange, option
from ..released import (
    apply_released,
    apply_released_heads,
    as_released_option,
    attributes_prompt_option,
    released_line,
    renormalize_option,
    resolve_attributes_prompt,
    view_average_option,
    words_option,
)
from ..training import SEED, Shots, head_options

if TYPE_CHECKING:
    from ...cache import FeatureCache
    from ...lexicons import Lexicon
    from ...pipeline.evaluation import Comparison, LabeledVideos, Result
    from ...pipeline.scoring import Scorer

    Score = Callable[[Sequence[Scorer]], tuple[list[Result], list[Comparison]]]

POOLS = ("mean", "max", "vote", "vcs", "released-bike", "released-text4vis")
"""The last two are what released code scores its halves with: a vote of raw embeddings, the mean over frames and views."""
LEARNING = ("general", "few-shot")
MULTI_LABEL = "multi-label"
ZERO_SHOT = ("full-classes", "half-classes", "kinetics600", "splits", MULTI_LABEL)
SCORES = with_option("--protocol", *ZERO_SHOT)
"""Protocols that train nothing."""
LEARNS = with_option("--protocol", *LEARNING)
TRAINS = Condition(
    lambda call: (
        "general" in call.values("--protocol")
        or ("few-shot" in call.values("--protocol") and set(call.values("--shots")) != {0})
    ),
    "--protocol general, or few-shot with --shots above 0",
)
SPOTS = with_option("--pool", "vcs")
_ZERO_SHOT = (
    "prompts",
    "pools",
    "attributes",
    "top",
    "fusion",
    "words",
    "saliency",
    "recognition",
    "temperature",
)
_ZERO_SHOT += ("renormalize", "view_average", "fusion_form", "attributes_prompt", "repeats")


@vidclip_command(
    epilog="Example:  vidclip eval --protocol half-classes --pool mean --pool vcs --attributes k400",
    short_help="Accuracy, from the cache: zero-shot, few-shot, general.",
)
@cache_option
@option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice([*ZERO_SHOT, *LEARNING]),
    default=("full-classes",),
    show_default=True,
    help="All classes; ten random halves (BIKE A.3); the three Kinetics-600 splits of 160 new classes; "
    "the test splits test1, test2, test3 (X-CLIP); mean average precision, of videos with several labels "
    "(Charades) or one (ActivityNet). After training: on the whole training split; on K videos "
    "of every class.",
)
@lexicon_option
@option(
    "--split",
    needs=with_option("--protocol", *(name for name in (*ZERO_SHOT, *LEARNING) if name != "splits")),
    help="Which videos are tested; all: every labeled one.  [default: test, else val, where it has labels; all of a cache without splits]",
)
@option(
    "--prompt",
    "prompts",
    multiple=True,
    default=("bike",),
    show_default=True,
    needs=SCORES | with_option("--classifier", "text") | SPOTS,
    help="Sentence with {} for the class name, or bike, text4vis, clip-kinetics, x-clip, none; several are averaged.",
)
@option(
    "--pool",
    "pools",
    multiple=True,
    type=click.Choice(POOLS),
    default=("mean",),
    show_default=True,
    help="How frames make a score: mean embedding, best frame, mean of per-frame softmaxes, concept spotting. "
    "released-bike, released-text4vis: as their code scores its halves. Several: one table, compared with the first.",
)
@option(
    "--attributes",
    "attributes",
    multiple=True,
    needs=SCORES,
    help="Lexicon of attributes, or a .json file of them as BIKE publishes: adds their scores, and fusions.",
)
@option(
    "--head", "heads", multiple=True, type=click.Path(path_type=Path, dir_okay=False), needs=SCORES,
    help="A head that `vidclip fit` trained: adds its scores.",
)  # fmt: skip
@option(
    "--top", type=click.IntRange(1), default=5, show_default=True, needs=with_option("--attributes"),
    help="Attributes of a video.",
)  # fmt: skip
@option(
    "--fusion",
    type=FiniteRange(0, 1),
    needs=with_option("--attributes") | with_option("--head"),
    help="Weight of the video against its attributes.  [default: 0.6; 0.8 for ViT-L and larger]",
)
@option(
    "--fusion-form", type=click.Choice(["paper", "released"]), default="paper", show_default=True,
    needs=with_option("--attributes") | with_option("--head"),
    help="What is weighed: softmaxes of cosines / temperature, or of cosines as they are, as released BIKE does.",
)  # fmt: skip
@attributes_prompt_option(with_option("--attributes"))
@option(
    "--retriever",
    type=click.Path(path_type=Path, file_okay=False),
    needs=with_option("--attributes"),
    help="The cache that retrieves attributes.",
)
@words_option(SPOTS)
@option(
    "--saliency", type=click.Choice(["words", "sentence"]), default="words", show_default=True,
    needs=SCORES & SPOTS, help="vcs: the query of the saliency softmax.",
)  # fmt: skip
@option(
    "--recognition", type=click.Choice(["words", "sentence"]), default="sentence", show_default=True,
    needs=SCORES & SPOTS, help="vcs: what the weighted video is compared with.",
)  # fmt: skip
@option(
    "--temperature", type=TEMPERATURE, default=0.01, show_default=True, needs=SPOTS,
    help="vcs: of the softmax over frames.",
)  # fmt: skip
@renormalize_option(SPOTS)
@view_average_option(
    with_option("--pool", "mean", "vcs") | with_option("--head") | with_option("--protocol", *LEARNING)
)
@as_released_option
@option(
    "--repeats", type=click.IntRange(1, 10_000), default=10, show_default=True,
    needs=with_option("--protocol", "half-classes"), help="Halves of half-classes.",
)  # fmt: skip
@option(
    "--map-convention", default="standard", show_default=True,
    type=click.Choice(["standard", "released", "released-charades", "released-activitynet"]),
    needs=with_option("--protocol", MULTI_LABEL),
    help="multi-label: classes without videos are left out of mAP; or all that the released scripts do, that of "
    "BIKE for Charades or that of Text4Vis for ActivityNet (released: by --lexicon).",
)  # fmt: skip
@option(
    "--compare", "papers", multiple=True, type=click.Choice(PAPERS),
    help="Below the table, this paper's own figures for the same data set (--lexicon) and protocol.",
)  # fmt: skip
@head_options(several=True, design=LEARNS, training=TRAINS)
@option(
    "--shots", multiple=True, type=Shots(), needs=with_option("--protocol", "few-shot"),
    help="few-shot: videos of every class to learn from; several, one table.  [default: 0, 1, 2, 4, 8, 16, as far as "
    "every class has so many, and all]",
)  # fmt: skip
@option(
    "--seed", type=SEED, default=0, show_default=True, needs=LEARNS,
    help="Of the first training, and of the split that --test-share draws.",
)  # fmt: skip
@option(
    "--seeds",
    type=click.IntRange(1, 1000),
    needs=TRAINS,
    help="Trainings of each head.  [default: few-shot 3, general 1]",
)
@option(
    "--single-view", is_flag=True,
    help="Of several views, the center crop of the first clip alone.  [default: all, their scores averaged]",
)  # fmt: skip
@json_option
@model_options
@device_option
def command(cache: Path, json_file: Path | None, **options: Any) -> None:
    """Scores the videos of the cache against their class names.

    full-classes, half-classes, kinetics600, splits and multi-label train nothing: several pools, and attributes,
    make one table; below it, each is compared with the first on the same videos. general and few-shot train heads
    on the cached features first (--classifier, --temporal, --pool; one head for each combination).

    No video is opened; the encoder is loaded only for names it has not embedded before.
    """
    from ...cache import FeatureCache
    from ...lexicons import load_lexicon
    from ...pipeline.evaluation import lexicon_from_labels
    from ..output import warn, write_json

    apply_released(options)
    options["prompts"] = prompts_of(*options["prompts"])
    resolve_attributes_prompt(options)
    features = FeatureCache(cache)
    if options["single_view"]:
        features = features.single_view()
    apply_released_heads(options, features)
    classes = load_lexicon(options["lexicon"]) if options["lexicon"] else lexicon_from_labels(features)
    protocols = list(dict.fromkeys(options["protocols"]))
    # Before the work: it may be that nobody knows.
    options["dataset"] = dataset_of(classes) if options["papers"] else ""
    settings = _settings(features, classes, options)
    # What a later protocol cannot do is said before an earlier one has worked for an hour.
    runs = _plan_zero_shot(features, classes, [p for p in protocols if p not in LEARNING], options, json_file)
    runs += [
        plan_learning(features, classes, protocol, options, settings, json_file)
        for protocol in protocols
        if protocol in LEARNING
    ]
    documents: list[dict[str, Any]] = []
    try:
        for run in runs:
            documents.append(run())
    finally:
        if json_file and documents:
            write_json(json_file, documents)
            if len(documents) < len(runs):
                warn(f"{json_file} has the {len(documents)} of {len(runs)} protocols that were done before.")


def _settings(features: FeatureCache, classes: Lexicon, options: dict[str, Any]) -> dict[str, Any]:
    """What shaped the figures of any protocol."""
    return {
        "cache": str(features.folder),
        "features": features.identity.digest,
        "encoder": features.identity.encoder_name,
        "lexicon": classes.name,
        "lexicon_sha256": classes.digest,
        "views": features.shape[1],
        "prompts": options["prompts"],
        "as_released": options["as_released"],
    }


def _plan_zero_shot(
    features: FeatureCache,
    classes: Lexicon,
    protocols: list[str],
    options: dict[str, Any],
    json_file: Path | None,
) -> list[Callable[[], dict[str, Any]]]:
    """Chooses the videos of every protocol; returns what scores them, prints, and gives the document for --json."""
    if not protocols:
        return []
    settings = {
        **_settings(features, classes, options),
        "heads": [str(path) for path in options["heads"]],
        "retriever": str(options["retriever"] or ""),
        **{key: options[key] for key in _ZERO_SHOT},
    }

    @cache_result
    def scorers() -> list[Scorer]:
        from ..scoring import zero_shot_scorers

        return zero_shot_scorers(features, classes, options)

    def document(protocol: str, score: Score) -> dict[str, Any]:
        results, comparisons = score(scorers())
        published = find_published(options["papers"], options["dataset"], protocol)
        if str(json_file) != "-":
            (print_multi_label if protocol == MULTI_LABEL else _print)(results, comparisons)
            print_published(options["papers"], options["dataset"], protocol, published)
        return {
            "protocol": protocol,
            "results": [result.to_dict() for result in results],
            "comparisons": [vars(comparison) for comparison in comparisons],
            **to_json(options["papers"], published),
        }

    plans = {
        protocol: plan_multi_label(features, classes, options, settings)
        if protocol == MULTI_LABEL
        else _plan_single_label(features, classes, protocol, options, settings)
        for protocol in protocols
    }
    return [partial(document, protocol, score) for protocol, score in plans.items()]


def _plan_single_label(
    features: FeatureCache, classes: Lexicon, protocol: str, options: dict[str, Any], settings: dict[str, Any]
) -> Score:
    """Chooses the videos; what runs the protocol for all scorers gives their results, and each against the first."""
    from ...pipeline.evaluation import EvaluationError, compare, evaluate, select_test_set, take, trials
    from ..scoring import untrained_indices

    test = select_test_set(features, classes, options["split"], by_split_sets=protocol == "splits")
    keep, notes = untrained_indices(features, test.indices, options)
    test = replace(take(test, keep), notes=[*test.notes, *notes])
    asked = {"repeats": options["repeats"], **_sets(protocol, classes, test)}
    try:
        trials(protocol, test.labels, len(classes), **asked)
    except ValueError as error:
        raise EvaluationError(str(error)) from error

    def score(scorers: Sequence[Scorer]) -> tuple[list[Result], list[Comparison]]:
        results = evaluate(features, test, scorers, protocol, len(classes), settings=settings, **asked)
        return results, [compare(result, results[0]) for result in results[1:]]

    return score


def _sets(protocol: str, classes: Lexicon, test: LabeledVideos) -> dict[str, Any]:
    """What `kinetics600` and `splits` need beside the labels."""
    if protocol == "kinetics600":
        from ...lexicons import load_lexicon

        names = [f"kinetics600-zeroshot-{number}" for number in (1, 2, 3)]
        return {"class_sets": {name: classes.resolve(load_lexicon(name).labels) for name in names}}
    if protocol == "splits":
        return {"video_sets": test.split_sets}
    return {}


def _print(results: list[Result], comparisons: list[Comparison]) -> None:
    from ...pipeline.evaluation import METRICS
    from ..output import console, count, printable, table, warn

    first = results[0]
    settings, repetitions = first.settings, first.repetitions
    candidates = {metrics.n_classes for _, metrics in repetitions}
    over = f"{min(candidates)}" if len(candidates) == 1 else f"{min(candidates)} to {max(candidates)}"
    times = f", {len(repetitions)} times {over} of them" if len(repetitions) > 1 else ""
    title = (
        f"{first.protocol}: {count(first.n_videos, 'video')}"
        f"{' of split ' + printable(settings['split']) if settings['split'] else ''}, "
        f"{count(first.n_classes, 'class', 'classes')} ({printable(settings['lexicon'])}){times}"
    )
    chance = sum(100 / metrics.n_classes for _, metrics in repetitions) / len(repetitions)
    rows = [[result.scorer, *(str(result.figures[field]) for field in METRICS)] for result in results]
    rows.append(["chance", f"{chance:.1f}", "", ""])
    console().print(table(title, ["", *(f"{name} %" for name in METRICS.values())], rows))
    for comparison in comparisons:
        click.echo(printable(comparison))
    spread = "± standard deviation over the repetitions"
    interval = "brackets: 95 % bootstrap interval over videos"
    shown = " | ".join(settings["prompts"][:2]) + (" | ..." if len(settings["prompts"]) > 2 else "")
    click.echo(
        f"{printable(settings['encoder'])}; prompt {printable(shown)}; {spread if len(repetitions) > 1 else interval}."
    )
    if settings["as_released"]:
        click.echo(released_line(settings["as_released"]))
    for note in first.notes:
        warn(note)
