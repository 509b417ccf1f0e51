"""`vidclip eval`: accuracy from the cache, without training and with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache as cache_result
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import (
    FUSION_FORMS,
    MAP_CONVENTIONS,
    MULTI_LABEL,
    PAPERS,
    POOLS,
    PROTOCOLS,
    QUERIES,
    TRAINING_PROTOCOLS,
)
from ..compare import dataset_of, print_published, to_json
from ..conditions import Condition, with_option
from ..head_options import (
    CONFIG,
    SEED,
    TRAINING,
    Shots,
    head_configs,
    head_options,
    texts_for_heads,
    train_settings,
)
from ..options import (
    TEMPERATURE,
    cache_option,
    device_option,
    encoder_loader,
    json_option,
    lexicon_option,
    model_options,
    open_cache,
    prompt_of,
    prompts_of,
    vidclip_command,
)
from ..parameters import FiniteRange, option
from ..released import (
    AsReleased,
    as_released_option,
    attributes_prompt_option,
    renormalize_option,
    view_average_option,
    words_option,
)

if TYPE_CHECKING:
    from ...pipeline.evaluation import Result, Run, TrainingPlan
    from ...pipeline.scoring import Scorer

ZERO_SHOT = (*PROTOCOLS, MULTI_LABEL)
SCORES = with_option("--protocol", *ZERO_SHOT)
"""Protocols that train nothing."""
LEARNS = with_option("--protocol", *TRAINING_PROTOCOLS)
TRAINS = Condition(
    lambda call: (
        "general" in call.values("--protocol")
        or ("few-shot" in call.values("--protocol") and set(call.values("--shots")) != {0})
    ),
    "--protocol general, or few-shot with --shots above 0",
)
SPOTS = with_option("--pool", "vcs")
_ZERO_SHOT = (
    *("pools", "attributes", "top", "fusion", "fusion_form", "words", "saliency", "recognition"),
    *("temperature", "renormalize", "view_average", "repeats"),
)
"""Options that are kept with the results of the protocols that train nothing."""


@vidclip_command(
    epilog="Example:  vidclip eval --protocol half-classes --pool mean --pool vcs --attributes k400",
    short_help="Accuracy, from the cache: zero-shot, few-shot, general.",
    groups={
        "Scores without training": "--prompt --pool --head --view-average --as-released --compare",
        "Concept spotting (--pool vcs)": "--words --saliency --recognition --temperature --renormalize",
        "Attributes": "--attributes --top --attributes-prompt --retriever --fusion --fusion-form",
        "Heads (--protocol general, few-shot)": "--classifier --temporal --temporal-heads --projection "
        "--prompt-context --text-encoder --loss --epochs --batch-size --learning-rate --weight-decay --train-split "
        "--test-share --shots --seed --seeds",
        "Encoder and output": "--model --pretrained --device --json --debug",
    },
)
@cache_option
@option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice([*ZERO_SHOT, *TRAINING_PROTOCOLS]),
    default=("full-classes",),
    show_default=True,
    help="All classes; ten random halves (BIKE A.3); the three sets of 160 new classes of Kinetics-600; the splits "
    "test1, test2, test3 (X-CLIP); mAP (Charades, ActivityNet). Trained: on all training videos; on --shots of them.",
)
@lexicon_option
@option(
    "--split",
    needs=with_option(
        "--protocol", *(name for name in (*ZERO_SHOT, *TRAINING_PROTOCOLS) if name != "splits")
    ),
    help="Tested videos; all: every labeled one.  [default: test, else val; all of a cache without splits]",
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
    help="How frames make a score: mean embedding, best frame, mean of softmaxes, concept spotting; as the released "
    "codes score their halves. Several make one table.",
)
@option(
    "--attributes",
    "attributes",
    multiple=True,
    needs=SCORES,
    help="Adds the scores of attributes from a lexicon or a .json file of BIKE's, and fusions.",
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
    help="Weight of the video in fusions.  [default: 0.6; 0.8 for ViT-L and larger]",
)
@option(
    "--fusion-form", type=click.Choice(FUSION_FORMS), default="paper", show_default=True,
    needs=with_option("--attributes") | with_option("--head"),
    help="What is fused: softmaxes of cosines / temperature, or of the cosines themselves.",
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
    "--saliency", type=click.Choice(QUERIES), default="words", show_default=True,
    needs=SCORES & SPOTS, help="The query of the softmax over frames.",
)  # fmt: skip
@option(
    "--recognition", type=click.Choice(QUERIES), default="sentence", show_default=True,
    needs=SCORES & SPOTS, help="What the weighted video is compared with.",
)  # fmt: skip
@option(
    "--temperature", type=TEMPERATURE, default=0.01, show_default=True, needs=SPOTS,
    help="Temperature of that softmax.",
)  # fmt: skip
@renormalize_option(SPOTS)
@view_average_option(
    with_option("--pool", "mean", "vcs")
    | with_option("--head")
    | with_option("--protocol", *TRAINING_PROTOCOLS)
)
@as_released_option
@option(
    "--repeats", type=click.IntRange(1, 10_000), default=10, show_default=True,
    needs=with_option("--protocol", "half-classes"), help="Halves of half-classes.",
)  # fmt: skip
@option(
    "--map-convention", default="standard", show_default=True,
    type=click.Choice(["released", *MAP_CONVENTIONS]),
    needs=with_option("--protocol", MULTI_LABEL),
    help="multi-label: mAP without classes that have no video; or as the released scripts of BIKE (Charades) and "
    "Text4Vis (ActivityNet) compute it (released: by --lexicon).",
)  # fmt: skip
@option(
    "--compare", "papers", multiple=True, type=click.Choice(PAPERS),
    help="The paper's own figures for this data set (--lexicon) and protocol.",
)  # fmt: skip
@head_options(several=True, design=LEARNS, training=TRAINS)
@option(
    "--shots", multiple=True, type=Shots(), needs=with_option("--protocol", "few-shot"),
    help="few-shot: training videos of every class.  [default: 0, 1, 2, 4, 8, 16 as far as there are, and all]",
)  # fmt: skip
@option(
    "--seed", type=SEED, default=0, show_default=True, needs=LEARNS,
    help="Of the first training, and of the split of --test-share.",
)  # fmt: skip
@option(
    "--seeds",
    type=click.IntRange(1, 1000),
    needs=TRAINS,
    help="Trainings of each head.  [default: few-shot 3, general 1]",
)
@option(
    "--single-view", is_flag=True,
    help="Of several views, the center crop of the first clip alone.",
)  # fmt: skip
@json_option
@model_options
@device_option
def command(cache: Path, json_file: Path | None, as_released: AsReleased, **options: Any) -> None:
    """Scores the videos of the cache against their class names.

    The protocols that train nothing make one table of all pools, heads and attributes, each compared with the first
    on the same videos; general and few-shot train heads on the cached features first, one for each combination of
    --classifier, --temporal and --pool. No video is opened.
    """
    from ...cache import FeatureCache
    from ...pipeline.evaluation import (
        FEW_SHOT_SETTINGS,
        ScoringSettings,
        ZeroShotPlan,
        build_scorers,
        compare,
        compare_by_shots,
        plan_training,
        plan_zero_shot,
        published_for,
    )
    from ...pipeline.heads import load_head
    from ...pipeline.scoring import AttributeSettings, ConceptSpottingConfig
    from ..output import progress_bar, warn, write_json
    from ..tables import print_results

    prompts = prompts_of(*options["prompts"])
    attributes_prompt = prompt_of("--attributes-prompt", options["attributes_prompt"])
    features, lexicon = open_cache(cache, options["lexicon"], single_view=options["single_view"])
    options["temporal_heads"] = as_released.temporal_heads(features)
    dataset = dataset_of(lexicon) if options["papers"] else ""  # before the work: it may not be known
    heads = [(path.name, load_head(path)) for path in options["heads"]]
    retriever = FeatureCache(options["retriever"]) if options["retriever"] else None
    load = encoder_loader()
    shaped_by: dict[str, Any] = {
        "cache": str(features.folder),
        "features": features.identity.digest,
        "encoder": features.identity.encoder_name,
        "lexicon": lexicon.name,
        "lexicon_sha256": lexicon.digest,
        "views": features.shape[1],
        "prompts": prompts,
        "as_released": as_released.to_dict(),
    }
    zero_shot = {
        **shaped_by,
        "heads": [str(path) for path in options["heads"]],
        "retriever": str(options["retriever"] or ""),
        "attributes_prompt": attributes_prompt,
        **{name: options[name] for name in _ZERO_SHOT},
    }

    @cache_result
    def scorers() -> list[Scorer]:
        spotting = {name: options[name] for name in ("saliency", "recognition", "temperature", "renormalize")}
        settings = ScoringSettings(
            prompts=prompts,
            pools=options["pools"],
            words=options["words"],
            spotting=ConceptSpottingConfig(**spotting),
            view_average=options["view_average"],
            attributes=options["attributes"],
            attribute_settings=AttributeSettings(options["top"], prompt=attributes_prompt),
            fusion=options["fusion"],
            fusion_form=options["fusion_form"],
        )
        same_views = retriever.single_view() if retriever and options["single_view"] else retriever
        return build_scorers(
            features,
            lexicon,
            settings,
            heads=heads,
            retriever=same_views,
            load=load,
            device=options["device"],
        )

    def train(plan: TrainingPlan) -> list[Result]:
        folder = options["text_encoder"]
        classes = texts_for_heads(
            features, lexicon, plan.configs, prompts=prompts, text_encoder=folder, load=load
        )
        settings = {**shaped_by, "text_encoder": folder.name if folder else ""}
        with progress_bar("training") as advance:

            def show(run: Run) -> None:
                shots = "all" if run.shots is None else run.shots
                advance(run.number - 1, run.of, f"{run.head}, {shots} a class")

            return plan.run(classes, settings, device=options["device"], on_run=show)

    # What a later protocol cannot do is said before an earlier one has worked for an hour.
    plans: list[Any] = []
    for protocol in dict.fromkeys(options["protocols"]):
        if protocol not in TRAINING_PROTOCOLS:
            plans.append(
                plan_zero_shot(
                    features,
                    lexicon,
                    protocol,
                    options["split"],
                    heads=heads,
                    repeats=options["repeats"],
                    map_convention=options["map_convention"],
                )
            )
            continue
        few = FEW_SHOT_SETTINGS if protocol == "few-shot" else None
        plans.append(
            plan_training(
                features,
                lexicon,
                head_configs(
                    options["classifiers"], options["temporals"], options["pools"], **_some(options, CONFIG)
                ),
                train_settings(
                    {"epochs": few.epochs, "held_out": few.held_out} if few else {},
                    **_some(options, TRAINING),
                ),
                protocol=protocol,
                **_some(options, ("train_split", "split", "test_share", "shots", "seeds")),
            )
        )
    documents: list[dict[str, Any]] = []
    try:
        for plan in plans:
            if isinstance(plan, ZeroShotPlan):
                results, shots = plan.run(scorers(), zero_shot), ()
                comparisons = [(None, compare(result, results[0])) for result in results[1:]]
            else:
                results, shots = train(plan), plan.shots
                comparisons = compare_by_shots(results)
            papers = options["papers"]
            published = published_for(papers, dataset, plan.protocol, shots) if papers else []
            if str(json_file) != "-":
                print_results(results, comparisons, as_released)
                print_published(papers, dataset, plan.protocol, published)
            documents.append(
                {
                    "protocol": plan.protocol,
                    "results": [result.to_dict() for result in results],
                    "comparisons": [
                        {**vars(comparison), **({} if k is None else {"shots": k})}
                        for k, comparison in comparisons
                    ],
                    **to_json(papers, published),
                }
            )
    finally:
        if json_file and documents:
            write_json(json_file, documents)
            if len(documents) < len(plans):
                warn(f"{json_file} has the {len(documents)} of {len(plans)} protocols that were done before.")


def _some(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: options[name] for name in names}
