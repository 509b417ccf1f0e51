"""`vidclip fit`: light heads, trained on the cache."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..conditions import with_option
from ..options import (
    TEMPERATURE,
    cache_option,
    device_option,
    encoder_loader,
    lexicon_option,
    model_options,
    prompts_of,
    vidclip_command,
)
from ..parameters import FiniteRange, OutputFile, option
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
    import numpy as np

    from ...cache import FeatureCache
    from ...lexicons import Lexicon
    from ...pipeline.encoders import EncoderLoader
    from ...pipeline.evaluation import LabeledVideos
    from ...pipeline.heads import Epoch, Fitted, VideoHead


_VIDEO = with_option("--head", "video")
_ATTRIBUTES = with_option("--head", "attributes")


@vidclip_command(
    epilog="Example:  vidclip fit --classifier text --temporal transformer --output head.safetensors --plot loss.png",
    short_help="Train a light head on the cache.",
)
@cache_option
@option(
    "--head", type=click.Choice(["video", "attributes"]), default="video", show_default=True,
    help="video: a temporal module and a classifier over frame embeddings. attributes: two small MLPs on the "
    "frozen text embeddings of BIKE's attributes branch.",
)  # fmt: skip
@lexicon_option
@option("--prompt", default="This is a video about {}", show_default=True, help="Around class names.")
@option(
    "--pool", type=click.Choice(["mean", "vcs"]), default="mean", show_default=True,
    needs=_VIDEO,
    help="What makes one score of the frames: their mean, or concept spotting.",
)  # fmt: skip
@option(
    "--temperature", type=TEMPERATURE, default=0.01, show_default=True,
    needs=_VIDEO & with_option("--pool", "vcs"),
    help="vcs: of the softmax over frames.",
)  # fmt: skip
@words_option(_VIDEO & with_option("--pool", "vcs"))
@renormalize_option(_VIDEO & with_option("--pool", "vcs"))
@view_average_option(_VIDEO)
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
@option(
    "--top",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    needs=_ATTRIBUTES,
    help="attributes: how many of a video.",
)
@option(
    "--retriever", type=click.Path(path_type=Path, file_okay=False), needs=_ATTRIBUTES,
    help="attributes: the cache that retrieves them.",
)  # fmt: skip
@option("--seed", type=SEED, default=0, show_default=True)
@option(
    "--output", type=OutputFile(), default=Path("head.safetensors"),
    show_default=True, help="Where the head is written.",
)  # fmt: skip
@option("--plot", type=OutputFile(suffixes=(".png", ".svg")), help="A picture of the loss: .png or .svg.")
@model_options
@device_option
def command(cache: Path, output: Path, plot: Path | None, head: str, **options: Any) -> None:
    """Trains a head on the features of the cache, in seconds to minutes; no video is opened.

    `vidclip eval --head FILE` tests it, `vidclip predict VIDEO --head FILE` uses it. The same seed makes the same
    file.
    """
    from ...cache import FeatureCache
    from ...lexicons import load_lexicon
    from ...pipeline.evaluation import lexicon_from_labels
    from ...pipeline.heads import StoredHead, save_head
    from ..output import count, printable, warn

    apply_released(options)
    options["prompts"] = prompts_of(options["prompt"])
    resolve_attributes_prompt(options)
    features = FeatureCache(cache)
    apply_released_heads(options, features)
    classes = load_lexicon(options["lexicon"]) if options["lexicon"] else lexicon_from_labels(features)
    chosen, test, drawn = _sides(features, classes, options)
    load = encoder_loader(options)
    train = _train_attributes if head == "attributes" else _train_video
    fitted, name, settings = train(features, classes, chosen, options, load)
    save_head(
        output,
        StoredHead(
            fitted.head,
            features.identity,
            classes.labels,
            {
                **settings,
                **drawn,
                "prompts": list(options["prompts"]),
                "train_split": chosen.split,
                "as_released": options["as_released"],
            },
            fitted.context,
            _trained_on(features, classes, chosen, options, whole=drawn["test_share"] is not None),
        ),
    )
    best = fitted.epochs[fitted.best_epoch - 1]
    held = "" if best.held_out_top1 is None else f", {best.held_out_top1:.1f} % of the held-out videos right"
    n_videos = settings["n_train"]
    click.echo(
        f"{printable(output)}: {name} head, {count(n_videos, 'video')} of {len(set(chosen.labels.tolist()))} "
        f"classes; epoch {best.number} of {len(fitted.epochs)} kept, loss {best.loss:.3f}{held}."
    )
    if options["as_released"]:
        click.echo(released_line(options["as_released"]))
    if plot:
        from ...pipeline.report import loss_curve, save_figure

        boxes = save_figure(loss_curve(fitted.epochs, fitted.best_epoch, f"{name} head"), plot)
        if boxes:
            warn(f"no font here has {boxes}: {plot} shows boxes.")
        click.echo(f"{printable(plot)}: the loss of each epoch.")
    if test is not None and head == "video":
        _test(features, classes, fitted.head, settings["temperature"], test, options, load)
    click.echo(f"Next: vidclip eval --head {printable(shlex.quote(str(output)))}")


def _train_video(
    features: FeatureCache,
    classes: Lexicon,
    chosen: LabeledVideos,
    options: dict[str, Any],
    load: EncoderLoader,
) -> tuple[Fitted, str, dict[str, Any]]:
    from ...pipeline.devices import choose_device
    from ...pipeline.evaluation import draw_shots
    from ...pipeline.heads import epoch_size, fit_head
    from ..output import progress_bar
    from ..training import check_finite, class_texts, fit_settings, head_configs

    (design,) = head_configs(options, (options["pool"],))
    shots = options["shots"]
    settings = fit_settings(options, **({"epochs": 10, "held_out": 0.0} if shots else {}))
    rows = draw_shots(chosen.labels, classes.labels, shots, settings.seed)
    frames = features.frames(chosen.indices[rows])
    check_finite(features, chosen.indices[rows], frames)
    knowledge = class_texts(features, classes, [design], options, load)
    with progress_bar("training") as advance:
        fitted = fit_head(
            frames,
            chosen.labels[rows],
            knowledge,
            design,
            settings,
            epoch_size=epoch_size(chosen.labels, features.shape[1], settings.held_out),
            device=choose_device(options["device"]),
            on_epoch=lambda epoch: advance(epoch.number, settings.epochs, progress_text(epoch)),
        )
    folder = options["text_encoder"]
    stored = {**vars(settings), "text_encoder": folder.name if folder else "", "n_train": len(rows)}
    return fitted, design.name, stored


def _train_attributes(
    features: FeatureCache,
    classes: Lexicon,
    chosen: LabeledVideos,
    options: dict[str, Any],
    load: EncoderLoader,
) -> tuple[Fitted, str, dict[str, Any]]:
    from ...pipeline.devices import choose_device
    from ...pipeline.encoders import text_embeddings
    from ...pipeline.heads import fit_attributes
    from ...pipeline.scoring import check_attributes, sentences_by_row
    from ..attribute_sources import stored_attributes
    from ..output import progress_bar
    from ..training import fit_settings

    texts = text_embeddings(features, classes, options["prompts"], words="none", load=load)
    stored = stored_attributes(features, options, load)
    sentences = sentences_by_row(stored, features)
    check_attributes(sentences, chosen.indices)
    settings = fit_settings(options, loss="released")
    with progress_bar("training") as advance:
        fitted = fit_attributes(
            sentences[chosen.indices],
            chosen.labels,
            texts.sentence,
            settings,
            device=choose_device(options["device"]),
            on_epoch=lambda epoch: advance(epoch.number, settings.epochs, progress_text(epoch)),
        )
    kept = {**vars(settings), "attributes": dict(stored.settings), "n_train": len(chosen.indices)}
    return fitted, "attributes", kept


def progress_text(epoch: Epoch) -> str:
    held = "" if epoch.held_out_top1 is None else f", held out {epoch.held_out_top1:.1f} %"
    return f"loss {epoch.loss:.3f}{held}"


def _sides(
    features: FeatureCache, classes: Lexicon, options: dict[str, Any]
) -> tuple[LabeledVideos, LabeledVideos | None, dict[str, Any]]:
    """(videos to train on, videos to test where there are any, how they were drawn): looked up before the training."""
    from ...pipeline.evaluation import (
        EvaluationError,
        check_disjoint,
        drawn_split,
        draws_test_set,
        training_set,
    )
    from ..messages import note

    train_split, share = options["train_split"], options["test_share"]
    if draws_test_set(features, share, train_split):
        try:
            sides = drawn_split(features, classes, train_split, share, seed=options["seed"])
        except EvaluationError as error:
            if share is not None:
                raise
            note(f"{error} The head is not tested.")
        else:
            for told in [*sides.test.notes, *check_disjoint(features, sides.train, sides.test)]:
                note(told)
            return sides.train, sides.test, sides.settings
    chosen = training_set(features, classes, train_split)
    for told in chosen.notes:
        note(told)
    return chosen, _test_set(features, classes, chosen), {"test_share": None, "split_seed": None}


def _trained_on(
    features: FeatureCache, classes: Lexicon, chosen: LabeledVideos, options: dict[str, Any], *, whole: bool
) -> np.ndarray:
    """What the head remembers of its training videos: with `--shots`, of those drawn; `whole`: of all that were not
    kept for testing, so that `eval --head` tests the same videos as `fit`."""
    import numpy as np

    from ...pipeline.evaluation import draw_shots, video_fingerprints

    indices = chosen.indices
    if options["shots"] and not whole:
        indices = indices[draw_shots(chosen.labels, classes.labels, options["shots"], options["seed"])]
    return np.unique(video_fingerprints(features, indices), axis=0)


def _test_set(features: FeatureCache, classes: Lexicon, trained_on: LabeledVideos) -> LabeledVideos | None:
    """The test split, where there is one, its labels are known, and none of its videos is trained on."""
    from ...pipeline.evaluation import (
        EvaluationError,
        check_disjoint,
        default_split,
        select_test_set,
        split_names,
    )
    from ..messages import note, warn

    split = default_split(features)
    if not split or split not in split_names(features, labeled=True):
        return None
    try:
        test = select_test_set(features, classes, split)
        for told in check_disjoint(features, trained_on, test):
            note(told)
    except EvaluationError as error:
        warn(f"the head will not be tested on the split {split}: {error}")
        return None
    return test


def _test(
    features: FeatureCache,
    classes: Lexicon,
    head: VideoHead,
    temperature: float,
    test: LabeledVideos,
    options: dict[str, Any],
    load: EncoderLoader,
) -> None:
    """The head on the test split, beside the mean frame embedding without training."""
    from ...pipeline.encoders import EncoderError, text_embeddings
    from ...pipeline.evaluation import METRICS, evaluate
    from ...pipeline.heads import HeadScorer
    from ...pipeline.scoring import MeanScorer, Scorer
    from ..output import console, count, printable, table, warn

    scorers: list[Scorer] = [HeadScorer(head, temperature=temperature, name=head.config.name)]
    try:
        texts = text_embeddings(features, classes, options["prompts"], words="none", load=load)
        scorers.insert(0, MeanScorer(texts.sentence, "mean, untrained"))
    except EncoderError as error:  # a head that reads no names is trained without the encoder
        warn(f"there is no zero-shot row to compare with: {error}")
    results = evaluate(features, test, scorers, "full-classes", len(classes))
    rows = [[result.scorer, *(str(result.figures[field]) for field in METRICS)] for result in results]
    title = f"{count(len(test.indices), 'video')} of split {printable(test.split)}"
    console().print(table(title, ["", *(f"{name} %" for name in METRICS.values())], rows))
