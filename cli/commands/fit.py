"""`vidclip fit`: light heads, trained on the cache."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import HEAD_POOLS, MULTI_LABEL_LOSS
from ..conditions import with_option
from ..head_options import SEED, Shots, head_configs, head_options, texts_for_heads, train_settings
from ..language_options import GROUP, language_options, language_settings
from ..messages import say
from ..options import (
    cache_option,
    device_option,
    encoder_loader,
    lexicon_option,
    model_options,
    open_cache,
    prompt_of,
    prompts_of,
    vidclip_command,
)
from ..parameters import PICTURES, FiniteRange, OutputFile, option
from ..released import AsReleased, as_released_option
from ..scoring_options import (
    attributes_prompt_option,
    prompt_option,
    renormalize_option,
    retriever_option,
    temperature_option,
    top_option,
    view_average_option,
    words_option,
)

if TYPE_CHECKING:
    from ...cache import FeatureCache
    from ...lexicons import Lexicon
    from ...pipeline.encoders import EncoderLoader
    from ...pipeline.evaluation import LabeledVideos
    from ...pipeline.heads import Epoch, Fitted, StoredHead


_VIDEO = with_option("--head", "video")
_SPOTS = _VIDEO & with_option("--pool", "vcs")
_ATTRIBUTES = with_option("--head", "attributes")


@vidclip_command(
    epilog="Example:  vidclip fit --classifier text --temporal transformer --output head.safetensors --plot loss.png",
    groups={
        "Training": "--loss --epochs --batch-size --learning-rate --weight-decay --train-split --test-share --shots "
        "--held-out --seed",
        "Concept spotting (--pool vcs)": "--words --temperature --renormalize",
        "Second language (--second-text)": GROUP,
        "Attributes (--head attributes)": "--attributes --attributes-prompt --top --retriever",
        "Encoder and output": "--model --pretrained --device --output --plot --debug",
    },
)
@cache_option
@option(
    "--head", type=click.Choice(["video", "attributes"]), default="video", show_default=True,
    help="video: a temporal module and a classifier over frame embeddings. attributes: two small MLPs on the "
    "frozen text embeddings of BIKE's attributes branch.",
)  # fmt: skip
@lexicon_option
@prompt_option()
@option(
    "--pool", type=click.Choice(HEAD_POOLS), default="mean", show_default=True,
    needs=_VIDEO,
    help="What makes one score of the frames: their mean, or concept spotting.",
)  # fmt: skip
@temperature_option(_SPOTS)
@words_option(_SPOTS)
@renormalize_option(_SPOTS)
@view_average_option(_VIDEO)
@language_options(reads=_VIDEO, trains=None, zero_shot=None, controls=False)
@as_released_option
@head_options(several=False, design=_VIDEO, training=None)
@option(
    "--shots", type=Shots(1), needs=_VIDEO, help="Learn from so many videos of every class.  [default: all]"
)
@option(
    "--held-out", type=FiniteRange(0, 1, max_open=True),
    help="Share of the training videos that chooses the epoch.  [default: 0.1; 0 with --shots]",
)  # fmt: skip
@option(
    "--attributes", multiple=True, default=("kinetics400",), show_default=True,
    needs=_ATTRIBUTES,
    help="attributes: lexicon they come from, or a .json file that names them (see `vidclip attributes --from`).",
)  # fmt: skip
@attributes_prompt_option(_ATTRIBUTES)
@top_option(_ATTRIBUTES)
@retriever_option(_ATTRIBUTES)
@option("--seed", type=SEED, default=0, show_default=True)
@option(
    "--output", type=OutputFile(), default=Path("head.safetensors"),
    show_default=True, help="Where the head is written.",
)  # fmt: skip
@option("--plot", type=OutputFile(suffixes=PICTURES), help="A picture of the loss: .png, .svg or .pdf.")
@model_options
@device_option
def command(
    cache: Path, output: Path, plot: Path | None, head: str, as_released: AsReleased, **options: Any
) -> None:
    """Trains a head on the features of the cache, in seconds to minutes; no video is opened.

    `vidclip eval --head FILE` tests it, `vidclip predict VIDEO --head FILE` uses it. The same seed makes the same
    file.
    """
    import numpy as np

    from ...cache import FeatureCache
    from ...pipeline.devices import choose_device
    from ...pipeline.encoders import text_embeddings
    from ...pipeline.evaluation import (
        draw_shots,
        find_languages,
        sides_to_fit,
        train_head,
        video_fingerprints,
    )
    from ...pipeline.heads import StoredHead, fit_attributes, save_head
    from ...pipeline.scoring import AttributeSettings, check_attributes, find_attributes, sentences_by_row
    from ..messages import note
    from ..output import count, printable, progress_bar, save_picture

    prompts = prompts_of(options["prompt"])
    attributes_prompt = prompt_of("--attributes-prompt", options["attributes_prompt"])
    features, lexicon = open_cache(cache, options["lexicon"])
    options["temporal_heads"] = as_released.temporal_heads(features)
    shots, seed, device = options["shots"], options["seed"], choose_device(options["device"])
    several = options["loss"] == MULTI_LABEL_LOSS
    if several and (shots or head == "attributes"):
        raise click.UsageError(
            f"--loss {MULTI_LABEL_LOSS} goes with video heads and all training videos: --shots draws so many of every class, "
            "and a video with several labels is of several."
            if shots
            else f"--loss {MULTI_LABEL_LOSS} goes with --head video."
        )
    train, test, drawn, notes = sides_to_fit(
        features, lexicon, options["train_split"], options["test_share"], seed=seed, multi_label=several
    )
    for message in notes:
        note(message)
    load = encoder_loader()
    defaults: dict[str, Any] = {"epochs": 10, "held_out": 0.0} if shots else {}
    defaults |= {"loss": "released"} if head == "attributes" else {}
    settings = train_settings(defaults, **options)
    second = language_settings(lexicon, **options)
    kept: dict[str, Any]
    with progress_bar("training") as advance:

        def show(epoch: Epoch) -> None:
            what = "mAP " if several else ""
            held = "" if epoch.held_out_top1 is None else f", held out {what}{epoch.held_out_top1:.1f} %"
            advance(epoch.number, settings.epochs, f"loss {epoch.loss:.3f}{held}")

        if head == "video":
            (config,) = head_configs(
                [options["classifier"]], [options["temporal"]], [options["pool"]], **options
            )
            folder = options["text_encoder"]
            classes = texts_for_heads(
                features, lexicon, [config], prompts=prompts, text_encoder=folder, load=load
            )
            found = None
            if second is not None:
                found = find_languages(features, lexicon, second, prompts=prompts, trains=True, load=load)
                *_, config = found.configs(config)
                classes = replace(classes, seconds={each.name: each for each in found.seconds})
            fitted: Fitted[Any] = train_head(
                features, train, classes, config, settings, shots=shots, device=device, on_epoch=show
            )
            name, kept = fitted.head.config.name, {"text_encoder": folder.name if folder else ""}
            kept |= {"second": dict(found.seconds[0].source)} if found else {}
        else:
            found = find_attributes(
                features,
                options["attributes"],
                AttributeSettings(options["top"], prompt=attributes_prompt),
                retriever=FeatureCache(options["retriever"]) if options["retriever"] else None,
                load=load,
            )
            load.note(found.without_note(features))
            sentences = sentences_by_row(found.stored, features)
            check_attributes(sentences, train.indices)
            texts = text_embeddings(features, lexicon, prompts, words="none", load=load)
            own = sentences[train.indices]
            fitted = fit_attributes(
                own, train.targets, texts.sentence, settings, device=device, on_epoch=show
            )
            name, kept = "attributes", {"attributes": dict(found.stored.settings)}
    trained = (
        train.indices[draw_shots(train.targets, lexicon.labels, shots, seed)] if shots else train.indices
    )
    n_train = len(trained)
    if drawn["test_share"] is not None:  # `eval --head` then tests the same videos as this
        trained = train.indices
    kept |= {
        **vars(settings),
        **drawn,
        "n_train": n_train,
        "prompts": list(prompts),
        "train_split": train.split,
        "as_released": as_released.to_dict(),
    }
    fingerprints = np.unique(video_fingerprints(features, trained), axis=0)
    stored = StoredHead(fitted.head, features.identity, lexicon.labels, kept, fitted.context, fingerprints)
    save_head(output, stored)
    best = fitted.epochs[fitted.best_epoch - 1]
    held = "" if best.held_out_top1 is None else f", {best.held_out_top1:.1f} % of the held-out videos right"
    if several and held:
        held = f", mean average precision {best.held_out_top1:.1f} % on the held-out videos"
    n_classes = int(train.targets.any(axis=0).sum()) if several else len(set(train.targets.tolist()))
    say(
        f"{printable(output)}: {name} head, {count(n_train, 'video')} of {n_classes} "
        f"classes; epoch {best.number} of {len(fitted.epochs)} kept, loss {best.loss:.3f}{held}."
    )
    as_released.echo()
    if plot:
        from ...pipeline.report import loss_curve

        save_picture(loss_curve(fitted.epochs, fitted.best_epoch, f"{name} head"), plot)
        say(f"{printable(plot)}: the loss of each epoch.")
    if test is not None and head == "video":
        _test(features, lexicon, stored, test, load)
    protocol = " --protocol multi-label" if several else ""
    say(f"Next: vidclip eval --head {printable(shlex.quote(str(output)))}{protocol}")


def _test(
    cache: FeatureCache, lexicon: Lexicon, stored: StoredHead, test: LabeledVideos, load: EncoderLoader
) -> None:
    """Print how the head does on the test videos, beside the mean frame embedding without training."""
    from ...pipeline.encoders import EncoderError, text_embeddings
    from ...pipeline.evaluation import evaluate, evaluate_multi_label
    from ...pipeline.heads import VideoHead, scorer_of_head
    from ...pipeline.scoring import MeanScorer, Scorer
    from ..output import count, printable, warn
    from ..tables import figures_table

    head = stored.module
    assert isinstance(head, VideoHead)
    scorers: list[Scorer] = [scorer_of_head(head, cache, temperature=stored.temperature)]
    try:
        texts = text_embeddings(cache, lexicon, stored.prompts, words="none", load=load)
        scorers.insert(0, MeanScorer(texts.sentence, "mean, untrained"))
    except EncoderError as error:  # a head that reads no names is trained without the encoder
        warn(f"there is no zero-shot row to compare with: {error}")
    if head.multi_label is not None:
        results = evaluate_multi_label(cache, test, scorers)
    else:
        results = evaluate(cache, test, scorers, "full-classes", len(lexicon))
    figures_table(f"{count(len(test), 'video')} of split {printable(test.split)}", results)
