"""`--as-released PAPER`: see `evaluation.released_forms`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..pipeline.choices import RELEASED
from .conditions import NEARNESS, Call
from .messages import printable
from .parameters import Decorator, option

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..pipeline.evaluation.released_forms import ReleasedForm


class AsReleased:
    """What `--as-released` sets in a call, and what was given instead; without a paper, nothing."""

    def __init__(self, ctx: click.Context, paper: str | None) -> None:
        self._ctx, self.paper = ctx, paper
        self.set: dict[str, Any] = {}
        self.given: dict[str, Any] = {}

    @property
    def form(self) -> ReleasedForm | None:
        from ..pipeline.evaluation import RELEASED_FORMS

        return RELEASED_FORMS[self.paper] if self.paper else None

    def choose(self, parameter: str, value: Any) -> Any:
        """Return what a parameter stands at: the released value, unless a nearer place than the default says
        otherwise, or its option has no part in the call."""
        own = next((each for each in self._ctx.command.params if each.name == parameter), None)
        stands = self._ctx.params.get(parameter)
        if value is None or own is None or not Call(self._ctx).has_part(own):
            return stands
        spelt = own.opts[0].removeprefix("--").replace("-", "_")
        if self._ctx.get_parameter_source(parameter) in NEARNESS:
            if stands != value:
                self.given[spelt] = stands
            return stands
        self._ctx.params[parameter] = self.set[spelt] = value
        return value

    def short_side(self, size: int, crops: int) -> int | None:
        """Return what `--resize` stands at for crops of `size` pixels: as given, or as released code scales."""
        return self.choose("resize", self.form.short_side(size, crops) if self.form else None)

    def temporal_heads(self, cache: FeatureCache) -> int | None:
        """Return the attention heads of T-Trans over these features. Raises UsageError where they do not go."""
        architecture = cache.identity.encoder.get("architecture", {})
        heads = self.choose("temporal_heads", self.form.temporal_heads(architecture) if self.form else None)
        if heads is not None and cache.shape[3] % heads:
            raise click.UsageError(
                f"--temporal-heads {heads}: the {cache.shape[3]} dimensions of {cache.folder} cannot be shared among "
                f"{heads} heads; give a number that divides them."
            )
        return heads

    def to_dict(self) -> dict[str, Any] | None:
        """What was set, for JSON and for heads; None without a paper."""
        return {"paper": self.paper, "set": self.set, "given": self.given} if self.paper else None

    def echo(self) -> None:
        """Print what was set, as options that set it again; nothing without a paper."""
        if self.form is None:
            return
        given = f"; given instead: {_typed(self.given)}" if self.given else ""
        click.echo(f"As released by {self.form.name}: {_typed(self.set)}{given}.")


def _typed(forms: Mapping[str, Any]) -> str:
    words = []
    for name, value in forms.items():
        spelt = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{spelt}" if value else f"--no-{spelt}")
        else:
            several = value if isinstance(value, (tuple, list)) else (value,)
            words += [f"--{spelt} {printable(each)}" for each in several]
    return " ".join(words) or "nothing"


def _apply(ctx: click.Context) -> None:
    """Set the forms of `--as-released` that depend on nothing but the paper; `ctx.params` then has an AsReleased."""
    papers = tuple(dict.fromkeys(ctx.params["as_released"]))
    if len(papers) > 1:
        pools = " ".join(f"--pool released-{paper}" for paper in papers if paper != "x-clip")
        raise click.UsageError(
            f"--as-released sets the forms of one paper, and is given {' and '.join(papers)}. Rows that score as "
            f"released code scores its halves are pools of `vidclip eval`: {pools}.",
            ctx,
        )
    released = ctx.params["as_released"] = AsReleased(ctx, *(papers or (None,)))
    if (form := released.form) is None:
        return
    for parameter, value in {"prompts": (form.options["prompt"],), **form.options}.items():
        released.choose(parameter, value)


as_released_option: Decorator = option(
    "--as-released", type=click.Choice(RELEASED), multiple=True, settle=_apply,
    help="All forms of this paper's released code; options given beside it stay as given.",
)  # fmt: skip
