"""`vidclip eval`: accuracy from the cache, without training and with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import MAP_CONVENTIONS, MULTI_LABEL, PAPERS, PROTOCOLS, TRAINING_PROTOCOLS
from ..compare import dataset_of, print_published, to_json
from ..conditions import Condition, with_option
from ..head_options import SEED, Shots, head_options
from ..language_options import GROUP, language_options
from ..options import (
    caches_option,
    device_option,
    encoder_loader,
    json_option,
    lexicon_option,
    model_options,
    prompt_of,
    prompts_of,
    vidclip_command,
)
from ..parameters import OutputFile, option
from ..released import AsReleased, as_released_option
from ..scoring_options import SCORES, ZERO_SHOT, scoring_options

if TYPE_CHECKING:
    from ...pipeline.evaluation import PredictionRow
    from ...pipeline.heads import StoredHead


def _load_heads(paths: Sequence[Path]) -> list[tuple[str, StoredHead]]:
    """Return trained heads, each with the name of its file; torch is imported where there are any."""
    if not paths:
        return []
    from ...pipeline.heads import load_head

    return [(path.name, load_head(path)) for path in paths]


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
@caches_option
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
    cache: tuple[Path, ...],
    json_file: Path | None,
    predictions_file: Path | None,
    as_released: AsReleased,
    **options: Any,
) -> None:
    """Scores the videos of the cache against their class names.

    The protocols that train nothing make one table of all pools, heads and attributes, each compared with the first
    on the same videos; general and few-shot train heads on the cached features first, one for each combination of
    --classifier, --temporal and --pool. No video is opened.

    Several caches (--cache b16 --cache l14) stand in one table, with the figures that each has by itself, and each scorer is
    compared with itself over the first cache, on the videos that both have. All options hold for all of them.
    """
    from ...pipeline.evaluation import (
        TrainingPlan,
        check_predictions_file,
        check_side_by_side,
        compare_caches,
        published_for,
    )
    from ..cache_evaluation import CacheEvaluation, cache_names, joined
    from ..files import write_predictions
    from ..output import warn, write_json
    from ..tables import print_classes, print_results

    if predictions_file:
        check_predictions_file(predictions_file)
    keep = options["predictions_top"] if predictions_file else int(bool(options["per_class"]))

    options["prompts"] = prompts_of(*options["prompts"])
    options["attributes_prompt"] = prompt_of("--attributes-prompt", options["attributes_prompt"])
    load = encoder_loader()
    heads = _load_heads(options["heads"])
    caches = [
        CacheEvaluation(folder, name, load=load, heads=heads, as_released=as_released, options=options)
        for folder, name in zip(cache, cache_names(cache), strict=True)
    ]
    papers = options["papers"]
    dataset = dataset_of(caches[0].lexicon) if papers else ""  # before the work: it may not be known

    # What a later protocol cannot do is said before an earlier one has worked for an hour.
    plans = [
        [each.plan(protocol, keep) for each in caches] for protocol in dict.fromkeys(options["protocols"])
    ]
    apart = [check_side_by_side(tests) for tests in plans]
    documents: list[dict[str, Any]] = []
    rows: list[PredictionRow] = []
    said: set[str] = set()
    try:
        for tests, notes in zip(plans, apart, strict=True):
            plan = tests[0].plan
            done = [each.run(test) for each, test in zip(caches, tests, strict=True)]
            across, unpaired = compare_caches(tests, [each.results for each in done])
            new = [note for note in (*notes, *unpaired) if note not in said]
            said.update(new)
            shots = plan.shots if isinstance(plan, TrainingPlan) else ()
            published = published_for(papers, dataset, plan.protocol, shots) if papers else []
            if predictions_file:
                for each, test, found in zip(caches, tests, done, strict=True):
                    rows += each.prediction_rows(test, found)
            if str(json_file) != "-":
                print_results(done, as_released, across, new)
                print_classes(plan.protocol, done)
                print_published(papers, dataset, plan.protocol, published)
            documents.append(
                {
                    "protocol": plan.protocol,
                    **joined(done),
                    **(
                        {
                            "caches": [each.name for each in done],
                            "between_caches": [asdict(each) for each in across],
                            "notes": [*notes, *unpaired],
                        }
                        if len(done) > 1
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
