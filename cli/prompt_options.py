"""Options of temporal prompts, which `finetune` trains and `cost` counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..pipeline.choices import PROMPT_PARTS, PROMPT_SETTINGS, REPARAMETERIZATIONS
from .conditions import Condition
from .number_types import Layers, Share
from .parameters import Decorator, option, options

if TYPE_CHECKING:
    from ..pipeline.encoders import PromptConfig

PROMPT_GROUP = (
    "--parts --global-prompts --global-per-frame --prompt-layers --prompt-init --prompt-gate --temporal-embedding "
    "--reparameterization --prompt-residual --shared-reparameterization"
)


def prompt_options(needs: Condition) -> Decorator:
    """Return the options, which have a part where `needs` holds."""
    return options(
        option(
            "--parts",
            type=click.Choice(PROMPT_PARTS),
            needs=needs,
            help="C: a summary of the clip; G: vectors that all frames share; I: a message of each frame.",
        ),
        option(
            "--global-prompts",
            type=click.IntRange(1, 4096),
            metavar="S",
            needs=needs,
            help="The number of G.",
        ),
        option(
            "--global-per-frame/--no-global-per-frame",
            default=None,
            needs=needs,
            help="Vectors G of its own for each of the T frames.",
        ),
        option(
            "--prompt-layers",
            type=Layers(),
            metavar="all|last:K",
            needs=needs,
            help="Which layers have prompts: all, or the last K.",
        ),
        option(
            "--prompt-init",
            type=Share(),
            metavar="X|vita",
            needs=needs,
            help="How large G and I begin: a share of the tokens that they join (root mean squares), or as in Vita-CLIP.",
        ),
        option(
            "--prompt-gate/--no-prompt-gate",
            default=None,
            needs=needs,
            help="A trained number a head on the attention to prompts, first -4: the trained tower changes less.",
        ),
        option(
            "--temporal-embedding/--no-temporal-embedding",
            default=None,
            needs=needs,
            help="A trained vector of each frame, added to its tokens before the first layer.",
        ),
        option(
            "--reparameterization",
            type=click.Choice(REPARAMETERIZATIONS),
            needs=needs,
            help="What the prompts pass before the tower reads them.",
        ),
        option(
            "--prompt-residual/--no-prompt-residual",
            default=None,
            needs=needs,
            help="Whether the reparameterized prompts are added to the prompts, or take their place.",
        ),
        option(
            "--shared-reparameterization/--no-shared-reparameterization",
            default=None,
            needs=needs,
            help="One reparameterization for all layers.",
        ),
    )


def prompt_config(given: Mapping[str, Any]) -> PromptConfig:
    """Return what the options say; those that were not given are as the paper has them."""
    from ..pipeline.encoders import PromptConfig

    own = {PROMPT_SETTINGS[name]: value for name, value in given.items() if name in PROMPT_SETTINGS}
    return PromptConfig(**{name: value for name, value in own.items() if value is not None})
