"""The options of scores that nothing is trained for, and the settings that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..pipeline.choices import (
    FUSION_FORMS,
    MULTI_LABEL,
    POOLS,
    PROTOCOLS,
    QUERIES,
    TRAINING_PROTOCOLS,
    VIDEO_PROMPTS,
    VIEW_AVERAGES,
    WORDS,
)
from .conditions import Condition, with_option
from .parameters import Decorator, FiniteRange, option, options

if TYPE_CHECKING:
    from ..pipeline.evaluation import ScoringSettings

ZERO_SHOT = (*PROTOCOLS, MULTI_LABEL)
"""Protocols that train nothing."""
SCORES = with_option("--protocol", *ZERO_SHOT)
SPOTS = with_option("--pool", "vcs")


def prompts_option(needs: Condition | None) -> Decorator:
    return option(
        "--prompt", "prompts", multiple=True, default=("bike",), show_default=True, needs=needs,
        help="Sentence with {} for the class name, or bike, text4vis, clip-kinetics, x-clip, none; several are averaged.",
    )  # fmt: skip


def prompt_option() -> Decorator:
    return option(
        "--prompt", default="This is a video about {}", show_default=True,
        help="Sentence with {} for the class name or phrase.",
    )  # fmt: skip


def words_option(needs: Condition | None) -> Decorator:
    return option(
        "--words", type=click.Choice(WORDS), default="name", show_default=True, needs=needs,
        help="Which tokens are words; released BIKE takes all 77.",
    )  # fmt: skip


def queries_options(saliency: Condition, recognition: Condition) -> Decorator:
    """`saliency`, `recognition`: when each of the two options has a part."""
    return options(
        option(
            "--saliency", type=click.Choice(QUERIES), default="words", show_default=True, needs=saliency,
            help="The query of the softmax over frames.",
        ),
        option(
            "--recognition", type=click.Choice(QUERIES), default="sentence", show_default=True, needs=recognition,
            help="What the weighted video is compared with.",
        ),
    )  # fmt: skip


def temperature_option(needs: Condition | None) -> Decorator:
    # The bounds are far beyond what makes a difference, and nothing overflows.
    return option(
        "--temperature", type=FiniteRange(1e-6, 1e6), default=0.01, show_default=True, needs=needs,
        help="Temperature of the softmax over frames.",
    )  # fmt: skip


def renormalize_option(needs: Condition) -> Decorator:
    return option(
        "--renormalize/--no-renormalize", default=True, show_default=True, needs=needs,
        help="The paper's cosine, or the released code's product.",
    )  # fmt: skip


def view_average_option(needs: Condition | None) -> Decorator:
    return option(
        "--view-average", type=click.Choice(VIEW_AVERAGES), needs=needs,
        help="Of several views: the mean of softmaxes of cosines / temperature (BIKE, X-CLIP), of the cosines "
        "themselves (released BIKE), or the cosine of mean features (Text4Vis).  [default: features for the pool mean, "
        "a head's own, else probabilities]",
    )  # fmt: skip


def top_option(needs: Condition | None) -> Decorator:
    return option(
        "--top", type=click.IntRange(1), default=5, show_default=True, needs=needs, help="Attributes of a video."
    )  # fmt: skip


def attributes_prompt_option(needs: Condition | None, *more: str) -> Decorator:
    """`more`: other spellings."""
    return option(
        "--attributes-prompt", *more, default="bike", show_default=True, needs=needs,
        help="Around the attributes sentence: a text with {}, bike, or none.",
    )  # fmt: skip


def retriever_option(needs: Condition) -> Decorator:
    return option(
        "--retriever", type=click.Path(path_type=Path, file_okay=False), needs=needs,
        help="The cache whose features retrieve attributes (in the paper ViT-L/14); --cache reads their sentence.",
    )  # fmt: skip


def heads_option(needs: Condition | None, help: str) -> Decorator:
    return option(
        "--head", "heads", multiple=True, type=click.Path(path_type=Path, dir_okay=False), needs=needs, help=help
    )  # fmt: skip


_ATTRIBUTES = with_option("--attributes")
_FUSES = _ATTRIBUTES | with_option("--head")


def scoring_options(*, trains: bool, spots: Condition = SPOTS, scored: Condition | None = None) -> Decorator:
    """Return those of `scoring_settings`, with `--head` and `--retriever`.

    trains    whether the command has `--protocol`, and trains heads with some: what scores without training has then
              a part in the other protocols alone
    spots     the calls in which the saliency of frames is computed
    scored    the calls in which videos are scored; None: all
    """
    scores = SCORES if trains else scored
    learns = with_option("--protocol", *TRAINING_PROTOCOLS)
    prompted = scored | spots if scored else None
    averages = with_option("--pool", "mean", "vcs") | with_option("--head")
    return options(
        prompts_option(SCORES | with_option("--classifier", "text") | SPOTS if trains else prompted),
        option(
            "--pool", "pools", multiple=True, type=click.Choice(POOLS), default=("mean",), show_default=True, needs=scored,
            help="How frames make a score: mean embedding, best frame, mean of softmaxes, concept spotting; as the "
            "released codes score their halves. Several make one table.",
        ),
        option(
            "--attributes", multiple=True, needs=scores,
            help="Adds the scores of attributes from a lexicon or a .json file of BIKE's, and fusions.",
        ),
        heads_option(scores, "A head that `vidclip fit` trained: adds its scores."),
        option(
            "--video-prompts", multiple=True, type=click.Choice(VIDEO_PROMPTS), default=("on",), show_default=True,
            needs=with_option("--head"),
            help="Of X-CLIP's heads: class embeddings that look at the video's patch tokens, or its integration "
            "transformer alone, which needs none. Both make two rows.",
        ),
        top_option(_ATTRIBUTES),
        option(
            "--fusion", type=FiniteRange(0, 1), needs=_FUSES,
            help="Weight of the video in fusions.  [default: 0.6; 0.8 for ViT-L and larger]",
        ),
        option(
            "--fusion-form", type=click.Choice(FUSION_FORMS), default="paper", show_default=True, needs=_FUSES,
            help="What is fused: softmaxes of cosines / temperature, or of the cosines themselves.",
        ),
        attributes_prompt_option(_ATTRIBUTES),
        retriever_option(_ATTRIBUTES),
        words_option(spots),
        queries_options(*(SCORES & each if trains else each for each in (spots, SPOTS))),
        temperature_option(spots),
        renormalize_option(SPOTS),
        view_average_option(averages | learns if trains else averages),
    )  # fmt: skip


def scoring_settings(
    *,
    prompts: tuple[str, ...],
    pools: tuple[str, ...],
    words: str,
    view_average: str | None,
    video_prompts: tuple[str, ...],
    attributes: tuple[str, ...],
    top: int,
    attributes_prompt: str,
    fusion: float | None,
    fusion_form: str,
    **options: Any,
) -> ScoringSettings:
    """Return the settings that options make; `options` may have others too."""
    from ..pipeline.evaluation import ScoringSettings
    from ..pipeline.scoring import AttributeSettings, ConceptSpottingConfig

    return ScoringSettings(
        prompts,
        pools,
        words,
        ConceptSpottingConfig(
            **{name: options[name] for name in ("saliency", "recognition", "temperature", "renormalize")}
        ),
        view_average,
        video_prompts,
        attributes,
        AttributeSettings(top, prompt=attributes_prompt),
        fusion,
        fusion_form,
    )
