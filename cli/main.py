"""The program `vidclip`: finds the command, its settings, and words for what goes wrong."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from typing import Any

import click

from .config import check_environment, read_config
from .messages import one_line, quoted, suggestion
from .parameters import CONFIG_FILE, verbosity_options

COMMANDS = {
    "demo": "Render a small world, and see everything at work in it.",
    "dataset": "Look at a public data set on this disk.",
    "extract": "Read videos once; keep their CLIP embeddings.",
    "eval": "Accuracy, from the cache: zero-shot, few-shot, general.",
    "attributes": "The phrases that are nearest to each video.",
    "fit": "Train a light head on the cache.",
    "finetune": "Train an encoder on videos.",
    "import-model": "A checkpoint of BIKE, Text4Vis or X-CLIP as a model.",
    "predict": "The classes of videos, zero-shot or by a trained head.",
    "compare": "Two evaluations, paired by video.",
    "plot": "Pictures: correlations, few-shot curves, confusions.",
    "search": "Videos and moments for a text, a video or an image.",
    "report": "Results as one HTML page: tables, confusions, videos.",
    "saliency": "Which frames of a video a phrase attends to.",
    "info": "What a cache holds; what two caches differ in.",
    "verify": "Check every byte of a cache.",
    "label": "Other labels and splits for a cache's videos; encodes nothing.",
    "remove": "Take videos out of a cache, or give them back.",
    "prune": "Take out of a cache the videos whose files are gone.",
    "export": "Features as .npz, .csv, .parquet, .safetensors or a tar.",
    "import-features": "A cache of features that another tool has computed.",
    "push": "A cache onto a hub of datasets, with a card.",
    "pull": "A cache from a hub of datasets, every file checked.",
    "merge": "Join caches of one encoder and sampling.",
    "compact": "Join the small files of a cache into large ones.",
    "cost": "Parameters and multiply-adds of models, without weights.",
    "lexicons": "List the phrase lists, or print one.",
}
"""Name -> what it does. Each is `command` in the module of its name here, imported when it is asked for."""


class Failed(click.ClickException):
    """`Error: ...` in a line or two, exit status 2."""

    exit_code = 2


class LazyGroup(click.Group):
    """Commands whose modules are imported when they run: `vidclip --help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"{__package__}.commands.{cmd_name.replace('-', '_')}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] in COMMANDS:
            self._read_settings(ctx)
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = suggestion(args[0], COMMANDS, f" Commands are {', '.join(COMMANDS)}.")
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx) from error

    def _read_settings(self, ctx: click.Context) -> None:
        """Read the settings of the file and of the environment. Only where there are any are all commands imported."""
        there = os.path.exists(CONFIG_FILE)  # noqa: PTH110 (pathlib is slow to import)
        prefix = ctx.auto_envvar_prefix or ""
        if not there and not any(name.startswith(f"{prefix}_") for name in os.environ):
            return
        found = {name: self.get_command(ctx, name) for name in COMMANDS}
        commands = {name: command for name, command in found.items() if command}
        check_environment(commands, prefix, os.environ)
        if there:
            ctx.default_map = read_config(commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **settings)
        except click.ClickException as error:
            raise _printable(error) from error.__cause__

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["vidclip.arguments"] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        # Threads that wait for each other sleep instead of spinning: processes that decode, and other programs, want the same
        # cores. OpenMP reads this once, when torch is imported. What the user has set stays.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            raise _printable(error) from error.__cause__
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)
        except Exception as error:
            if ctx.meta.get("vidclip.debug"):
                raise
            raise _printable(Failed(explain(error) + _with_options(ctx, error))) from error


def _with_options(ctx: click.Context, error: Exception) -> str:
    """Return the same command line with the options that an error asks for, to be copied; empty where it asks for none."""
    options = getattr(error, "options", None)
    if not options:
        return ""
    arguments = list(ctx.meta["vidclip.arguments"])
    place = arguments.index("--") if "--" in arguments else len(arguments)
    arguments[place:place] = options
    return f"\nRun: {quoted(['vidclip', *arguments])}"


def _printable(error: click.ClickException) -> click.ClickException:
    """Return the same error, its text fit for a terminal: it may quote labels and paths, which may hold anything."""
    text = one_line(error.format_message())
    error.format_message = lambda: text
    return error


def explain(error: Exception) -> str:
    """Return what a user reads instead of a traceback."""
    if type(error).__module__.startswith("vidclip."):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error.strerror}. What was written before is whole: free some space, and the same command goes on."
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119
    return (
        f"unexpected {type(error).__name__} in {place}: {error}. "
        "This looks like a fault of vidclip. Run again with --debug, and report what it prints."
    )


SETTINGS = {
    "auto_envvar_prefix": "VIDCLIP",
    "max_content_width": 100,
    "help_option_names": ["-h", "--help"],
}


@click.group(cls=LazyGroup, context_settings=SETTINGS)
@verbosity_options
@click.version_option(package_name="vidclip", message="%(version)s", allow_from_autoenv=False)
def main() -> None:
    """Reads every video once and does everything else from the cache, in seconds.

    \b
        vidclip extract videos/
        vidclip eval --protocol half-classes

    Options can also be set in a file vidclip.toml in the working folder, or as VIDCLIP_<COMMAND>_<OPTION>
    in the environment, such as VIDCLIP_EVAL_POOL=vcs.
    """


if __name__ == "__main__":
    sys.exit(main())
