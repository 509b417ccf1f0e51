"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..pipeline.choices import DECODERS
from .conditions import Condition, with_option
from .parameters import Decorator, Device, FiniteRange, OutputFile, option, options
from .parameters import vidclip_command as vidclip_command

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.encoders import EncoderLoader
    from ..pipeline.extraction import ExtractSettings


def cache_option_of(needs: Condition | None, help: str) -> Decorator:
    return option(
        "--cache", type=click.Path(path_type=Path, file_okay=False), default=Path("features"), show_default=True,
        envvar="VIDCLIP_CACHE", needs=needs, help=help,
    )  # fmt: skip


cache_option: Decorator = cache_option_of(None, "Folder of the cache.")
caches_option: Decorator = option(
    "--cache", multiple=True, type=click.Path(path_type=Path, file_okay=False), default=(Path("features"),),
    show_default="features", envvar="VIDCLIP_CACHE", help="Folder of the cache; several are compared.",
)  # fmt: skip
json_option: Decorator = option(
    "--json", "json_file", type=OutputFile(dash=True), metavar="FILE",
    help="Write the result as JSON too; - for standard output, instead of the table.",
)  # fmt: skip


def device_option_of(needs: Condition | None) -> Decorator:
    return option(
        "--device", type=Device(), default="auto", show_default=True, needs=needs, help="auto, cpu, cuda, cuda:1, mps."
    )  # fmt: skip


device_option: Decorator = device_option_of(None)
lexicon_option: Decorator = option(
    "--lexicon", help="Class names: a lexicon or a text file.  [default: the labels of the cache]"
)


def open_cache(
    folder: Path, lexicon: str | None, *, single_view: bool = False
) -> tuple[FeatureCache, Lexicon]:
    """Return the cache of a command, and its classes: of `--lexicon`, or else its own labels."""
    from ..cache import FeatureCache
    from ..lexicons import load_lexicon
    from ..pipeline.evaluation import lexicon_from_labels

    cache = FeatureCache(folder)
    cache = cache.single_view() if single_view else cache
    return cache, load_lexicon(lexicon) if lexicon else lexicon_from_labels(cache)


model_options: Decorator = options(
    option(
        "--model", "models", multiple=True,
        help="The encoder of the cache or head, where it is a local-dir:, hf:, hf-hub: or a file: these are loaded only "
        "where they are named here.",
    ),
    option(
        "--pretrained", "checkpoints", multiple=True, needs=with_option("--model"),
        help="With --model, its checkpoint file or tag.",
    ),
)  # fmt: skip
"""The options of commands that may have to encode more with a cache's encoder."""


encoder_options: Decorator = options(
    option(
        "--model", default="ViT-B-16", show_default=True,
        help="An open_clip model, local-dir:FOLDER, demo or demo-vit; of extract also hf:NAME or "
        "hf:FOLDER (transformers), and encoders of other packages.",
    ),
    option(
        "--pretrained", default="",
        help="Weights: a tag of open_clip or a checkpoint file.  [default: openai, where there are such]",
    ),
)  # fmt: skip
"""The options of commands that read videos with an encoder of the user's choice."""


def encoder_loader() -> EncoderLoader:
    """Return how the running command, one with `model_options`, gets an encoder."""
    from ..pipeline.encoders import EncoderLoader, brings_its_weights
    from .messages import warn

    ctx = click.get_current_context()
    checkpoints, named = list(ctx.params["checkpoints"]), []
    for model in ctx.params["models"]:
        takes = checkpoints and not brings_its_weights(model)
        named.append((model, checkpoints.pop(0) if takes else ""))
    typed = click.core.ParameterSource.COMMANDLINE
    if checkpoints and ctx.get_parameter_source("checkpoints") is typed:
        raise click.UsageError(
            f"--pretrained {checkpoints[0]} belongs to no --model: local-dir:, hf:, hf-hub:, demo and demo-vit bring "
            "their weights."
        )
    insist = ctx.get_parameter_source("models") is typed
    return EncoderLoader(ctx.params["device"], named, insist=insist, on_note=warn)


LONGEST_SECONDS = 604_800
"""A week: more than any video takes, and what operating systems can wait for."""


def prompts_of(*names: str, option: str = "--prompt") -> tuple[str, ...]:
    """Return the sentences of an option, from names of sets (`bike`) and sentences with `{}`. Raises BadParameter."""
    from ..pipeline.encoders import resolve_prompts

    try:
        return resolve_prompts(names)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def prompt_of(option: str, name: str) -> str:
    """Return the one sentence of an option that reads one. Raises BadParameter."""
    prompt, *more = prompts_of(name, option=option)
    if more:
        raise click.BadParameter(
            f"{name} is {len(more) + 1} prompts, and here one is read: give a sentence with one {{}}.",
            param_hint=option,
        )
    return prompt


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Gibibytes(click.ParamType):
    """A number of GiB; `none`, or 0, for no limit."""

    name = "GiB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value is None or str(value).strip().lower() == "none":
            return None
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if number == 0:
            return None
        if not 0.25 <= number < 2**30:
            self.fail(f"{value!r} is not a number of GiB, 0.25 at least, and not none", param, ctx)
        return number


def decoding_options_of(needs: Condition | None, *, workers: Condition | None = None) -> Decorator:
    """Return the options of commands that read videos, where `needs` holds, and of them --workers where `workers` does."""
    return options(
        option(
            "--workers", type=click.IntRange(1, 1024), default=processors, show_default="processors",
            needs=workers or needs, help="Decoding processes.",
        ),
        option(
            "--timeout", type=FiniteRange(0, LONGEST_SECONDS, min_open=True), default=60.0, show_default=True, needs=needs,
            help="Seconds a decoder may take for one video.",
        ),
        option(
            "--worker-memory", type=Gibibytes(), default="4", show_default=True, needs=needs,
            help="GiB of memory a decoder may take for one video, on Linux; none for no limit.",
        ),
        option(
            "--decoder", type=click.Choice(DECODERS), default="auto", show_default=True, needs=needs,
            help="auto: decord where its frames can be trusted, else PyAV. The others refuse what they might read wrongly; "
            "torchcodec, and torchcodec-cuda on an NVIDIA GPU, need pip install 'vidclip[torchcodec]'.",
        ),
    )  # fmt: skip


decoding_options: Decorator = decoding_options_of(None)


def reading_settings(options: Mapping[str, Any]) -> ExtractSettings:
    """Return what the options of `decoding_options_of` say."""
    from ..pipeline.extraction import ExtractSettings

    return ExtractSettings(
        options["workers"], options["timeout"], options["worker_memory"], decoder=options["decoder"]
    )
