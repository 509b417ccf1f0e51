"""Every command line of the recipes and the tasks is one that the program takes, and compares with figures that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from vidclip.cli.main import COMMANDS, main
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.datasets import find_dataset
from vidclip.pipeline.encoders import resolve_prompts
from vidclip.pipeline.evaluation import published_for

RECIPES = Path(__file__).parents[1] / "docs" / "recipes.md"
TASKS = RECIPES.with_name("tasks.md")


def command_lines(text: str) -> list[str]:
    """The lines of the shell blocks that run vidclip; those inside `for x in a b` once for each."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        variable, values = "", [""]
        for line in block.splitlines():
            if loop := re.fullmatch(r"for (\w+) in (.+); do", line.strip()):
                variable, values = f"${loop[1]}", loop[2].split()
            elif line.strip() == "done":
                variable, values = "", [""]
            elif line.strip():
                found += [
                    line.strip().replace(variable, value) if variable else line.strip() for value in values
                ]
    return found


LINES = command_lines(RECIPES.read_text(encoding="utf-8"))
FOLDERS = (
    "distilbert-base-uncased",
    "imagenet",
    "videos",
    "moved",
    "monday",
    "tuesday",
    "UCF",
    "clip_features",
)
"""Folders that lines of the pages name, and that click itself looks for."""
FILES = ("names.txt", "clip.mp4", "photo.jpg", "head.safetensors", "withdrawn.csv")
TASK_LINES = command_lines(TASKS.read_text(encoding="utf-8"))


def parse(line: str) -> tuple[str, click.Context]:
    """What click makes of a line, up to where the command would run. Raises click.UsageError."""
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "vidclip"
    context, name = click.Context(main), ""
    command: click.Command = main
    while isinstance(command, click.Group):
        name = f"{name} {words[0]}".strip()
        found = command.get_command(context, words.pop(0))
        assert found, f"there is no command {name}"
        command = found
    return name, command.make_context(name, words)


def test_the_recipes_have_command_lines():
    assert len(LINES) > 30
    names = {parse_name(line) for line in LINES}
    assert names == {
        "extract",
        "dataset check",
        "eval",
        "fit",
        "attributes",
        "finetune",
        "import-model",
        "cost",
    }


def test_each_of_the_twenty_tasks_has_command_lines():
    tasks = re.split(r"^\*\*(\d+)\. .+\*\*$", TASKS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert sorted(int(number) for number in tasks[::2]) == list(range(1, 21))
    assert [
        number for number, text in zip(tasks[::2], tasks[1::2], strict=True) if not command_lines(text)
    ] == []


def parse_name(line: str) -> str:
    first, second = (*line.split(), "")[1:3]
    return first if second.startswith("-") or first not in ("dataset", "plot") else f"{first} {second}"


@pytest.mark.parametrize("line", [*LINES, *TASK_LINES])
def test_a_command_line_of_the_recipes_and_tasks(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    for file in FILES:
        (tmp_path / file).write_text("yoga\n", encoding="utf-8")
    name, context = parse(line)
    given = context.params
    if given.get("lexicon"):
        load_lexicon(given["lexicon"])
    if given.get("dataset"):
        find_dataset(given["dataset"])
    if name == "eval":
        resolve_prompts(given["prompts"])
        for paper in given["papers"]:
            for protocol in given["protocols"]:
                dataset = load_lexicon(given["lexicon"]).name
                assert published_for((paper,), dataset, protocol, given["shots"]), (
                    f"{paper} prints nothing for {dataset} under {protocol}"
                )


def test_options_in_running_text_exist():
    text = "".join(page.read_text(encoding="utf-8") for page in (RECIPES, TASKS))
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    asked = set(re.findall(r"--[a-z][a-z-]+", prose))
    commands = [main.get_command(click.Context(main), name) for name in COMMANDS]
    flat = [
        sub
        for each in commands
        for sub in (each.commands.values() if isinstance(each, click.Group) else [each])
    ]
    known = {opt for each in flat for param in each.params for opt in (*param.opts, *param.secondary_opts)}
    assert asked - known == set()
    assert len(asked) > 10


@pytest.mark.parametrize(
    "line", ["vidclip eval --kompare bike", "vidclip eval --compare bikes", "vidclip fit --split train"]
)
def test_a_wrong_line_would_be_found(line):
    with pytest.raises(click.UsageError):
        parse(line)
