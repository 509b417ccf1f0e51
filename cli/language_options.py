"""The options of a second language of the class names, and the settings that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..pipeline.choices import LANGUAGE_CONTROLS, LANGUAGE_FUSIONS
from .conditions import Condition, with_option
from .options import prompts_of
from .parameters import Decorator, FiniteRange, option, options

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.evaluation import LabeledVideos, LanguageSettings

GROUP = (
    "--second-text --second-pretrained --second-lexicon --second-prompt --second-words --fusion-weight --fuse "
    "--validation-split --control --control-prompt --paraphrases --second-loss-weight"
)
"""Of the help of a command."""


class FusionWeight(click.ParamType):
    """A number in 0..1, or `auto`."""

    name = "weight"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        return value if value == "auto" else FiniteRange(0, 1).convert(value, param, ctx)


def language_options(
    *, reads: Condition | None, trains: Condition | None, zero_shot: Condition | None, controls: bool
) -> Decorator:
    """Return the options of a second language.

    reads        when it has a part at all; None: always
    trains       when heads are trained
    zero_shot    when scores are made without training; None: never
    controls     whether the command makes rows of controls
    """
    second = with_option("--second-text") if reads is None else with_option("--second-text") & reads
    made = [
        option(
            "--second-text", metavar="FOLDER|MODEL|same", needs=reads,
            help="The text tower of a second language of the class names: a Hugging Face folder (Chinese-CLIP, Taiyi, AltCLIP), "
            "an open_clip model, demo-zh, or same, the encoder's own.",
        ),
        option(
            "--second-pretrained", default="", needs=second, metavar="WEIGHTS",
            help="Of --second-text, where it is an open_clip model that does not bring its own.",
        ),
        option(
            "--second-lexicon", needs=second,
            help="The class names in it, with the labels of --lexicon.  [default: the name of the lexicon and -zh]",
        ),
        option(
            "--second-prompt", "second_prompts", multiple=True, default=("{}",), show_default=True, needs=second,
            help="Sentence with {} for its class name; several are averaged.",
        ),
        option(
            "--second-words/--no-second-words", default=False, needs=second & with_option("--pool", "vcs"),
            help="Concept spotting: its own words weigh the frames for its score.  [default: those of the first language]",
        ),
        option(
            "--fusion-weight", type=FusionWeight(), metavar="WEIGHT|auto", default="0.5", show_default=True, needs=second,
            help="Weight of the first language; auto: chosen on validation videos.",
        ),
        option(
            "--fuse", type=click.Choice(LANGUAGE_FUSIONS), default="scores", show_default=True, needs=second,
            help="What is fused: cosines, or their softmaxes at the temperature.",
        ),
    ]  # fmt: skip
    if zero_shot is not None:
        made.append(
            option(
                "--validation-split", needs=second & zero_shot & with_option("--fusion-weight", "auto"),
                help="Videos that the weight is chosen on.  [default: val or validation, where it is not tested]",
            )
        )  # fmt: skip
    if controls:
        made += [
            option(
                "--control", "controls", multiple=True, type=click.Choice(LANGUAGE_CONTROLS),
                default=("prompts", "permuted"), show_default=True, needs=second,
                help="In the place of the second language: other prompts of the first, its own rows permuted, the first "
                "language again, or a paraphrase.",
            ),
            option(
                "--control-prompt", "control_prompts", multiple=True, default=("clip-kinetics",), show_default=True,
                needs=second & with_option("--control", "prompts"), help="Those other prompts.",
            ),
            option(
                "--paraphrases", metavar="LEXICON", needs=second & with_option("--control", "paraphrase"),
                help="The class names in other words.",
            ),
        ]  # fmt: skip
    made.append(
        option(
            "--second-loss-weight", type=FiniteRange(0, 1000), default=1.0, show_default=True,
            needs=second if trains is None else second & trains, help="Of its loss, beside that of the first language.",
        )
    )  # fmt: skip
    return options(*made)


def language_settings(first: Lexicon | None, **options: Any) -> LanguageSettings | None:
    """Return the settings that options make; None without a second language.

    first    the lexicon of the first; None: the labels of the videos
    """
    if not options["second_text"]:
        return None
    from ..lexicons import load_lexicon
    from ..pipeline.evaluation import LanguageSettings

    by_default = f"{first.name}-zh" if first else ""
    if not by_default and not options["second_lexicon"]:
        raise click.UsageError("--second-text needs --lexicon, or --second-lexicon beside it.")
    paraphrases = options.get("paraphrases")
    try:
        return LanguageSettings(
            options["second_text"],
            load_lexicon(options["second_lexicon"] or by_default),
            options["second_pretrained"],
            prompts_of(*options["second_prompts"], option="--second-prompt"),
            options["second_words"],
            None if options["fusion_weight"] == "auto" else options["fusion_weight"],
            options["fuse"],
            options.get("controls", ()),
            prompts_of(*options.get("control_prompts", ()), option="--control-prompt"),
            load_lexicon(paraphrases) if paraphrases else None,
        )
    except ValueError as error:
        if options["second_lexicon"] or paraphrases or by_default not in str(error):
            raise click.UsageError(f"{error}.".replace("..", ".")) from error
        raise click.UsageError(
            f"There is no lexicon {by_default}: name the classes in the second language with --second-lexicon."
        ) from error


def validation_videos(
    cache: FeatureCache, lexicon: Lexicon, split: str | None, tested: str | None
) -> LabeledVideos | None:
    """Return the videos that a weight is chosen on, and that are not tested; None where the cache has none.

    tested    the split that is; None: the default one
    """
    from ..pipeline.evaluation import default_split, select_videos, split_names

    tested = default_split(cache) if tested is None else tested
    if split is None:
        names = split_names(cache, labeled=True)
        split = next((name for name in ("val", "validation") if name in names and name != tested), None)
    elif split == tested:
        raise click.UsageError(
            f"--validation-split {split} is tested: the weight would be chosen on the test videos."
        )
    return None if split is None else select_videos(cache, lexicon, split)
