"""`--quiet` and `--verbose`: heeded by every command, before or behind its name, from the file and the environment."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import click
import pytest

from helpers import vidclip, write_noisy_world
from vidclip.cli.main import COMMANDS, main
from vidclip.lexicons import load_lexicon

CLI = Path(__file__).parents[2] / "cli"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    names = load_lexicon("demo-classes").labels[:4]
    videos = [(f"{c}{i}.mp4", name, "test") for i in range(3) for c, name in enumerate(names)]
    write_noisy_world(folder / "features", videos, noise=3.0)
    (folder / "vidclip.toml").write_text('model = "demo"\n')
    return folder


CALLS = [
    ("attributes", "--lexicon", "hmdb51"),
    ("plot", "correlation", "--classifier", "random"),
    ("export", "features.npz"),
    ("verify",),
    ("merge", "features", "--output", "copy"),
    ("label", "--set", "00.mp4=tai chi"),
    ("remove", "10.mp4", "--yes"),
    ("remove", "--undo"),
]
"""Commands whose result is a file or nothing: with --quiet they print nothing."""


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call[:2]))
def test_quiet_says_nothing_where_the_result_is_a_file(world, call):
    done = vidclip(*call, "--quiet", cwd=world)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]


def test_results_and_warnings_and_errors_stay(world):
    shown, quiet = (vidclip("eval", *flag, cwd=world) for flag in ((), ("--quiet",)))
    assert quiet.returncode == 0
    assert quiet.stdout == shown.stdout != ""
    (world / "alike.txt").write_text("kicking a ball\nKicking a Ball\n")
    vague = ("eval", "--quiet", "--lexicon", "alike.txt", "--split", "all")
    assert "Error: " in vidclip(*vague, cwd=world).stderr
    assert "Error: " in vidclip("eval", "--quiet", "--cache", "nowhere", cwd=world).stderr
    alike = vidclip("saliency", "00.mp4", "a dog", "A Dog", "--quiet", cwd=world)
    assert alike.returncode == 0
    assert "Warning: " in alike.stderr, "two phrases of one embedding"


def test_notes_are_silent_with_quiet(world):
    idle = {"VIDCLIP_EVAL_WORDS": "all"}
    assert "Note: VIDCLIP_EVAL_WORDS has no part here" in vidclip("eval", cwd=world, **idle).stderr
    assert vidclip("eval", "-q", cwd=world, **idle).stderr == ""


def test_verbose_says_what_is_used_and_how_long_it_took(world):
    done = vidclip("eval", "--verbose", "--pool", "vcs", cwd=world, VIDCLIP_EVAL_SPLIT="test")
    details = [line for line in done.stderr.splitlines() if line.startswith("Detail: ")]
    for wanted in (
        "--pool: ('vcs',)",
        "--split (VIDCLIP_EVAL_SPLIT): test",
        "--model (vidclip.toml): ('demo',)",
        "features: 12 videos of demo",
        "text-labels-",
        " s in all, peak memory ",
    ):
        assert any(wanted in line for line in details), (wanted, done.stderr)
    assert done.stdout == vidclip("eval", "--pool", "vcs", cwd=world).stdout
    assert not logging.getLogger("vidclip").handlers
    assert "Detail: " not in vidclip("eval", cwd=world).stderr


def test_they_stand_before_the_name_of_the_command_too(world):
    assert vidclip("--quiet", "verify", cwd=world).stdout == ""
    assert "Detail: " in vidclip("-v", "verify", cwd=world).stderr
    assert vidclip("-q", "plot", "correlation", "--classifier", "random", cwd=world).stdout == ""


def test_the_nearer_one_counts(world, tmp_path):
    both = vidclip("verify", "--cache", world / "features", "--quiet", "--verbose", cwd=tmp_path)
    assert both.returncode == 2
    assert "--quiet and --verbose exclude each other" in both.stderr
    across = vidclip("--quiet", "verify", "--cache", world / "features", "--verbose", cwd=tmp_path)
    assert across.returncode == 2
    quiet = {"VIDCLIP_QUIET": "1"}
    assert vidclip("verify", "--cache", world / "features", cwd=tmp_path, **quiet).stdout == ""
    typed = vidclip("verify", "--cache", world / "features", "-v", cwd=tmp_path, **quiet)
    assert "all sound" in typed.stdout
    assert "Detail: " in typed.stderr
    assert (
        vidclip("verify", "--cache", world / "features", cwd=tmp_path, VIDCLIP_VERIFY_QUIET="1").stdout == ""
    )
    (tmp_path / "vidclip.toml").write_text("quiet = true\n")
    assert vidclip("verify", "--cache", world / "features", cwd=tmp_path).stdout == ""
    assert "all sound" in vidclip("verify", "--cache", world / "features", "-v", cwd=tmp_path).stdout
    own = vidclip("verify", "--cache", world / "features", cwd=tmp_path, VIDCLIP_VERIFY_VERBOSE="1")
    assert "Detail: " in own.stderr


def test_every_command_has_both():
    with click.Context(main) as ctx:
        made = [command for name in COMMANDS if (command := main.get_command(ctx, name))]
    every = [
        own for each in made for own in (each.commands.values() if isinstance(each, click.Group) else [each])
    ]
    assert len(every) > len(COMMANDS)
    for command in every:
        spelt = {each for parameter in command.params for each in parameter.opts}
        assert {"-q", "--quiet", "-v", "--verbose"} <= spelt, command.name


def test_what_goes_to_standard_error_goes_through_messages():
    """Elsewhere it would be said with --quiet too: only what is wrong with the call or its videos may be."""
    allowed = {"main.py", "messages.py", "verbosity.py", "confirm.py", "verify.py", "predict.py"}
    for file in sorted(CLI.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        loud = [call.lineno for call in calls if any(each.arg == "err" for each in call.keywords)
                and ast.unparse(call.func) == "click.echo"]  # fmt: skip
        assert not loud or file.name in allowed | {"progress.py"}, f"{file}:{loud}: use note or warn"
