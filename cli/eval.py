"""`vidclip eval`: zero-shot accuracy from the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import cache_option, device_option, json_option, vidclip_command

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.evaluate import Comparison, Result, TestSet
    from ..pipeline.scorers import Scorer
    from ..pipeline.texts import EncoderLoader

POOLS = ("mean", "max", "vote", "vcs")
RELEASED = ("bike", "text4vis")
"""Papers whose released code scores its halves in a way of its own: a raw vote, the mean."""
_NO_SETTINGS = ("lexicon", "split", "device", "protocols", "head", "retriever")


@vidclip_command(
    epilog="Example:  vidclip eval --protocol half-classes --pool mean --pool vcs --attributes k400",
    short_help="Zero-shot accuracy, from the cache.",
)
@cache_option
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(["full-classes", "half-classes", "kinetics600", "splits"]),
    default=("full-classes",),
    show_default=True,
    help="All classes; ten random halves (BIKE A.3); the three Kinetics-600 splits of 160 new classes; "
    "the test splits test1, test2, test3 (X-CLIP).",
)
@click.option(
    "--lexicon", help="The class names: a lexicon or a text file.  [default: the cache's own labels]"
)
@click.option("--split", help="Which videos are tested.  [default: test, then val, else all]")
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    default=("bike",),
    show_default=True,
    help="Sentence with {} for the class name, or bike, text4vis, clip-kinetics, x-clip, none; several are averaged.",
)
@click.option(
    "--pool",
    "pools",
    multiple=True,
    type=click.Choice(POOLS),
    default=("mean",),
    show_default=True,
    help="How frames make a score: mean embedding, best frame, mean of per-frame softmaxes, concept spotting. "
    "Several: one table, compared with the first.",
)
@click.option(
    "--attributes", "attributes", multiple=True, help="Lexicon of attributes: adds their scores, and fusions."
)
@click.option(
    "--head", type=click.Path(path_type=Path, dir_okay=False),
    help="A head that `vidclip fit` trained: adds its scores, and fusions with the pools.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Attributes of a video.")
@click.option(
    "--fusion",
    type=click.FloatRange(0, 1),
    help="Weight of the video against its attributes.  [default: 0.6; 0.8 for ViT-L and larger]",
)
@click.option(
    "--retriever",
    type=click.Path(path_type=Path, file_okay=False),
    help="The cache that retrieves attributes.",
)
@click.option(
    "--words", type=click.Choice(["name", "sentence", "all"]), default="name", show_default=True,
    help="vcs: which tokens are words; all 77 positions is what released BIKE does.",
)  # fmt: skip
@click.option(
    "--saliency", type=click.Choice(["words", "sentence"]), default="words", show_default=True,
    help="vcs: what asks the frames.",
)  # fmt: skip
@click.option(
    "--recognition", type=click.Choice(["words", "sentence"]), default="sentence", show_default=True,
    help="vcs: what the weighted video is compared with.",
)  # fmt: skip
@click.option(
    "--temperature", type=click.FloatRange(min=0, min_open=True), default=0.01, show_default=True,
    help="vcs: of the softmax over frames.",
)  # fmt: skip
@click.option(
    "--renormalise/--no-renormalise",
    default=True,
    show_default=True,
    help="vcs: the paper's cosine, or the released code's product.",
)
@click.option(
    "--as-released", type=click.Choice(RELEASED), multiple=True,
    help="Add what the released code scores its halves with.",
)  # fmt: skip
@click.option(
    "--repeats", type=click.IntRange(1), default=10, show_default=True, help="Halves of half-classes."
)
@json_option
@device_option
def command(cache: Path, json_file: Path | None, **options: Any) -> None:
    """Scores the videos of the cache against their class names, without training.

    No video is opened; the encoder is loaded only for names it has not embedded before. Several pools, and
    attributes, make one table; below it, each is compared with the first on the same videos.
    """
    from ..cache import FeatureCache
    from ..lexicons import load_lexicon
    from ..pipeline.evaluate import compare, evaluate, own_classes, select_test_set
    from ..pipeline.prompts import resolve_prompts

    try:
        options["prompts"] = resolve_prompts(options["prompts"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--prompt") from error
    features = FeatureCache(cache)
    classes = load_lexicon(options["lexicon"]) if options["lexicon"] else own_classes(features)
    scorers = _scorers(features, classes, options)
    documents = []
    for protocol in dict.fromkeys(options["protocols"]):
        test = select_test_set(features, classes, options["split"], by_split_sets=protocol == "splits")
        results = evaluate(
            features,
            test,
            scorers,
            protocol,
            len(classes),
            repeats=options["repeats"],
            settings={
                "cache": str(cache),
                "features": features.identity.digest,
                "encoder": features.identity.encoder_name,
                "lexicon": classes.name,
                "lexicon_sha256": classes.digest,
                "head": str(options["head"] or ""),
                "retriever": str(options["retriever"] or ""),
                **{key: value for key, value in options.items() if key not in _NO_SETTINGS},
            },
            **_sets(protocol, classes, test),
        )
        comparisons = [compare(result, results[0]) for result in results[1:]]
        if str(json_file) != "-":
            _print(results, comparisons)
        documents.append(
            {
                "protocol": protocol,
                "results": [result.to_dict() for result in results],
                "comparisons": [vars(comparison) for comparison in comparisons],
            }
        )
    if json_file:
        from .output import write_json

        write_json(json_file, documents)


def _scorers(features: FeatureCache, classes: Lexicon, options: dict[str, Any]) -> list[Scorer]:
    from ..pipeline.scorers import (
        AttributesScorer,
        FusionScorer,
        MaxScorer,
        MeanScorer,
        SpottingScorer,
        VoteScorer,
        default_fusion,
    )
    from ..pipeline.texts import EncoderLoader, text_embeddings
    from .output import warn

    load = EncoderLoader(options["device"])
    words = options["words"] if "vcs" in options["pools"] else "none"
    texts = text_embeddings(features, classes, options["prompts"], words=words, load=load)
    for phrase in texts.truncated[:3]:
        warn(f"{phrase!r} is longer than the text encoder's context, and was cut.")
    sentence = texts.sentence
    made: list[Scorer] = []
    for pool in dict.fromkeys(options["pools"]):
        if pool == "vcs":
            from ..pipeline.concept_spotting import ConceptSpotter, Spotting
            from ..pipeline.devices import choose_device

            settings = {
                key: options[key] for key in ("saliency", "recognition", "temperature", "renormalise")
            }
            device = choose_device(options["device"])
            made.append(SpottingScorer(ConceptSpotter(texts, Spotting(**settings), device=device)))
        else:
            made.append({"mean": MeanScorer, "max": MaxScorer, "vote": VoteScorer}[pool](sentence))
    for paper in options["as_released"]:
        name = f"{paper}, released"
        made.append(
            VoteScorer(sentence, raw=True, name=name) if paper == "bike" else MeanScorer(sentence, name)
        )
    videos = list(made)
    weight = options["fusion"]
    if weight is None:
        weight = default_fusion(features.identity.encoder.get("architecture", {}))
    if options["attributes"]:
        from ..cache import FeatureCache
        from ..lexicons import load_lexicon
        from ..pipeline.attributes import attributes_of

        lexicons = [load_lexicon(name) for name in options["attributes"]]
        retriever = FeatureCache(options["retriever"]) if options["retriever"] else None
        stored, _ = attributes_of(features, lexicons, retriever=retriever, top=options["top"], load=load)
        attributes = AttributesScorer(stored.sentence, sentence)
        made += [attributes, *(FusionScorer(video, attributes, weight) for video in videos)]
    if options["head"]:
        trained = _trained_scorer(features, classes, options["head"], load)
        made += [trained, *(FusionScorer(video, trained, weight) for video in videos)]
    return made


def _trained_scorer(features: FeatureCache, classes: Lexicon, path: Path, load: EncoderLoader) -> Scorer:
    """The attributes branch with the head of a file, on the attributes and prompts it was trained with."""
    from ..cache import attributes_path, read_attributes
    from ..pipeline.heads import HeadError, load_head
    from ..pipeline.scorers import AttributesScorer
    from ..pipeline.texts import text_embeddings

    head = load_head(path)
    head.check_encoder(features.identity.encoder_digest, str(features.folder))
    settings = head.settings["attributes"]
    path = attributes_path(features.folder, settings["lexicon"], settings)
    if not path.exists():
        raise HeadError(
            f"{features.folder} has no attributes like those the head was trained on (lexicon "
            f"{settings['lexicon']}, top {settings['top']}): make them with `vidclip attributes`."
        )
    stored = read_attributes(path)
    if list(stored.ids) != features.ids:
        raise HeadError(
            f"{path} is of other videos than {features.folder} now has; run `vidclip attributes` again."
        )
    texts = text_embeddings(features, classes, head.settings["prompts"], words="none", load=load)
    return AttributesScorer(*head.module.apply_to(stored.sentence, texts.sentence), "attributes, trained")


def _sets(protocol: str, classes: Lexicon, test: TestSet) -> dict[str, Any]:
    """What `kinetics600` and `splits` need beside the labels."""
    if protocol == "kinetics600":
        from ..lexicons import load_lexicon

        names = [f"kinetics600-zeroshot-{number}" for number in (1, 2, 3)]
        return {"class_sets": {name: classes.resolve(load_lexicon(name).labels) for name in names}}
    if protocol == "splits":
        return {"video_sets": test.split_sets}
    return {}


def _print(results: list[Result], comparisons: list[Comparison]) -> None:
    from ..pipeline.evaluate import METRICS
    from .output import console, count, printable, table, warn

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
    for note in first.notes:
        warn(note)
