"""Every option of every command is heeded or refused, wherever it is set."""

from __future__ import annotations

import click
import pytest

from making import vidclip
from vidclip.cli.conditions import with_option
from vidclip.cli.main import COMMANDS, main
from vidclip.cli.parameters import Argument, Command, Option, argument, option


def commands() -> dict[str, click.Command]:
    """`eval`, `plot few-shot`, ... -> command."""
    found: dict[str, click.Command] = {}
    with click.Context(main) as ctx:
        for name in COMMANDS:
            made = main.get_command(ctx, name)
            if isinstance(made, click.Group):
                found.update({f"{name} {key}": own for key, own in made.commands.items()})
            else:
                found[name] = made
    return found


def options() -> list[tuple[str, Option]]:
    return [
        (name, parameter)
        for name, own in commands().items()
        for parameter in own.params
        if isinstance(parameter, click.Option)
    ]


EVERY = [pytest.param(name, each, id=f"{name} {each.opts[0]}") for name, each in options()]

ARGUMENTS = {
    "dataset check": ["ucf101", "--root", "."],
    "extract": ["videos"],
    "predict": ["a.mp4", "--head", "h"],
    "plot few-shot": ["shots.json"],
    "saliency": ["video", "a dog"],
    "merge": ["one", "two", "--output", "three"],
}
"""What a command cannot do without."""

WITHOUT_A_PART = {
    ("eval", "--split"): ["--protocol", "splits"],
    ("eval", "--attributes"): ["--protocol", "few-shot"],
    ("eval", "--head"): ["--protocol", "few-shot"],
    ("eval", "--as-released"): ["--protocol", "few-shot"],
    ("eval", "--prompt"): ["--protocol", "few-shot", "--classifier", "lda"],
    ("extract", "--position"): ["--mode", "dense"],
    ("fit", "--classifier"): ["--head", "attributes"],
    ("fit", "--temporal"): ["--head", "attributes"],
    ("fit", "--projection"): ["--head", "attributes"],
    ("fit", "--prompt-context"): ["--classifier", "lda"],
    ("fit", "--text-encoder"): ["--head", "attributes"],
    ("fit", "--pool"): ["--head", "attributes"],
    ("fit", "--shots"): ["--head", "attributes"],
    ("plot correlation", "--prompt"): ["--classifier", "lda"],
    ("plot correlation", "--train-split"): ["--classifier", "text"],
    ("plot correlation", "--seed"): ["--classifier", "text"],
    ("plot confusion", "--prompt"): ["--head", "h"],
}
"""Calls in which an option has no part, where it has one by default."""


def a_value(parameter: click.Option) -> list[str]:
    """One that the option takes."""
    name = parameter.opts[0]
    if parameter.is_flag:
        return [name]
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return [name, kind.choices[-1]]
    if isinstance(kind, click.Path):
        return [name, "."] if kind.exists else [name, "somewhere.png"]
    return [name, {"i/n": "0/2", "K|all": "1"}.get(kind.name, "1")]


def test_every_parameter_is_ours():
    for name, own in commands().items():
        assert isinstance(own, Command), f"{name}: made with vidclip_command"
        for parameter in own.params:
            assert isinstance(parameter, (Option, Argument)), (
                f"{name}: use option, argument of cli/parameters.py"
            )


@pytest.mark.parametrize(("name", "parameter"), [each for each in EVERY if each.values[1].needs])
def test_an_option_without_a_part_is_refused(name, parameter, tmp_path):
    spelt = parameter.opts[0]
    given = [*name.split(), *ARGUMENTS.get(name, []), *WITHOUT_A_PART.get((name, spelt), [])]
    done = vidclip(*given, *a_value(parameter), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{spelt} goes with {parameter.needs.words} alone: it has no part here" in done.stderr, done.stderr
    # Without it, the call is one: what is wrong then is that there is no cache, no video, no head.
    assert "no part here" not in vidclip(*given, cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("name", "parameter"),
    [each for each in EVERY if not (each.values[1].multiple or each.values[1].is_flag)],
)
def test_an_option_of_one_value_is_given_once(name, parameter, tmp_path):
    done = vidclip(*name.split(), *a_value(parameter), *a_value(parameter), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{parameter.opts[0]} is given twice" in done.stderr, done.stderr


@click.group(context_settings={"auto_envvar_prefix": "PROBE"})
def probe() -> None:
    pass


@probe.command(cls=Command)
@argument("source", nargs=-1)
@option("--pool", "pools", multiple=True, default=("mean",))
@option("--words", default="name", needs=with_option("--pool", "vcs"))
@option("--top", type=click.IntRange(1, 9), default=5, needs=with_option("--words", "all"))
@option("--renormalise/--no-renormalise", default=True)
def show(**values: object) -> None:
    click.echo(values)


def shown(*arguments: str, **environment: str):
    from click.testing import CliRunner

    return CliRunner().invoke(probe, ["show", *arguments], env=environment)


def test_variables_are_called_like_the_options():
    assert "('vcs',)" in shown(PROBE_SHOW_POOL="vcs").stdout
    assert "('mean', 'a prompt of {}')" in shown(PROBE_SHOW_POOL='["mean", "a prompt of {}"]').stdout
    assert "('two words',)" in shown(PROBE_SHOW_POOL="two words").stdout
    assert "('videos',)" in shown(PROBE_SHOW_SOURCE="videos").stdout
    assert "'renormalise': False" in shown(PROBE_SHOW_RENORMALISE="false").stdout
    assert "('mean',)" in shown(PROBE_SHOW_POOL="").stdout, "an empty variable is none"
    for text, why in (
        ("[mean]", "no list like"),
        ("[[1]]", "is not a text or a number"),
        ("[" * 9999, "deeply"),
    ):
        done = shown(PROBE_SHOW_POOL=text)
        assert done.exit_code == 2
        assert why in done.stderr
        assert "(from PROBE_SHOW_POOL)" in done.stderr


def test_an_option_that_rests_on_one_without_a_part_has_none_either():
    assert "'top': 3" in shown("--pool", "vcs", "--words", "all", "--top", "3").stdout
    refused = shown("--top", "3", PROBE_SHOW_WORDS="all")
    assert refused.exit_code == 2
    assert "--top goes with --words all alone" in refused.stderr


def test_a_variable_without_a_part_is_named_and_changes_nothing():
    done = shown(PROBE_SHOW_WORDS="all")
    assert done.exit_code == 0
    assert "'words': 'name'" in done.stdout
    assert "Note: PROBE_SHOW_WORDS has no part here: --words goes with --pool vcs alone." in done.stderr
    assert shown("--pool", "vcs", PROBE_SHOW_WORDS="all").stderr == ""


def test_settings_of_the_file_stand_where_they_have_a_part(tmp_path):
    """As in the demo's own file, which has settings of several protocols."""
    (tmp_path / "vidclip.toml").write_text('[eval]\nshots = [1, 2]\nwords = "all"\n')
    for protocol in ("full-classes", "few-shot"):
        done = vidclip("eval", "--protocol", protocol, cwd=tmp_path)
        assert "Make one with `vidclip extract`" in done.stderr, "only the cache is missing"


def test_unknown_variables_are_reported(tmp_path):
    done = vidclip("info", cwd=tmp_path, VIDCLIP_EVAL_POOLS="vcs")
    assert done.returncode == 2
    assert (
        "VIDCLIP_EVAL_POOLS, and no command has such an option. Did you mean VIDCLIP_EVAL_POOL?"
        in done.stderr
    )
    assert "is not one of" in vidclip("eval", cwd=tmp_path, VIDCLIP_EVAL_POOL="bogus").stderr
    json = vidclip("info", cwd=tmp_path, VIDCLIP_INFO_JSON="nowhere/x.json")
    assert "--json nowhere/x.json: nowhere is not a folder" in json.stderr
    assert "Make one with" in vidclip("info", cwd=tmp_path, VIDCLIP_PLOT_FEW_SHOT_OUTPUT="x.png").stderr
