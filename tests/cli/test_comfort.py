"""`-h`, completion, and terminals of 60 columns."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from helpers import vidclip, write_noisy_world
from vidclip.cli.main import COMMANDS, main
from vidclip.lexicons import available_lexicons, load_lexicon


@pytest.mark.parametrize("command", ["", *COMMANDS, "plot few-shot", "dataset check"])
def test_h_is_help(command):
    short, long = (vidclip(*command.split(), option) for option in ("-h", "--help"))
    assert short.returncode == 0
    assert short.stdout == long.stdout
    assert "-h, --help" in short.stdout


def completed(line: list[str], incomplete: str) -> list[str]:
    shell = ShellComplete(main, {"auto_envvar_prefix": "VIDCLIP"}, "vidclip", "_VIDCLIP_COMPLETE")
    return [item.value for item in shell.get_completions(line, incomplete)]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    names = load_lexicon("demo-classes").labels[:6]
    videos = [
        (f"a_long_name_of_a_folder/{c}{i}.mp4", name, split)
        for split, i in (("val", 0), ("test", 1), ("test", 2))
        for c, name in enumerate(names)
    ]
    write_noisy_world(folder / "features", videos, noise=3.0)
    (folder / "vidclip.toml").write_text('model = "demo"\n')
    return folder


def test_values_are_completed(world, monkeypatch, tmp_path):
    monkeypatch.chdir(world)
    assert "half-classes" in completed(["eval", "--protocol"], "ha")
    assert completed(["eval", "--lexicon"], "") == sorted(info.name for info in available_lexicons())
    assert completed(["eval", "--lexicon"], "hmdb51") == ["hmdb51", "hmdb51-zh"]
    assert completed(["eval", "--split"], "") == ["all", "test", "val"]
    assert completed(["predict", "--calibrate"], "v") == ["val"]
    assert {"ViT-B-16", "ViT-B-32"} <= set(completed(["extract", "--model"], "ViT-B"))
    assert completed(["extract", "--model"], "demo") == ["demo", "demo-vit"]
    monkeypatch.chdir(tmp_path)
    assert completed(["eval", "--split"], "") == [], "there is no cache"
    assert completed(["eval", "--cache", str(world / "features"), "--split"], "t") == ["test"]


def test_completion_imports_no_torch(world):
    code = (
        "import sys; from click.shell_completion import ShellComplete; from vidclip.cli.main import main\n"
        "shell = ShellComplete(main, {}, 'vidclip', '_VIDCLIP_COMPLETE')\n"
        "for option in ('--lexicon', '--split', '--model'): assert shell.get_completions(['eval', option], '')\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=world, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "whole"),
    [
        (["eval", "--split", "test", "--pool", "mean", "--pool", "vcs", "--per-class"], ["mean", "vcs", "chance"]),
        (["predict", "--split", "test", "--top", "2", "--threshold", "0.9"], ["none of these", "kicking a"]),
        (["info"], ["videos", "encoder", "sampling"]),
    ],
)  # fmt: skip
def test_a_terminal_of_60_columns(world, command, whole):
    """On a terminal, tables fold into its width, and nothing of them is cut off."""
    parent, child = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "vidclip.cli", *command], cwd=world, stdout=child, stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(child)
    pieces = []
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # Linux says so that the other side is closed
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(parent)
    assert done.stderr is not None
    error = done.stderr.read().decode()
    done.stderr.close()
    assert done.wait() == 0, error
    text = re.sub(r"\x1b\[[0-9;]*m", "", b"".join(pieces).decode())
    for each in whole:
        assert each in text
    assert "…" not in text
    if command != ["info"]:
        tables = [line for line in text.splitlines() if "─" in line]
        assert tables
        assert max(map(len, tables)) <= 60
