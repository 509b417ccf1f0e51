"""`vidclip eval`: zero-shot accuracy from the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import cache_option, device_option, json_option, vidclip_command

if TYPE_CHECKING:
    from ..pipeline.evaluate import Result

DEFAULT_PROMPT = "This is a video about {}"


@vidclip_command(
    epilog="Example:  vidclip eval --protocol half-classes --lexicon ucf101",
    short_help="Zero-shot accuracy, from the cache.",
)
@cache_option
@click.option(
    "--protocol",
    type=click.Choice(["full-classes", "half-classes"]),
    default="full-classes",
    show_default=True,
    help="All classes at once; or ten random halves of them, mean and standard deviation (BIKE, A.3).",
)
@click.option(
    "--lexicon", help="The class names: a lexicon or a text file.  [default: the cache's own labels]"
)
@click.option("--split", help="Which videos are tested.  [default: test, then val, else all]")
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    default=(DEFAULT_PROMPT,),
    show_default=True,
    help="Sentence with {} for the class name; several are averaged.",
)
@click.option(
    "--repeats", type=click.IntRange(1), default=10, show_default=True, help="Halves of half-classes."
)
@json_option
@device_option
def command(
    cache: Path,
    protocol: str,
    lexicon: str | None,
    split: str | None,
    prompts: tuple[str, ...],
    repeats: int,
    json_file: Path | None,
    device: str,
) -> None:
    """Scores the videos of the cache against their class names, without training: cosine between the mean
    frame embedding and the sentence of each class.

    No video is opened; the encoder is loaded only for class names it has not embedded before.
    """
    from ..cache import FeatureCache
    from ..lexicons import load_lexicon
    from ..pipeline.evaluate import evaluate, mean_scores, own_classes, select_test_set
    from ..pipeline.texts import load_encoder_of, text_embeddings

    for prompt in prompts:
        if prompt.count("{}") != 1:
            raise click.BadParameter(
                f"{prompt!r} needs one {{}} where the class name goes.", param_hint="--prompt"
            )
    features = FeatureCache(cache)
    classes = load_lexicon(lexicon) if lexicon else own_classes(features)
    test = select_test_set(features, classes, split)
    texts = text_embeddings(
        features, classes, prompts, load=lambda identity: load_encoder_of(identity, device)
    )
    try:
        result = evaluate(
            mean_scores(features, test.rows, texts),
            test,
            protocol,
            scorer="mean",
            repeats=repeats,
            settings={
                "cache": str(cache),
                "features": features.identity.digest,
                "encoder": features.identity.encoder_name,
                "lexicon": classes.name,
                "lexicon_sha256": classes.digest,
                "prompts": list(prompts),
            },
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if str(json_file) != "-":
        _print(result)
    if json_file:
        from .output import write_json

        write_json(json_file, result.to_dict())


def _print(result: Result) -> None:
    from ..pipeline.evaluate import METRICS
    from .output import console, count, printable, table, warn

    settings = result.settings
    candidates = {metrics.n_classes for _, metrics in result.repetitions}
    over = f"{min(candidates)}" if len(candidates) == 1 else f"{min(candidates)} to {max(candidates)}"
    repetitions = f", {len(result.repetitions)} times {over} of them" if len(result.repetitions) > 1 else ""
    title = (
        f"{result.protocol}: {count(result.n_videos, 'video')}"
        f"{' of split ' + printable(settings['split']) if settings['split'] else ''}, "
        f"{count(result.n_classes, 'class', 'classes')} ({printable(settings['lexicon'])}){repetitions}"
    )
    chance = 100 * sum(1 / metrics.n_classes for _, metrics in result.repetitions) / len(result.repetitions)
    columns = ["", *(f"{name} %" for name in METRICS.values())]
    rows = [
        [result.scorer, *(str(result.figures[field]) for field in METRICS)],
        ["chance", f"{chance:.1f}", "", ""],
    ]
    console().print(table(title, columns, rows))
    spread = "mean ± standard deviation over the repetitions"
    interval = "brackets: 95 % bootstrap interval over videos"
    click.echo(
        f"{printable(settings['encoder'])}; prompt {' | '.join(settings['prompts'])}; "
        f"{spread if len(result.repetitions) > 1 else interval}."
    )
    for note in result.notes:
        warn(note)
