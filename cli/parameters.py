"""Options, arguments and commands of vidclip: what `click` leaves open is settled here, once for all of them.

* An option that has no part in what was asked is refused (`needs`, see `conditions`).
* An option that takes one value is given once.
* A variable of the environment is called like the option: VIDCLIP_EVAL_POOL of `vidclip eval --pool`.
* Numbers are finite, paths are not empty, devices are such, files to be written can be written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from . import verbosity
from .conditions import NEARNESS, Call, Condition
from .messages import note, printable
from .value_types import PICTURES as PICTURES
from .value_types import Device as Device
from .value_types import FiniteRange as FiniteRange
from .value_types import OutputFile as OutputFile

CONFIG_FILE = "vidclip.toml"
RENAMED = {
    "shard": "part",
    "renormalise": "renormalize",
    "no-renormalise": "no-renormalize",
    "png": "output",
}
"""What options were called in earlier versions: an error names the new one."""
_UNSET = getattr(click.core, "UNSET", None)  # click 8.3 on


def values_of(parameter: click.Parameter, value: Any) -> Any:
    """Return a value of the file, or of an array in the environment, as it would be typed: the command line's checks
    hold for it. Raises ValueError for one that cannot be typed."""
    if takes_several(parameter):
        return [_typed(parameter, each) for each in (value if isinstance(value, list) else [value])]
    return _typed(parameter, value)


def takes_several(parameter: click.Parameter) -> bool:
    return parameter.nargs == -1 or bool(getattr(parameter, "multiple", False))


def _typed(parameter: click.Parameter, value: Any) -> Any:
    flag = bool(getattr(parameter, "is_flag", False))
    if flag != isinstance(value, bool) or not isinstance(value, (str, int, float)):
        wanted = "true or false" if flag else "a text or a number"
        raise ValueError(f"{printable(value)} is not {wanted}")
    return value if flag else str(value)


# --- options and arguments


class VidclipParameter(click.Parameter):
    """What options and arguments have in common."""

    def variables(self, ctx: click.Context) -> list[str]:
        """Return the variables that set this parameter of this command, the nearer first."""
        prefix = ctx.auto_envvar_prefix
        own = [f"{prefix}_{spelling.upper()}" for spelling in spellings(self)] if prefix else []
        shared = [self.envvar] if isinstance(self.envvar, str) else list(self.envvar or ())
        return own + shared

    def variable(self, ctx: click.Context) -> str | None:
        """Return the variable that is set."""
        return next((name for name in self.variables(ctx) if os.environ.get(name)), None)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        name = self.variable(ctx)
        return None if name is None else os.environ[name]

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Return one value as it stands, or several as in the file: ["mean", "vcs"]."""
        text = self.resolve_envvar_value(ctx)
        if text is None or not takes_several(self):
            return text
        if not text.lstrip().startswith("["):
            return [text]
        from .config import read_array

        try:
            return values_of(self, read_array(text))
        except ValueError as error:
            message = f'{text!r} is no list like ["one", "two"]: {error} (from {self.variable(ctx)})'
            raise click.BadParameter(message, ctx, self) from None

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, str) and "\0" in each:
                raise click.BadParameter(f"{each!r} holds a zero byte.", ctx, self)
            # Where nothing is the default, it may also be said.
            if isinstance(each, str) and not each.strip() and self.default != "":
                raise click.BadParameter("the value is empty.", ctx, self)
        return super().type_cast_value(ctx, value)

    def handle_parse_result(self, ctx: click.Context, opts: Any, args: list[str]) -> Any:
        try:
            return super().handle_parse_result(ctx, opts, args)
        except click.BadParameter as error:
            source = ctx.get_parameter_source(self.name or "")
            where = self.variable(ctx) if source is ParameterSource.ENVIRONMENT else CONFIG_FILE
            if source not in NEARNESS[1:] or f"(from {where})" in error.message:
                raise
            message = f"{error.message.rstrip()} (from {where})"
            raise click.BadParameter(message, error.ctx, error.param) from error


class Option(VidclipParameter, click.Option):
    """An option with a condition.

    needs    what has to be asked for, that this option have a part; None: it always has
    hint     what else to do where it has none
    settle   called when all parameters are known: it may set others
    """

    def __init__(
        self,
        *arguments: Any,
        needs: Condition | None = None,
        hint: str = "",
        settle: Callable[[click.Context], None] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.needs, self.hint, self.settle = needs, hint, settle
        if self.metavar is None and isinstance(self.type, (click.IntRange, click.FloatRange)):
            self.metavar = "N" if isinstance(self.type, click.IntRange) else "X"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what a shell offers behind this option: that of its type, or names of what is there."""
        from .completion import offered

        return super().shell_complete(ctx, incomplete) + offered(self.opts[0], ctx, incomplete)

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Without the range: an error tells it to those who leave it."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class Argument(VidclipParameter, click.Argument):
    """An argument that the environment and the file can set too."""


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

option = partial(click.option, cls=Option)
argument = partial(click.argument, cls=Argument)


def options(*several: Decorator) -> Decorator:
    """Return the decorator that adds several options, in this order."""
    return lambda function: reduce(lambda made, each: each(made), reversed(several), function)


def spellings(parameter: click.Parameter) -> list[str]:
    """Return what a user calls it, with underscores: `prompt_context` of --prompt-context, `source` of SOURCE."""
    long = [name.removeprefix("--") for name in parameter.opts if name.startswith("--")]
    return [name.replace("-", "_") for name in long or [parameter.name or ""]]


# --- commands


class Command(click.Command):
    """A command that heeds or refuses what it is given, before its work begins.

    groups    titles of its help and the options below each; the others stand first
    """

    def __init__(self, *arguments: Any, groups: Mapping[str, str] | None = None, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.groups = groups or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        group_of = {name: title for title, names in self.groups.items() for name in names.split()}
        for name in ("--quiet", "--verbose"):
            group_of[name] = group_of.get("--debug", "Options")
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *self.groups)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections[group_of.get(_spelt(parameter), "Options")].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=30)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            if not ctx.resilient_parsing:
                self._refuse_repeated(ctx, args)
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            new = RENAMED.get(error.option_name.removeprefix("--"))
            if new is None:
                raise
            message = f"{error.option_name} is called --{new} now."
            raise click.NoSuchOption(error.option_name, message, ctx=ctx) from error
        if not ctx.resilient_parsing:
            verbosity.settle(ctx)
            self._settle_parts(ctx)
            for parameter in self.params:
                if isinstance(parameter, Option) and parameter.settle:
                    parameter.settle(ctx)
            self._check_outputs(ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        for parameter in self.params:
            device = ctx.params.get(parameter.name or "")
            if isinstance(parameter.type, Device) and device and device not in ("auto", "cpu"):
                from ..pipeline.devices import choose_device

                choose_device(device)
        with verbosity.heeded(ctx, lambda parameter: _origin(parameter, ctx)):
            return super().invoke(ctx)

    def _refuse_repeated(self, ctx: click.Context, args: Iterable[str]) -> None:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.params:
            plain_flag = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
            if (
                isinstance(parameter, click.Option)
                and not (parameter.multiple or parameter.count or plain_flag)
                and sum(each is parameter for each in order) > 1
            ):
                raise click.UsageError(f"{_spelt(parameter)} is given twice, and takes one value.", ctx)

    def _settle_parts(self, ctx: click.Context) -> None:
        """Refuse what was typed and has no part. What the environment or the file sets stands for every call in
        which it has one: in the others the default takes its place, and a variable is mentioned."""
        call = Call(ctx)
        idle = [
            (parameter, parameter.needs.words)
            for parameter in self.params
            if isinstance(parameter, Option) and parameter.needs and not call.has_part(parameter)
        ]
        for parameter, words in idle:
            source = ctx.get_parameter_source(parameter.name or "")
            where = f"goes with {words} alone"
            if source is ParameterSource.COMMANDLINE:
                hint = f" {parameter.hint}" if parameter.hint else ""
                raise click.UsageError(f"{_spelt(parameter)} {where}: it has no part here.{hint}", ctx)
            if source is ParameterSource.ENVIRONMENT:
                note(f"{parameter.variable(ctx)} has no part here: {_spelt(parameter)} {where}.")
            ctx.params[parameter.name or ""] = _default(parameter, ctx)

    def _check_outputs(self, ctx: click.Context) -> None:
        from .files import check_writable

        written: dict[str, str] = {}
        for parameter in self.params:
            path = ctx.params.get(parameter.name or "")
            if not isinstance(parameter.type, OutputFile) or path is None:
                continue
            name = _spelt(parameter)
            place = "-" if str(path) == "-" else os.path.realpath(path)
            if place in written:
                where = "standard output: name a file" if place == "-" else str(path)
                raise click.UsageError(f"{written[place]} and {name} would both be written to {where}.", ctx)
            written[place] = name
            if place != "-":
                check_writable(path, name, parameter.type.suffixes)


def _spelt(parameter: click.Parameter) -> str:
    """Return `--pool`; `--projection` of --projection/--no-projection."""
    return next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])


def _origin(parameter: click.Parameter, ctx: click.Context) -> str:
    """Return `--pool (vidclip.toml)`: what a parameter is called, and where it was set."""
    name = _spelt(parameter) if isinstance(parameter, click.Option) else parameter.human_readable_name
    source = ctx.get_parameter_source(parameter.name or "")
    if source is ParameterSource.DEFAULT_MAP:
        return f"{name} ({CONFIG_FILE})"
    if source is ParameterSource.ENVIRONMENT and isinstance(parameter, VidclipParameter):
        return f"{name} ({parameter.variable(ctx)})"
    return name


def _default(parameter: click.Parameter, ctx: click.Context) -> Any:
    """Return the value of a parameter that is not given."""
    value = parameter.default() if callable(parameter.default) else parameter.default
    if value is None or value is _UNSET:
        return () if takes_several(parameter) else None
    return parameter.type_cast_value(ctx, value)


def _verbosity_flag(name: str, help: str) -> Decorator:
    return option(
        f"-{name[0]}", f"--{name}", is_flag=True, expose_value=False, is_eager=True, callback=verbosity.remember,
        envvar=f"VIDCLIP_{name.upper()}", help=help,
    )  # fmt: skip


verbosity_options: Decorator = options(
    _verbosity_flag("quiet", "Results, warnings and errors alone."),
    _verbosity_flag("verbose", "Also settings, files, weights, times and memory."),
)
"""Of every command, and of the program before the command's name."""


def _set_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.meta["vidclip.debug"] = value


def vidclip_command(
    name: str | None = None, **attributes: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return the decorator that makes a command with `--debug`."""
    debug = option(
        "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_set_debug,
        help="Show the traceback of an error.",
    )  # fmt: skip
    common = options(verbosity_options, debug)
    return lambda function: click.command(name, cls=Command, **attributes)(common(function))
