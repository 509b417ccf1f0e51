"""`vidclip fit`: light heads, trained on the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import cache_option, device_option, vidclip_command


@vidclip_command(
    epilog="Example:  vidclip fit --head attributes --attributes k400 --split train --output head.safetensors",
    short_help="Train a light head on the cache.",
)
@cache_option
@click.option(
    "--head", type=click.Choice(["attributes"]), default="attributes", show_default=True,
    help="attributes: two small MLPs on the frozen text embeddings of BIKE's attributes branch.",
)  # fmt: skip
@click.option(
    "--lexicon", help="The class names: a lexicon or a text file.  [default: the cache's own labels]"
)
@click.option("--split", default="train", show_default=True, help="Which videos are learnt from.")
@click.option(
    "--attributes",
    multiple=True,
    default=("kinetics400",),
    show_default=True,
    help="Lexicon of the attributes.",
)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Attributes of a video.")
@click.option("--prompt", default="This is a video about {}", show_default=True, help="Around class names.")
@click.option(
    "--retriever",
    type=click.Path(path_type=Path, file_okay=False),
    help="The cache that retrieves attributes.",
)
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True)
@click.option(
    "--loss", type=click.Choice(["paper", "released"]), default="released", show_default=True,
    help="Contrastive loss: cross entropy, or the released code's KL divergence.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("attributes-head.safetensors"),
    show_default=True, help="Where the head is written.",
)  # fmt: skip
@device_option
def command(cache: Path, output: Path, head: str, **options: Any) -> None:
    """Trains a head on the features, attributes and text embeddings of the cache, in seconds; no video is opened.

    `vidclip eval --head FILE` uses it.
    """
    from ..cache import FeatureCache
    from ..lexicons import load_lexicon
    from ..pipeline.attributes import attributes_of
    from ..pipeline.devices import choose_device
    from ..pipeline.evaluate import own_classes, select_test_set
    from ..pipeline.fit import FitSettings, fit_attributes
    from ..pipeline.heads import StoredHead, save_head
    from ..pipeline.prompts import resolve_prompts
    from ..pipeline.texts import EncoderLoader, text_embeddings
    from .output import count, printable

    try:
        prompts = resolve_prompts([options["prompt"]])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--prompt") from error
    features = FeatureCache(cache)
    classes = load_lexicon(options["lexicon"]) if options["lexicon"] else own_classes(features)
    chosen = select_test_set(features, classes, options["split"])
    load = EncoderLoader(options["device"])
    texts = text_embeddings(features, classes, prompts, words="none", load=load)
    retriever = FeatureCache(options["retriever"]) if options["retriever"] else None
    lexicons = [load_lexicon(name) for name in options["attributes"]]
    stored, _ = attributes_of(features, lexicons, retriever=retriever, top=options["top"], load=load)
    settings = FitSettings(
        epochs=options["epochs"],
        batch_size=options["batch_size"],
        learning_rate=options["learning_rate"],
        loss=options["loss"],
        seed=options["seed"],
    )
    fitted = fit_attributes(
        stored.sentence[chosen.rows],
        chosen.labels,
        texts.sentence,
        settings,
        device=choose_device(options["device"]),
    )
    save_head(
        output,
        StoredHead(
            head,
            fitted.head,
            features.identity.encoder_digest,
            classes.labels,
            {**vars(settings), "attributes": dict(stored.settings), "prompts": list(prompts)},
        ),
    )
    best = fitted.epochs[fitted.best_epoch - 1]
    held = "" if best.held_out_top1 is None else f", {best.held_out_top1:.1f} % of the held-out videos right"
    click.echo(
        f"{printable(output)}: {head} head, {count(len(chosen.rows), 'video')} of {len(set(chosen.labels.tolist()))} "
        f"classes; epoch {best.number} of {len(fitted.epochs)} kept, loss {best.loss:.3f}{held}."
    )
    click.echo(f"Next: vidclip eval --head {printable(output)}")
