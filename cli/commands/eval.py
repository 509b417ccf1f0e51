"""`vidclip eval`: accuracy from the cache, without training and with."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache as cache_result
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import MAP_CONVENTIONS, MULTI_LABEL, PAPERS, PROTOCOLS, TRAINING_PROTOCOLS
from ..compare import dataset_of, print_published, to_json
from ..conditions import Condition, with_option
from ..head_options import SEED, Shots, head_configs, head_options, texts_for_heads, train_settings
from ..language_options import GROUP, language_options, language_settings, validation_videos
from ..options import (
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
from ..parameters import OutputFile, option
from ..released import AsReleased, as_released_option
from ..scoring_options import SCORES, ZERO_SHOT, scoring_options, scoring_settings

if TYPE_CHECKING:
    from ...pipeline.evaluation import Languages, PredictionRow, Result, Run, TrainingPlan
    from ...pipeline.scoring import Scorer

ONE_LABEL = with_option("--protocol", *PROTOCOLS)
LEARNS = with_option("--protocol", *TRAINING_PROTOCOLS)
TRAINS = Condition(
    lambda call: (
        "general" in call.values("--protocol")
        or ("few-shot" in call.values("--protocol") and set(call.values("--shots")) != {0})
    ),
    "--protocol general, or few-shot with --shots above 0",
)


@vidclip_command(
    epilog="Example:  vidclip eval --protocol half-classes --pool mean --pool vcs --attributes k400",
    groups={
        "Scores without training": "--prompt --pool --head --video-prompts --view-average --as-released --compare",
        "Concept spotting (--pool vcs)": "--words --saliency --recognition --temperature --renormalize",
        "Attributes": "--attributes --top --attributes-prompt --retriever --fusion --fusion-form",
        "Second language (--second-text)": GROUP,
        "Heads (--protocol general, few-shot)": "--classifier --temporal --temporal-start --temporal-heads --projection "
        "--prompt-context --text-encoder --loss --epochs --batch-size --learning-rate --weight-decay --train-split "
        "--test-share --shots --seed --seeds",
        "Encoder and output": "--model --pretrained --device --per-class --predictions --predictions-top --json --debug",
    },
)
@cache_option
@option(
    "--protocol", "protocols", multiple=True, type=click.Choice([*ZERO_SHOT, *TRAINING_PROTOCOLS]),
    default=("full-classes",), show_default=True,
    help="All classes; ten random halves (BIKE A.3); the three sets of 160 new classes of Kinetics-600; the splits "
    "test1, test2, test3 (X-CLIP); mAP (Charades, ActivityNet). Trained: on all training videos; on --shots of them.",
)  # fmt: skip
@lexicon_option
@option(
    "--split", needs=with_option("--protocol", *(each for each in (*ZERO_SHOT, *TRAINING_PROTOCOLS) if each != "splits")),
    help="Tested videos; all: every labeled one.  [default: test, else val; all of a cache without splits]",
)  # fmt: skip
@scoring_options(trains=True)
@language_options(reads=None, trains=TRAINS, zero_shot=SCORES, controls=True)
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
    help="Random seed of the first training, and of the split of --test-share.",
)  # fmt: skip
@option(
    "--seeds", type=click.IntRange(1, 1000), needs=TRAINS,
    help="Trainings of each head.  [default: few-shot 3, general 1]",
)  # fmt: skip
@option("--single-view", is_flag=True, help="Of several views, the center crop of the first clip alone.")
@option(
    "--per-class", is_flag=True, needs=ONE_LABEL,
    help="The figures of each class, and what it is most often taken for.",
)  # fmt: skip
@option(
    "--predictions", "predictions_file", type=OutputFile(), needs=ONE_LABEL,
    help="Write what was said of every video: .csv, .json or .parquet. `vidclip compare` reads two of them.",
)  # fmt: skip
@option(
    "--predictions-top", type=click.IntRange(1, 1000), default=5, show_default=True, needs=with_option("--predictions"),
    help="Classes of a video in it.",
)  # fmt: skip
@json_option
@model_options
@device_option
def command(
    cache: Path,
    json_file: Path | None,
    predictions_file: Path | None,
    as_released: AsReleased,
    **options: Any,
) -> None:
    """Scores the videos of the cache against their class names.

    The protocols that train nothing make one table of all pools, heads and attributes, each compared with the first
    on the same videos; general and few-shot train heads on the cached features first, one for each combination of
    --classifier, --temporal and --pool. No video is opened.
    """
    from ...cache import FeatureCache
    from ...pipeline.evaluation import (
        FEW_SHOT_SETTINGS,
        TrainingPlan,
        build_scorers,
        check_predictions_file,
        class_figures,
        compare_with_controls,
        compare_with_first,
        find_languages,
        plan_training,
        plan_zero_shot,
        prediction_rows,
        published_for,
    )
    from ...pipeline.heads import load_head
    from ..files import write_predictions
    from ..output import progress_bar, warn, write_json
    from ..tables import print_classes, print_results

    if predictions_file:
        check_predictions_file(predictions_file)
    keep = options["predictions_top"] if predictions_file else int(bool(options["per_class"]))

    options["prompts"] = prompts_of(*options["prompts"])
    options["attributes_prompt"] = prompt_of("--attributes-prompt", options["attributes_prompt"])
    features, lexicon = open_cache(cache, options["lexicon"], single_view=options["single_view"])
    options["temporal_heads"] = as_released.temporal_heads(features)
    papers, device = options["papers"], options["device"]
    dataset = dataset_of(lexicon) if papers else ""  # before the work: it may not be known
    heads = [(path.name, load_head(path)) for path in options["heads"]]
    load, scoring = encoder_loader(), scoring_settings(**options)
    second = language_settings(lexicon, **options)
    shaped_by: dict[str, Any] = {
        "cache": str(features.folder),
        "features": features.identity.digest,
        "encoder": features.identity.encoder_name,
        "lexicon": lexicon.name,
        "lexicon_sha256": lexicon.digest,
        "views": features.shape[1],
        "prompts": scoring.prompts,
        "as_released": as_released.to_dict(),
        **(second.to_dict() if second else {}),
    }

    @cache_result
    def languages(trains: bool) -> Languages | None:
        if second is None:
            return None
        return find_languages(features, lexicon, second, prompts=scoring.prompts, trains=trains, load=load)

    @cache_result
    def scorers() -> list[Scorer]:
        retriever = FeatureCache(options["retriever"]) if options["retriever"] else None
        if retriever and options["single_view"]:
            retriever = retriever.single_view()
        validation = None
        if second is not None and second.weight is None:
            validation = validation_videos(features, lexicon, options["validation_split"], options["split"])
        return build_scorers(
            features,
            lexicon,
            scoring,
            heads=heads,
            retriever=retriever,
            languages=languages(trains=False),
            validation=validation,
            load=load,
            device=device,
        )

    def train(plan: TrainingPlan) -> list[Result]:
        folder = options["text_encoder"]
        classes = texts_for_heads(
            features, lexicon, plan.configs, prompts=scoring.prompts, text_encoder=folder, load=load
        )
        if found := languages(trains=True):
            classes = replace(classes, seconds={each.name: each for each in found.seconds})
        settings = {**shaped_by, "text_encoder": folder.name if folder else ""}
        with progress_bar("training") as advance:

            def show(run: Run) -> None:
                shots = "all" if run.shots is None else run.shots
                advance(run.number - 1, run.of, f"{run.head}, {shots} a class")

            return plan.run(classes, settings, device=device, on_run=show)

    # What a later protocol cannot do is said before an earlier one has worked for an hour.
    plans: list[Any] = []
    for protocol in dict.fromkeys(options["protocols"]):
        if protocol in TRAINING_PROTOCOLS:
            few = protocol == "few-shot"
            defaults = {name: getattr(FEW_SHOT_SETTINGS, name) for name in ("epochs", "held_out") if few}
            data = {name: options[name] for name in ("train_split", "split", "test_share", "shots", "seeds")}
            settings = train_settings(defaults, **options)
            configs = head_configs(**options)
            if found := languages(trains=True):
                configs = [each for config in configs for each in found.configs(config)]
            plan = plan_training(features, lexicon, configs, settings, protocol=protocol, **data)
        else:
            plan = plan_zero_shot(
                features,
                lexicon,
                protocol,
                options["split"],
                heads=heads,
                repeats=options["repeats"],
                map_convention=options["map_convention"],
            )
            if protocol != MULTI_LABEL:
                plan = replace(plan, options={**plan.options, "keep": keep})
        plans.append(plan)
    zero_shot = {
        **shaped_by,
        **scoring.to_dict(),
        "heads": [str(path) for path in options["heads"]],
        "retriever": str(options["retriever"] or ""),
        "repeats": options["repeats"],
    }
    documents: list[dict[str, Any]] = []
    rows: list[PredictionRow] = []
    try:
        for plan in plans:
            trains = isinstance(plan, TrainingPlan)
            results = train(plan) if trains else plan.run(scorers(), zero_shot)
            comparisons = compare_with_first(results)
            if found := languages(trains=trains):
                comparisons += compare_with_controls(found, results)
            shots = plan.shots if trains else ()
            published = published_for(papers, dataset, plan.protocol, shots) if papers else []
            classes = {}
            if options["per_class"]:
                classes = {each.scorer: class_figures(each, lexicon) for each in results if each.predictions}
            if predictions_file:
                rows += prediction_rows(features, lexicon, plan.sides.test if trains else plan.test, results)
            if str(json_file) != "-":
                print_results(results, comparisons, as_released)
                print_classes(plan.protocol, classes)
                print_published(papers, dataset, plan.protocol, published)
            documents.append(
                {
                    "protocol": plan.protocol,
                    "results": [result.to_dict() for result in results],
                    "comparisons": [
                        {**vars(comparison), **({} if k is None else {"shots": k})}
                        for k, comparison in comparisons
                    ],
                    **(
                        {"per_class": {k: [asdict(c) for c in v] for k, v in classes.items()}}
                        if classes
                        else {}
                    ),
                    **to_json(papers, published),
                }
            )
    finally:
        if predictions_file and rows:
            write_predictions(predictions_file, rows)
        if json_file and documents:
            write_json(json_file, documents)
            if len(documents) < len(plans):
                warn(f"{json_file} has the {len(documents)} of {len(plans)} protocols that were done before.")
