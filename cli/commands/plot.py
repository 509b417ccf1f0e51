"""`vidclip plot`: pictures of classifiers, of few-shot results and of confusions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...pipeline.choices import CLASSIFIERS
from ..conditions import with_option, without_option
from ..head_options import SEED
from ..messages import say
from ..options import (
    cache_option,
    device_option,
    encoder_loader,
    json_option,
    lexicon_option,
    model_options,
    open_cache,
    prompts_of,
    vidclip_command,
)
from ..parameters import PICTURES, OutputFile, argument, option
from ..scoring_options import heads_option, prompts_option


def _output(default: str):
    return option(
        "--output", type=OutputFile(suffixes=PICTURES), default=Path(default), show_default=True,
        help="The picture: .png, .svg or .pdf.",
    )  # fmt: skip


@click.group()
def command() -> None:
    """Draws what was found, as .png, .svg or .pdf."""


@vidclip_command(
    epilog="Example:  vidclip plot correlation --classifier lda --classifier text --output correlation.svg",
    short_help="How similar the classes are to each classifier.",
)
@cache_option
@option(
    "--classifier", "classifiers", multiple=True, type=click.Choice(CLASSIFIERS[:4]),
    default=("random", "orthogonal", "lda", "text"), show_default=True, help="One map each.",
)  # fmt: skip
@heads_option(None, "Adds the map of a trained head's classifier.")
@lexicon_option
@prompts_option(with_option("--classifier", "text"))
@option(
    "--train-split", needs=with_option("--classifier", "lda"),
    help="The videos that lda is fitted on.  [default: train; all of a cache without splits]",
)  # fmt: skip
@option("--first", type=click.IntRange(2), help="So many classes of the list.  [default: all]")
@option(
    "--seed", type=SEED, default=0, show_default=True, needs=with_option("--classifier", "random", "orthogonal"),
    help="Of random and orthogonal.",
)  # fmt: skip
@_output("correlation.png")
@model_options
@device_option
def correlation(
    cache: Path, classifiers: tuple[str, ...], heads: tuple[Path, ...], output: Path, **options: Any
) -> None:
    """The cosines between the classes of several classifiers, side by side (Text4Vis, Figures 1 and A.5)."""
    import numpy as np

    from ...pipeline.encoders import text_embeddings
    from ...pipeline.evaluation import training_set
    from ...pipeline.heads import ClassTexts, HeadConfig, VideoHead, head_over, load_head, untrained_head
    from ...pipeline.report import correlation_maps
    from ...pipeline.scoring import read_frames
    from ..output import printable, save_picture

    features, classes = open_cache(cache, options["lexicon"])
    load = encoder_loader()
    maps = {}
    if len(classes) < 2:
        raise click.UsageError("a correlation is between classes, and there is only one.")
    prompts = prompts_of(*options["prompts"])
    none = np.empty(0, np.int64)
    for kind in dict.fromkeys(classifiers):
        texts, indices, labels = None, none, none
        if kind == "text":
            texts = text_embeddings(features, classes, prompts, words="none", load=load)
        if kind == "lda":
            chosen = training_set(features, classes, options["train_split"])
            indices, labels = chosen.indices, chosen.targets
        known, frames = ClassTexts(classes.labels, texts), read_frames(features, indices)
        head = untrained_head(frames, labels, known, HeadConfig(kind), seed=options["seed"])
        maps[kind] = head.class_embeddings.detach().numpy()
    for path in heads:
        stored = load_head(path)
        stored.check_encoder(features.identity.encoder_digest, str(cache))
        trained = head_over(stored, classes, load, features)
        name = f"{trained.config.classifier if isinstance(trained, VideoHead) else 'text'} ({path.stem})"
        if name in maps:
            raise click.UsageError(f"two maps would be called {name!r}: give the heads other file names.")
        maps[name] = trained.class_embeddings.detach().numpy()
    names = classes.labels[: options["first"]]
    figure = correlation_maps({name: rows[: len(names)] for name, rows in maps.items()}, names)
    save_picture(figure, output)
    say(f"{printable(output)}: {len(names)} classes, {', '.join(map(printable, maps))}.")


@vidclip_command(
    "few-shot",
    epilog="Example:  vidclip plot few-shot shots.json --output few-shot.svg",
    short_help="Accuracy over the number of training videos.",
)
@argument("results", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@_output("few-shot.png")
def few_shot(results: tuple[Path, ...], output: Path) -> None:
    """Draws RESULTS, files of `vidclip eval --protocol few-shot --json FILE`: a line for each head, and a band of one
    standard deviation over seeds."""
    import json

    from ...pipeline.datasets.text_files import read_bytes
    from ...pipeline.datasets.video_list import DatasetError
    from ...pipeline.report import few_shot_curves
    from ..output import count, printable, save_picture

    found: list[tuple[Path, Any]] = []
    for path in dict.fromkeys(results):
        try:
            documents = json.loads(read_bytes(path))
        except DatasetError as error:
            raise click.UsageError(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"{printable(path)} is no JSON: {printable(error)}.") from error
        try:
            found += [(path, dict(r)) for d in documents if d["protocol"] == "few-shot" for r in d["results"]]
        except (ValueError, TypeError, KeyError) as error:
            raise click.UsageError(
                f"{printable(path)} is JSON, but no result of `vidclip eval --json FILE`."
            ) from error
    sources: dict[Any, set[Path]] = {}
    for path, result in found:
        sources.setdefault(str(result.get("scorer")), set()).add(path)
    for path, result in found:  # heads of one name, of several files, are lines of their own
        own = sources[str(result.get("scorer"))]
        if len(own) > 1:
            same_name = sum(other.stem == path.stem for other in own) > 1
            result["scorer"] = f"{result.get('scorer')} ({path if same_name else path.stem})"
    try:
        figure = few_shot_curves([result for _, result in found])
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise click.UsageError(
            f"{', '.join(map(printable, results))}: {printable(why)}. Make such a file with `vidclip eval "
            "--protocol few-shot --json FILE`."
        ) from error
    save_picture(figure, output)
    say(f"{printable(output)}: {count(len({r['scorer'] for _, r in found}), 'head')}.")


@vidclip_command(
    epilog="Example:  vidclip plot confusion --head head.safetensors --split test",
    short_help="What each class is taken for.",
)
@cache_option
@option(
    "--head", type=click.Path(path_type=Path, dir_okay=False),
    help="A trained head.  [default: the mean frame embedding, zero-shot]",
)  # fmt: skip
@lexicon_option
@prompts_option(without_option("--head"))
@option("--split", help="Which videos are tested.  [default: test, then val, else all]")
@option(
    "--top", type=click.IntRange(2, 400), default=40, show_default=True,
    help="So many classes, the most confused first.",
)  # fmt: skip
@_output("confusion.png")
@json_option
@model_options
@device_option
def confusion(
    cache: Path, head: Path | None, output: Path, top: int, json_file: Path | None, **options: Any
) -> None:
    """For each class that is tested, the share of its videos that is taken for each other; the worst confusions in
    words."""
    import numpy as np

    from ...pipeline.encoders import text_embeddings
    from ...pipeline.evaluation import leave_out_trained, select_videos
    from ...pipeline.heads import head_over, load_head, scorer_of_head
    from ...pipeline.report import confused_pairs, confusion_counts, confusion_map, order_of_confusion
    from ...pipeline.scoring import MeanScorer, Scorer, scan_scores
    from ..output import count, printable, save_picture, warn, write_json

    features, classes = open_cache(cache, options["lexicon"])
    test = select_videos(features, classes, options["split"])
    load = encoder_loader()
    scorer: Scorer
    if head:
        stored = load_head(head)
        known = len(test.notes)
        trained_on = {f"the head {head.name}": stored.trained_on}
        test = leave_out_trained(features, test, trained_on, asked_for=options["split"] is not None)
        for message in test.notes[known:]:
            warn(message)
        stored.check_encoder(features.identity.encoder_digest, str(cache))
        stored.check_features(features.shape, str(cache))
        module = head_over(stored, classes, load, features)
        scorer = scorer_of_head(module, features, temperature=stored.temperature, device=options["device"])
    else:
        texts = text_embeddings(features, classes, prompts_of(*options["prompts"]), words="none", load=load)
        scorer = MeanScorer(texts.sentence, "mean, zero-shot")
    every = np.arange(len(classes))
    predicted = np.empty(len(test), np.int64)
    for places, (similarities,) in scan_scores(features, [scorer], test.indices):
        predicted[places] = scorer.scores(similarities, every).argmax(axis=1)
    counts = confusion_counts(predicted, test.targets, len(classes))
    right = float(100 * np.trace(counts) / counts.sum())
    title = f"{scorer.name}: top-1 {right:.1f} % of {count(len(test), 'video')}"
    save_picture(confusion_map(counts, classes.labels, title, most=top), output)
    pairs = confused_pairs(counts)
    if str(json_file) != "-":
        present = len(order_of_confusion(counts))
        shown = "" if present <= top else f" The {top} most confused of {present} classes."
        click.echo(f"{printable(output)}: {title}.{shown}")
        for true, taken, videos in pairs[:5]:
            of = f"{videos} of {count(int(counts[true].sum()), 'video')}"
            click.echo(
                f"  {printable(classes.labels[true])}: {of} taken for {printable(classes.labels[taken])}"
            )
    if json_file:
        document = {
            "cache": str(features.folder),
            "features": features.identity.digest,
            "scorer": scorer.name,
            "split": test.split,
            "n_videos": len(test),
            "top1": right,
            "classes": {classes.labels[c]: int(counts[c].sum()) for c in order_of_confusion(counts)},
            "confused": [
                {"class": classes.labels[i], "taken_for": classes.labels[j], "videos": n} for i, j, n in pairs
            ],
        }
        write_json(json_file, document)


for _command in (correlation, few_shot, confusion):
    command.add_command(_command)
