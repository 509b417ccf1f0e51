"""`vidclip.toml` in the working folder: settings that need not be typed.

cache = "features"          # for every command that has such an option
[extract]
source = "videos"
frames = 16                 # for one command; stands before the above
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .messages import suggestion
from .parameters import CONFIG_FILE, RENAMED, VidclipParameter, spellings, values_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


def read_config(commands: Mapping[str, click.Command]) -> dict[str, dict[str, Any]]:
    """Return the file's settings as click's default map: command -> parameter -> value.

    Raises click.UsageError for a file that is no TOML, and for a name that no command, or not this
    command, has: a setting that is misspelt would otherwise be a setting that is not there.
    """
    try:
        document = tomllib.loads(Path(CONFIG_FILE).read_text(encoding="utf-8"))
    except RecursionError:
        raise click.UsageError(f"{CONFIG_FILE} cannot be read: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{CONFIG_FILE} cannot be read: {error}") from None
    known = {name: _parameters(command) for name, command in commands.items()}
    settings: dict[str, dict[str, Any]] = {name: {} for name in commands}
    for key, value in document.items():
        if isinstance(value, dict):
            continue
        takers = [name for name in commands if _name(key) in known[name]]
        if not takers:
            raise _unknown(key, "no command has an option of this name", set().union(*known.values()))
        for name in takers:
            _set(settings[name], commands[name], key, value)
    for table, values in document.items():
        if not isinstance(values, dict):
            continue
        if table not in commands:
            raise _unknown(f"[{table}]", "there is no such command", set(commands))
        for key, value in values.items():
            if _name(key) not in known[table]:
                raise _unknown(key, f"`vidclip {table}` has no such option", set(known[table]))
            _set(settings[table], commands[table], key, value)
    return settings


def _set(settings: dict[str, Any], command: click.Command, key: str, value: Any) -> None:
    """Set a value of a command; of a group, of those of its commands that have such an option: click looks there by their names."""
    if isinstance(command, click.Group):
        for name, own in command.commands.items():
            if _name(key) in _parameters(own):
                _set(settings.setdefault(name, {}), own, key, value)
        return
    parameter = _parameters(command)[_name(key)]
    try:
        settings[parameter.name or ""] = values_of(parameter, value)
    except ValueError as error:
        raise click.UsageError(f"{CONFIG_FILE}: {key}: {error}.") from None


def _parameters(command: click.Command) -> dict[str, click.Parameter]:
    """Return parameters by what a user calls them: `lexicon`, of --lexicon."""
    names: dict[str, click.Parameter] = {}
    if isinstance(command, click.Group):
        for own in command.commands.values():
            names.update(_parameters(own))
    for parameter in command.params:
        if parameter.name != "help":
            names.update(dict.fromkeys(spellings(parameter), parameter))
    return names


def read_array(text: str) -> Any:
    """Return the value of a setting as the file has it: `["mean", "vcs"]`. Raises ValueError where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_environment(
    commands: Mapping[str, click.Command], prefix: str, environment: Mapping[str, str]
) -> None:
    """Raise click.UsageError for a variable VIDCLIP_... that sets nothing: misspelt, it would be a setting that is
    not there."""
    known = {name for command, own in commands.items() for name in _variables(own, f"{prefix}_{command}")}
    for name in sorted(environment):
        if not name.startswith(f"{prefix}_") or name in known or not environment[name]:
            continue
        hint = suggestion(name, known, f" They are called {prefix}_<COMMAND>_<OPTION>.")
        raise click.UsageError(f"the environment has {name}, and no command has such an option.{hint}")


def _variables(command: click.Command, prefix: str) -> set[str]:
    """Return the variables that a command and those below it read."""
    prefix = prefix.upper().replace("-", "_")
    if isinstance(command, click.Group):
        return {name for key, own in command.commands.items() for name in _variables(own, f"{prefix}_{key}")}
    with click.Context(command, auto_envvar_prefix=prefix) as ctx:
        return {
            name
            for parameter in command.params
            if isinstance(parameter, VidclipParameter)
            for name in parameter.variables(ctx)
        }


def _name(key: str) -> str:
    return key.replace("-", "_")


def _unknown(key: str, why: str, known: set[str]) -> click.UsageError:
    hint = suggestion(key.strip("[]").replace("_", "-"), {name.replace("_", "-") for name in known})
    if key.replace("_", "-") in RENAMED:
        hint = f" It is called {RENAMED[key.replace('_', '-')]} now."
    return click.UsageError(f"{CONFIG_FILE}: {key}: {why}.{hint}")
