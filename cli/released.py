"""`--as-released PAPER`, and the options of the forms that it sets: see `pipeline.released_forms`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .conditions import NEARNESS, Call, Condition
from .options import prompts_of
from .parameters import option

if TYPE_CHECKING:
    from ..cache import FeatureCache

PAPERS = ("bike", "text4vis", "x-clip")
VIEW_AVERAGES = ("probabilities", "unscaled", "features")
WORDS = ("name", "sentence", "all")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _one_paper(ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> str | None:
    papers = tuple(dict.fromkeys(value))
    if len(papers) > 1:
        pools = " ".join(f"--pool released-{paper}" for paper in papers if paper != "x-clip")
        raise click.UsageError(
            f"--as-released sets the forms of one paper, and is given {' and '.join(papers)}. Rows that score as "
            f"released code scores its halves are pools of `vidclip eval`: {pools}.",
            ctx,
        )
    return papers[0] if papers else None


as_released_option: Decorator = option(
    "--as-released", type=click.Choice(PAPERS), multiple=True, callback=_one_paper,
    help="All forms in which this paper's released code differs from vidclip's defaults; options given beside it "
    "stay as given.",
)  # fmt: skip


def words_option(needs: Condition) -> Decorator:
    return option(
        "--words", type=click.Choice(WORDS), default="name", show_default=True, needs=needs,
        help="vcs: which tokens are words; all 77 positions is what released BIKE does.",
    )  # fmt: skip


def renormalize_option(needs: Condition) -> Decorator:
    return option(
        "--renormalize/--no-renormalize", default=True, show_default=True, needs=needs,
        help="vcs: the paper's cosine, or the released code's product.",
    )  # fmt: skip


def view_average_option(needs: Condition | None) -> Decorator:
    return option(
        "--view-average", type=click.Choice(VIEW_AVERAGES), needs=needs,
        help="How several views become one score: mean of softmaxes of cosines / temperature (BIKE, X-CLIP), of "
        "cosines as they are (released BIKE), or the cosine of the mean of their features (Text4Vis).  [default: "
        "features for the pool mean without training, a head's own, else probabilities]",
    )  # fmt: skip


def attributes_prompt_option(needs: Condition | None, *more: str) -> Decorator:
    """`more`: other spellings."""
    return option(
        "--attributes-prompt", *more, default="bike", show_default=True, needs=needs,
        help="Around the attributes sentence: a text with {}, bike, or none (BIKE, Table 6c, first row).",
    )  # fmt: skip


def resolve_attributes_prompt(options: dict[str, Any]) -> None:
    """The prompt in the place of its name. Raises BadParameter where it is none."""
    [options["attributes_prompt"]] = prompts_of(
        options["attributes_prompt"], option="--attributes-prompt", one=True
    )


def apply_released(options: dict[str, Any]) -> None:
    """Sets the forms of `--as-released` in `options`, but for those that are given; `options["as_released"]` then
    says what was set, and what was given instead. `apply_released_heads` does the rest where heads are trained."""
    paper = options["as_released"]
    if paper is None:
        return
    from ..pipeline.evaluation import RELEASED_FORMS

    form = RELEASED_FORMS[paper]
    options["as_released"] = {"paper": paper, "set": {}, "given": {}}
    for parameter, value in (
        ("prompts", (form.prompt,)),
        ("prompt", form.prompt),
        ("attributes_prompt", form.attributes_prompt),
        ("words", form.words),
        ("renormalize", form.renormalize),
        ("view_average", form.view_average),
        ("fusion", form.fusion),
        ("fusion_form", form.fusion_form),
        ("map_convention", form.map_convention),
        ("loss", form.loss),
        ("position", form.position),
        ("crop_positions", form.crop_positions),
    ):
        if value is not None:
            _set(options, parameter, value)


def released_short_side(options: dict[str, Any], size: int) -> int | None:
    """What `--resize` stands at for crops of `size` pixels: as given, or as released code scales."""
    if options["as_released"] is None:
        return options["resize"]
    from ..pipeline.evaluation import RELEASED_FORMS

    form = RELEASED_FORMS[options["as_released"]["paper"]]
    _set(options, "resize", form.short_side(size, int(options["crops"])))
    return options["resize"]


def apply_released_heads(options: dict[str, Any], features: FeatureCache) -> None:
    """Sets the attention heads of T-Trans over these features, and refuses a number that does not go."""
    released, dimension = options["as_released"], features.shape[3]
    if released is not None:
        from ..pipeline.evaluation import RELEASED_FORMS

        form = RELEASED_FORMS[released["paper"]]
        heads = form.temporal_heads(features.identity.encoder.get("architecture", {}))
        if heads is not None:
            _set(options, "temporal_heads", heads)
    heads = options["temporal_heads"]
    if heads is not None and dimension % heads:
        raise click.UsageError(
            f"--temporal-heads {heads}: the {dimension} dimensions of {features.folder} cannot be shared among "
            f"{heads} heads; give a number that divides them."
        )


def _set(options: dict[str, Any], parameter: str, value: Any) -> None:
    """Unless a nearer place than the default says otherwise, or the option has no part in the call."""
    ctx = click.get_current_context()
    own = next((each for each in ctx.command.params if each.name == parameter), None)
    if own is None or not Call(ctx).has_part(own):
        return
    spelt = own.opts[0].removeprefix("--").replace("-", "_")
    if ctx.get_parameter_source(parameter) in NEARNESS:
        if options[parameter] != value:
            options["as_released"]["given"][spelt] = options[parameter]
        return
    options[parameter] = value
    options["as_released"]["set"][spelt] = value


def released_line(released: Mapping[str, Any] | None) -> str:
    """What `--as-released` set, as options that set it again; empty without it."""
    if not released:
        return ""
    from ..pipeline.evaluation import RELEASED_FORMS
    from .output import printable

    def typed(forms: Mapping[str, Any]) -> str:
        words = []
        for name, value in forms.items():
            spelt = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{spelt}" if value else f"--no-{spelt}")
            else:
                several = value if isinstance(value, (tuple, list)) else (value,)
                words += [f"--{spelt} {printable(each)}" for each in several]
        return " ".join(words) or "nothing"

    given = f"; given instead: {typed(released['given'])}" if released["given"] else ""
    return f"As released by {RELEASED_FORMS[released['paper']].name}: {typed(released['set'])}{given}."
