"""`vidclip finetune`: an encoder, trained on videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import (
    CLASSIFIERS,
    COSINES,
    DECAYS,
    FINETUNE_RECIPES,
    HEAD_POOLS,
    LOSSES,
    MODES,
    POSITIONS,
    PRECISIONS,
    TEMPORAL,
    TEMPORAL_STARTS,
    TOWER_STARTS,
    TOWERS,
    TRAINED,
    VIDEO_PROMPTS,
    WORDS,
)
from ..clip_options import CLIP_GROUP, PROBABILITY, clip_options
from ..conditions import with_option, without_option
from ..language_options import GROUP, language_options, language_settings
from ..number_types import Numbers, Temperature
from ..options import (
    decoding_options,
    device_option,
    encoder_options,
    prompts_of,
    reading_settings,
    vidclip_command,
)
from ..parameters import PICTURES, FiniteRange, OutputFile, option
from ..prompt_options import PROMPT_GROUP, prompt_options
from ..video_source import named_dataset, print_missing, read_source, source_argument, source_options

if TYPE_CHECKING:
    from ...pipeline.finetune import Recipe


_RATE = FiniteRange(0, 1, min_open=True)
_CONTRASTIVE = with_option("--loss", "paper", "released") | with_option(
    "--recipe", "bike", "temporal-prompts"
)
_ENCODER = with_option("--train", "visual", "visual+text", "text") | (
    without_option("--train") & with_option("--recipe", "text4vis", "bike", "x-clip")
)
_PROMPTS = with_option("--recipe", "temporal-prompts") | with_option("--tower", "temporal-prompts")
_UNIFORM = with_option("--mode", "uniform") | without_option("--mode")
_TEXT = with_option("--classifier", "text") | without_option("--classifier")
_ATTENTION = with_option("--temporal", "transformer", "mit") | (
    without_option("--temporal") & with_option("--recipe", "text4vis", "bike", "x-clip")
)
_SPOTTING = with_option("--pool", "vcs") | with_option("--recipe", "bike", "temporal-prompts")


@vidclip_command(
    epilog="Example:  vidclip finetune videos/ --lexicon ucf101 --model ViT-B-16 --recipe text4vis --output model",
    short_help="Train an encoder on videos.",
    groups={
        "Videos": "--root --dataset --split --annotations --segments --allow-missing --train-split --held-out --shots "
        "--seed",
        "What is trained (default: as the recipe has it)": "--train --tower --tower-start --frames --mode --position --prompt --prompt-draw --prompt-context --text-encoder "
        "--classifier --temporal --temporal-start --pool --video-prompts "
        "--words --renormalize --loss --gather --temperature --label-smoothing",
        "Temporal prompts (default: as the recipe has it)": PROMPT_GROUP,
        "Second language (--second-text)": GROUP,
        "How (default: as the recipe has it)": "--epochs --warm-up-epochs --batch-size --accumulate --learning-rate "
        "--backbone-rate --min-rate --cosine --betas --weight-decay --decay --clip-gradient --precision --checkpointing",
        "Clips (default: as the recipe has it)": CLIP_GROUP,
        "Reading": "--keep-pixels --workers --timeout --worker-memory --decoder",
    },
)
@source_argument
@option(
    "--output", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Folder for the model; where it holds an unfinished one of the same settings, that is continued.",
)  # fmt: skip
@option(
    "--recipe", "recipe_name", type=click.Choice(FINETUNE_RECIPES), default="text4vis", show_default=True,
    help="The settings of a paper; each can be given another value below.",
)  # fmt: skip
@encoder_options
@option(
    "--size", type=click.IntRange(1, 10_000), help="Side of the square the model sees.  [default: its own]"
)
@option(
    "--lexicon",
    help="Class names: a lexicon or a text file.  [default: those of --dataset, or the labels of the videos]",
)
@option(
    "--dry-run",
    is_flag=True,
    help="Print settings, parameter groups and steps, read one batch, and train nothing.",
)
@option(
    "--plot", type=OutputFile(suffixes=PICTURES), needs=without_option("--dry-run"),
    help="A picture of the loss: .png, .svg or .pdf.",
)  # fmt: skip
@option(
    "--self-contained", is_flag=True, needs=_PROMPTS,
    help="Write frozen towers too, which open_clip or this package has by their name.",
)  # fmt: skip
@source_options
@option(
    "--train-split",
    help="Videos to train on; all: every labeled one.  [default: train, where there are splits]",
)
@option(
    "--held-out", type=FiniteRange(0, 1, max_open=True),
    help="Share of each class's videos that chooses the epoch.  [default: 0.1; 0 with --shots]",
)  # fmt: skip
@option(
    "--shots", type=click.IntRange(1, 10**9),
    help="Train on so many videos of every class, repeated until an epoch has as many clips as without; 10 epochs and "
    "no temporal module (x-clip: 32 frames, lower rates; temporal-prompts: 30 epochs, batches of 64), if not told otherwise.",
)  # fmt: skip
@option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@option(
    "--train",
    type=click.Choice(TRAINED),
    help="Beside the head and what --tower puts inside: the visual tower, the text tower, both, or neither.",
)
@option(
    "--tower", type=click.Choice(TOWERS),
    help="Inside the visual tower, so that frames see each other: a trained convolution over time of the class tokens "
    "(Text4Vis' TokenT1D; of a ResNet's feature maps, T1D), its fixed shift, a shift of patch tokens or feature maps, X-CLIP's "
    "cross-frame attention, joint attention of all patches of a clip, or temporal prompts.",
)  # fmt: skip
@option(
    "--tower-start", type=click.Choice([start for starts in TOWER_STARTS.values() for start in starts]),
    needs=with_option("--tower", *TOWER_STARTS),
    help="Of token-t1d: a shift over time, or fixed, the identity. Of cross-frame: as released, or quiet, with messages "
    "of zero.",
)  # fmt: skip
@option("--frames", type=click.IntRange(1, 1000), help="Frames of a clip.")
@option(
    "--mode", type=click.Choice(MODES),
    help="One frame of each of T equal segments, or neighbors 128 // T frames apart, from a random one on.",
)  # fmt: skip
@option(
    "--position", type=click.Choice(POSITIONS), needs=_UNIFORM,
    help="Which frame of each segment where it is not drawn: of held-out videos, and of those that the head is used on.",
)  # fmt: skip
@prompt_options(_PROMPTS)
@option(
    "--prompt", "prompts", multiple=True, needs=without_option("--prompt-context") | _SPOTTING,
    help="Around class names: a text with {}, or the name of a set (bike, text4vis, x-clip, clip-kinetics, none). "
    "Several, and the option may be repeated, are averaged.",
)  # fmt: skip
@option(
    "--prompt-draw/--no-prompt-draw", default=None, needs=_TEXT,
    help="In each step one of several prompts, drawn at random (X-CLIP).",
)  # fmt: skip
@option(
    "--prompt-context", type=click.IntRange(0, 1000), metavar="M", needs=_TEXT,
    help="Learnable words before the class name (CoOp; Text4Vis A.4), through the frozen text tower.",
)  # fmt: skip
@option(
    "--text-encoder", type=click.Path(file_okay=False, exists=True), metavar="FOLDER", needs=_TEXT,
    help="A Hugging Face text encoder for the text classifier.",
)  # fmt: skip
@language_options(reads=_TEXT, trains=None, zero_shot=None, controls=False)
@option("--classifier", type=click.Choice(CLASSIFIERS), help="Frozen, but for linear, which is trained.")
@option("--temporal", type=click.Choice(TEMPORAL), help="Over the frame embeddings, as in `vidclip fit`.")
@option(
    "--temporal-start", type=click.Choice(TEMPORAL_STARTS), needs=_ATTENTION,
    help="How transformer and mit begin: adding nothing to the frames, or at random as released.",
)  # fmt: skip
@option("--pool", type=click.Choice(HEAD_POOLS), help="Mean of the frames, or concept spotting.")
@option(
    "--video-prompts", type=click.Choice(VIDEO_PROMPTS),
    help="Class embeddings that look at the video's patch tokens (X-CLIP), with cross-frame inside the tower and mit.",
)  # fmt: skip
@option(
    "--words",
    type=click.Choice(WORDS),
    needs=_SPOTTING,
    help="Which tokens are words; released BIKE takes all.",
)
@option(
    "--renormalize/--no-renormalize", default=None, needs=_SPOTTING,
    help="Concept spotting's cosine, or the released code's product.",
)  # fmt: skip
@option("--loss", type=click.Choice(LOSSES), help="Or BIKE's contrastive loss, of the paper or as released.")
@option(
    "--gather/--no-gather", default=None, needs=_CONTRASTIVE,
    help="A contrastive loss over the clips of all processes, or of each alone.",
)  # fmt: skip
@option(
    "--temperature",
    type=Temperature(),
    help="Temperature of the loss; trained: the encoder's, trained with it.",
)
@option(
    "--label-smoothing", type=FiniteRange(0, 1, max_open=True),
    help="Share of the target that is spread over all classes.",
)  # fmt: skip
@option("--epochs", type=click.IntRange(1, 100_000))
@option("--warm-up-epochs", type=FiniteRange(0, 100_000))
@option("--batch-size", type=click.IntRange(1, 1_000_000), help="Clips of a step, on all processes together.")
@option(
    "--accumulate", type=click.IntRange(1, 1_000_000),
    help="Micro-batches of a step, to save memory. A contrastive loss compares the clips of one.",
)  # fmt: skip
@option("--learning-rate", type=_RATE, help="Rate of the head.")
@option("--backbone-rate", type=_RATE, needs=_ENCODER, help="Rate of the encoder.")
@option("--min-rate", type=PROBABILITY, help="What the rates end at, as a share of each.")
@option(
    "--cosine", type=click.Choice(COSINES),
    help="The rates fall from the end of the warm-up, or as if there were none (released X-CLIP).",
)  # fmt: skip
@option("--betas", type=Numbers("B1,B2", float), help="Of AdamW.")
@option("--weight-decay", type=FiniteRange(0, 100))
@option(
    "--decay", type=click.Choice(DECAYS), help="Of all parameters, or all but biases, norms and positions."
)
@option("--clip-gradient", type=FiniteRange(0, 1e9), help="Largest norm of the gradient; 0: any.")
@option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Precision of the encoder's arithmetic; its weights are kept in fp32.",
)
@option(
    "--checkpointing/--no-checkpointing",
    default=None,
    needs=_ENCODER | _PROMPTS,
    help="Compute activations twice, to save memory.",
)
@clip_options
@option(
    "--keep-pixels", type=click.IntRange(0, 1000), metavar="M", needs=_UNIFORM,
    help="Keep M frames of each segment of a training video in memory, and draw later epochs from them.  [default: 0]",
)  # fmt: skip
@decoding_options
@device_option
@click.pass_context
def command(ctx: click.Context, output: Path, recipe_name: str, **options: Any) -> None:
    """Trains an encoder and a head on SOURCE, and writes a model folder: --model local-dir:OUTPUT of the other
    commands, with OUTPUT/head.safetensors for `eval --head` and `predict`.

    SOURCE is a folder (ROOT/LABEL/VIDEO gives labels), a CSV with the header path,label,split, or a .txt list of the
    BIKE, Text4Vis or X-CLIP repositories (with --lexicon). In its place, --dataset and --root read a public data set
    from its own split and label files; Charades by the intervals of its actions.

    The same command goes on where it was ended, after the last whole epoch. On several GPUs:

    \b
        torchrun --nproc_per_node 8 -m vidclip.cli finetune ...

    Exit status: 0 done; 1 done, but some videos could not be read; 2 could not.
    """
    from ...lexicons import load_lexicon
    from ...pipeline.encoders import load_open_clip
    from ...pipeline.finetune import Finetuning, few_shot_batch, join_world, training_videos
    from ..messages import note, warn
    from ..training_report import print_beginning, print_epoch, print_plan, print_result

    dataset = named_dataset(ctx)
    names = options["lexicon"] or (dataset.name if dataset else "")
    lexicon = load_lexicon(names) if names else None
    recipe = _recipe(recipe_name, {**options, "second": language_settings(lexicon, **options)})
    listed = read_source(ctx, lexicon, training=True)
    videos = training_videos(
        listed,
        lexicon,
        split=options["train_split"],
        shots=options["shots"],
        held_out=recipe.held_out,
        seed=recipe.seed,
    )
    if recipe.name == "temporal-prompts" and options["shots"] and options["batch_size"] is None:
        recipe = few_shot_batch(recipe, len(videos.train))
    reading = reading_settings(options)
    with join_world(options["device"]) as world:
        speaks = world.rank == 0
        encoder = load_open_clip(
            options["model"],
            options["pretrained"],
            device=str(world.device),
            precision="fp32",
            image_size=options["size"],
        )
        if speaks:
            print_missing(listed)
            for message in (*listed.notes, *videos.notes):
                note(message)
            for message in encoder.warnings:
                warn(message)
        training = Finetuning(
            videos,
            encoder,
            recipe,
            output,
            reading=reading,
            world=world,
            self_contained=options["self_contained"],
            on_note=note if speaks else None,
        )
        if options["dry_run"]:
            if speaks:
                print_plan(training)
            return
        if speaks:
            print_beginning(training)
        done = training.run(lambda report: print_epoch(report, recipe) if speaks else None)
    if speaks:
        print_result(training, done, output, options["plot"])
    ctx.exit(1 if done.unreadable else 0)


def _recipe(name: str, options: dict[str, Any]) -> Recipe:
    """The recipe with the values that were given."""
    from dataclasses import fields

    from ...pipeline.finetune import FEW_SHOT, Recipe, find_recipe

    few_shot = FEW_SHOT[name] if options["shots"] else {}
    names = {field.name for field in fields(Recipe)}
    given = {key: value for key, value in options.items() if key in names and value not in (None, ())}
    if "prompts" in given:
        given["prompts"] = prompts_of(*given["prompts"])
    if given.get("temperature") == "trained":
        given["temperature"] = None
    try:
        recipe = find_recipe(name, **{**few_shot, **given})
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    if "crop_form" in given and not recipe.crop:
        raise click.UsageError("--crop-form goes with --crop.")
    if "jitter_probability" in given and not any(recipe.jitter):
        raise click.UsageError("--jitter-probability goes with --jitter.")
    return recipe
