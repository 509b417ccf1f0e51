"""The options of heads, of `fit` and `eval`, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..pipeline.choices import (
    CLASSIFIERS,
    HEAD_POOLS,
    LOSSES,
    MULTI_LABEL_LOSS,
    TEMPORAL,
    TEMPORAL_STARTS,
)
from .conditions import Condition, with_option, without_option
from .parameters import Decorator, FiniteRange, option, options

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.heads import ClassTexts, HeadConfig, TrainSettings

SEED = click.IntRange(0, 2**32 - 1)
"""What numpy, torch and scikit-learn all take."""


class Shots(click.ParamType):
    """A number of videos of every class, or `all`."""

    name = "K|all"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or value == "all":
            return None
        if isinstance(value, bool) or not str(value).isdecimal():
            self.fail(f"{value!r} is not a number of videos, nor `all`", param, ctx)
        if len(str(value)) > 9:  # and int() refuses thousands of digits
            self.fail("so many videos of a class there are not", param, ctx)
        if int(value) < self._least:
            self.fail(f"there must be at least {self._least}", param, ctx)
        return int(value)


def head_options(*, several: bool, design: Condition, training: Condition | None) -> Decorator:
    """Return the options of the design of a head, and of how it is trained.

    several     one head for each combination
    design      when the options of its design have a part
    training    when those of its training have one; None: always
    """
    many: dict[str, Any] = {"multiple": True} if several else {}
    return options(
        option(
            "--classifier", "classifiers" if several else "classifier", type=click.Choice(CLASSIFIERS),
            default=("text",) if several else "text", show_default=True,
            help="Frozen (Text4Vis), but for linear, which is trained.",
            needs=design, **many,
        ),
        option(
            "--temporal", "temporals" if several else "temporal", type=click.Choice(TEMPORAL),
            default=("mean",) if several else "mean", show_default=True,
            help="Trained over the frames: nothing, a convolution (T1D), six layers of attention (T-Trans), "
            "X-CLIP's multi-frame integration.", needs=design, **many,
        ),
        option(
            "--temporal-start", type=click.Choice(TEMPORAL_STARTS), default=TEMPORAL_STARTS[0], show_default=True,
            needs=(training or design) & with_option("--temporal", "transformer", "mit"),
            help="How attention over the frames begins: adding nothing to them, or at random as released.",
        ),
        option(
            "--temporal-heads", type=click.IntRange(1, 1000),
            needs=design & with_option("--temporal", "transformer"),
            help="Attention heads of the transformer.  [default: dimensions / 64; released: text width / 64]",
        ),
        option(
            "--projection/--no-projection", default=None, needs=design,
            help="A trained linear map below the classifier.  [default: where nothing else is trained]",
        ),
        option(
            "--prompt-context", type=click.IntRange(0, 1000), default=0, show_default=True, metavar="M",
            needs=design & with_option("--classifier", "text"),
            help="Learnable words before the class name (CoOp; Text4Vis A.4).",
        ),
        option(
            "--text-encoder", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="FOLDER",
            needs=design & with_option("--classifier", "text"),
            help="A Hugging Face text encoder for the text classifier.",
        ),
        option(
            "--loss", type=click.Choice(LOSSES if several else (*LOSSES, MULTI_LABEL_LOSS)), needs=training,
            help="Or BIKE's contrastive loss, of the paper or as released"
            + (".  [default: cross-entropy]" if several else
               "; for videos with several labels binary-cross-entropy.  [default: cross-entropy]"),
        ),
        option(
            "--epochs", type=click.IntRange(1, 100_000), needs=training, help="[default: 30; few-shot 10]"
        ),
        option(
            "--batch-size", type=click.IntRange(1, 1_000_000), needs=training,
            help="[default: 16 to 256, by the number of videos]"
        ),
        option(
            "--learning-rate", type=FiniteRange(0, 1, min_open=True), default=1e-3, show_default=True,
            needs=training,
        ),
        option(
            "--weight-decay", type=FiniteRange(0, 100), default=0.2, show_default=True, needs=training
        ),
        option(
            "--train-split", needs=design if several else None,
            help="Training videos; all: every labeled one.  [default: train, or what --test-share leaves]",
        ),
        option(
            "--test-share", type=FiniteRange(0, 1, min_open=True, max_open=True),
            needs=design & without_option("--split") if several else None,
            help="Share of each class's training videos to test on, drawn with --seed.  [default: 0.2 where the "
            "cache has no splits]",
        ),
    )  # fmt: skip


def head_configs(
    classifiers: Sequence[str],
    temporals: Sequence[str],
    pools: Sequence[str],
    *,
    projection: bool | None,
    prompt_context: int,
    temperature: float,
    words: str,
    renormalize: bool,
    temporal_heads: int | None,
    view_average: str | None,
    **_: Any,
) -> list[HeadConfig]:
    """Return every combination of classifier, temporal module and pool, with the other options where they have a part."""
    from ..pipeline.heads import HeadConfig

    unfit = [pool for pool in pools if pool not in HEAD_POOLS]
    if unfit:
        raise click.UsageError(
            f"--pool {unfit[0]} cannot be trained; heads pool by {' or '.join(HEAD_POOLS)}."
        )
    try:
        return [
            HeadConfig(
                classifier,
                temporal,
                pool,
                projection,
                prompt_context if classifier == "text" else 0,
                temperature,
                words=words if pool == "vcs" else "name",
                renormalize=renormalize or pool != "vcs",
                heads=temporal_heads if temporal == "transformer" else None,
                view_average=view_average or "probabilities",
            )
            for classifier in dict.fromkeys(classifiers)
            for temporal in dict.fromkeys(temporals)
            for pool in dict.fromkeys(pools)
        ]
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def train_settings(defaults: dict[str, Any], **options: Any) -> TrainSettings:
    """Return how to train; options that are None stand at `defaults`, then at those of `TrainSettings`."""
    from ..pipeline.heads import TrainSettings

    names = (
        "loss", "epochs", "batch_size", "learning_rate", "weight_decay", "held_out", "seed", "temporal_start", "second_loss_weight"
    )  # fmt: skip
    given = {name: options[name] for name in names if options.get(name) is not None}
    try:
        return TrainSettings(**{**defaults, **given})
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def texts_for_heads(
    cache: FeatureCache, lexicon: Lexicon, configs: Sequence[HeadConfig], **sources: Any
) -> ClassTexts:
    """Call `class_texts`; its settings are called by their options where they do not go together."""
    from ..pipeline.heads import class_texts

    try:
        return class_texts(cache, lexicon, configs, **sources)
    except ValueError as error:
        message = str(error)
        for setting in ("text_encoder", "prompt_context", "pool "):
            message = message.replace(setting, f"--{setting.replace('_', '-')}")
        raise click.UsageError(f"{message}.") from error
