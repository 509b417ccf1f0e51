"""Command lines that nobody should have typed: every command, every option, by asking the program what it takes.

A command begins with arguments that work and gets one to four options with values of all sorts; now and then a value
comes from the environment or from `vidclip.toml`. It may do what it was told (exit status 0), do it for some videos
(1), or refuse (2), in words for a person; and the cache must be as sound as before.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fixtures import World, contents, difference
from harness import Limits, Trial, vidclip

_WITHOUT = {"--debug", "--help"}
"""--debug shows tracebacks: that is what it is for."""
_WORK = {"--epochs", "--repeats", "--seeds", "--shots", "--count", "--workers"}
"""A million of these is no mistake that a program could know: it would be busy as long as it was told to."""
_NEVER = ("demo",)
"""Renders 900 videos however it is called."""
_WRITES = ("extract", "merge")

_SANE_NUMBERS = ("1", "1", "2", "2", "3", "4", "0.1", "0.5", "0.9")
_SANE_TEXTS = ("demo", "words.txt", "train", "test", "all", "bike", "cpu", "0/2", "1")
_SANE = {
    "--prompt": ("bike", "a video of {}", "none", "x-clip"),
    "--phrase-prompt": ("{}", "a photo of {}"),
    "--split": ("test", "train", "all"),
    "--train-split": ("train", "test"),
    "--lexicon": ("demo", "words.txt"),
    "--attributes": ("demo", "words.txt"),
    "--device": ("cpu", "auto"),
    "--model": ("demo",),
    "--root": ("videos",),
    "--head": ("text.safetensors", "transformer.safetensors"),
    "--retriever": ("cache", "sibling"),
    "--shots": ("1", "2", "all"),
    "--output": ("out.svg", "out.png", "out.safetensors"),
    "--png": ("out.png",),
    "--plot": ("out.png", "out.svg"),
    "name": ("demo", "k400", "words.txt"),
}
"""Values that some options do take."""
_SANE_PATHS = (
    "cache",
    "sibling",
    "videos",
    "list.csv",
    "words.txt",
    "text.safetensors",
    "transformer.safetensors",
    "out.svg",
    "out.json",
    "-",
)
_NUMBERS = (
    "-1",
    "0",
    "1",
    "2",
    "3",
    "1.5",
    "1e3",
    "nan",
    "inf",
    "-inf",
    "1e-320",
    "1e308",
    "",
    "x",
    "0x10",
    "٣",
    "1_000",
)
_LARGE = ("1000", "1000000", "1000000000000", "9" * 30, "9" * 5000)
_TEXTS = (
    "", "{}", "{", "}{", "{0}", "{x}", "{} {}", "%s", "\x1b[31mred\x07", "a\nb", "x" * 5000, "日本語", "\udcff", "None", "-", "--",
    "bike", "demo", "kinetics400", "k400", "ucf101", "all", "train", "test", "text4vis", "labels", "mean", "0/2", "1/1", "5/2",
    "0/999999999999", "cpu", "cuda:9", "meta", "mps", "auto", "juggling", "juggling/clip00.mp4", "local-dir:nowhere", "local-dir:",
)  # fmt: skip
_PATHS = (
    "cache", "sibling", "videos", "list.csv", "videos/juggling/clip00.mp4", "nowhere", "nowhere/deeper", "", ".",
    "..", "/dev/null", "/dev/full", "/proc/version", "/nonexistent/x", "words.txt", "empty.txt", "binary.bin", "text.safetensors",
    "transformer.safetensors", "attributes.safetensors", "result.json", "out", "out.png", "out.svg", "out/", "x" * 300, "a\nb.png",
    "\udcff.json", "-", "folder.json",
)  # fmt: skip


def case(world: World, rng: random.Random, folder: Path, limits: Limits) -> Iterator[Trial]:
    """One command line."""
    _furnish(world, folder)
    commands = _commands()
    name = rng.choice(sorted(commands))
    line = [*name.split(), *_working(name, world, rng)]
    options = [option for option in commands[name] if not _WITHOUT & set(option.opts)]
    chosen = rng.sample(options, min(len(options), rng.choice((1, 1, 1, 2, 2, 3, 4))))
    environment: dict[str, str] = {}
    toml: list[str] = []
    for option in chosen:
        spelt = rng.choice([*option.opts, *option.secondary_opts])
        value = _value(option, spelt, rng)
        place = rng.random()
        if place < 0.07 and value is not None and "\0" not in value:
            variable = re.sub(r"\W", "_", spelt.lstrip("-")).upper()
            environment[f"VIDCLIP_{name.upper().replace(' ', '_').replace('-', '_')}_{variable}"] = value
        elif place < 0.14:
            try:
                toml.append(f"{spelt.lstrip('-')} = {json.dumps(value or True)}")
                (folder / "vidclip.toml").write_text(
                    f"[{name.split()[0]}]\n" + "\n".join(toml) + "\n", "utf-8"
                )
            except UnicodeEncodeError:
                continue
        elif not spelt.startswith("-"):
            line.append(value or "")
        else:
            if spelt in line and not option.multiple and rng.random() < 0.9:  # in the place of what works
                at = line.index(spelt)
                del line[at : at + 2]
            line += [spelt] if value is None else [spelt, value]
    if rng.random() < 0.07:
        line.insert(rng.randrange(len(line) + 1), rng.choice((*_TEXTS, "--nonsense", "-x", "--cache")))
    before = contents(folder / "cache")
    done = vidclip(*line, folder=folder, limits=limits, environment=environment)
    wrong = done.complaint
    if not wrong and done.status == 2 and len(done.stderr) > 20_000:
        wrong = f"an error of {len(done.stderr):,} characters"
    if not wrong:
        wrong = next(
            (
                f"NaN in {path.name}"
                for path in folder.glob("*.json")
                if re.search(r"\bNaN\b|Infinity", _text(path))
            ),
            "",
        )
    if not wrong:
        wrong = _cache_changed(name, before, folder)
    shown = " ".join(_short(word) for word in line)
    shown += "".join(f" {key}={_short(value)}" for key, value in environment.items())
    shown += f" [toml: {_short('; '.join(toml))}]" if toml else ""
    outcome = {0: "done", 1: "done in part", 2: "refused", 130: "interrupted"}.get(
        done.status, "ended otherwise"
    )
    yield Trial(name, "wrong" if wrong else outcome, f"`{shown}`: {wrong}" if wrong else "")


def _commands() -> dict[str, list[Any]]:
    """Each command and what it takes, as click knows it."""
    import click

    from vidclip.cli.main import main

    found: dict[str, list[Any]] = {}
    context = click.Context(main)

    def walk(prefix: str, command: click.Command | None) -> None:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                walk(f"{prefix} {name}".strip(), command.get_command(context, name))
        elif command is not None and prefix not in _NEVER:
            found[prefix] = list(command.params)

    walk("", main)
    return found


_TRAINED = ("--epochs", "1", "--seeds", "1")
_EVAL: tuple[tuple[str, ...], ...] = (
    *((), ("--pool", "vcs"), ("--attributes", "demo"), ("--head", "text.safetensors")),
    *(("--protocol", "half-classes", "--repeats", "2"), ("--protocol", "multi-label")),
    ("--protocol", "few-shot", "--shots", "1", *_TRAINED),
    ("--protocol", "general", "--temporal", "conv", *_TRAINED),
)


def _working(name: str, world: World, rng: random.Random) -> list[str]:
    """Arguments with which a command does something quick."""
    cache = ["--cache", "cache"]
    known = {
        "extract": ["list.csv", "--root", str(world.videos), "--allow-missing", *cache, *world.encoder],
        "eval": [*cache, *rng.choice(_EVAL)],
        "attributes": [*cache, "--lexicon", "demo"],
        "fit": [*cache, "--epochs", "1", "--output", "out.safetensors"],
        "predict": [
            str(world.videos / "juggling" / "clip00.mp4"),
            "--head",
            "text.safetensors",
            "--workers",
            "1",
        ],
        "saliency": ["clip00.mp4", "a red ball", *cache],
        "info": ["cache"],
        "verify": cache,
        "merge": ["sibling", "--output", "merged"],
        "plot correlation": cache,
        "plot few-shot": ["shots.json"],
        "plot confusion": cache,
        "dataset check": ["ucf101", "--root", "videos"],
    }
    return known.get(name, [])


def _furnish(world: World, folder: Path) -> None:
    for name in ("cache", "sibling"):
        world.copy_cache(name, folder / name)
    (folder / "videos").symlink_to(world.videos)
    for name in (
        "list.csv",
        "text.safetensors",
        "transformer.safetensors",
        "attributes.safetensors",
        "shots.json",
    ):
        (folder / name).write_bytes((world.folder / name).read_bytes())
    (folder / "words.txt").write_text("juggling\nrowing\nsinging\n")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 20)
    (folder / "folder.json").mkdir()


def _value(option: Any, spelt: str, rng: random.Random) -> str | None:
    """A value for an option, right or absurd; None for a flag."""
    import click

    if getattr(option, "is_flag", False):
        return None
    kind, sane = option.type, rng.random() < 0.7
    if sane and spelt in _SANE:
        return rng.choice(_SANE[spelt])
    if isinstance(kind, click.Choice) and sane:
        return str(rng.choice(kind.choices))
    if isinstance(kind, click.Choice):
        return str(rng.choice([*kind.choices, *kind.choices, "nonsense", "", str(kind.choices[0]).upper()]))
    if isinstance(kind, click.Path):
        return rng.choice(_SANE_PATHS if sane else _PATHS)
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType) or spelt in _WORK:
        if sane:
            return rng.choice(_SANE_NUMBERS)
        return rng.choice(_NUMBERS if spelt in _WORK else (*_NUMBERS, *_LARGE))
    if sane:
        return rng.choice(_SANE_TEXTS)
    return rng.choice((*_TEXTS, *_TEXTS, *_PATHS, *_NUMBERS))


def _cache_changed(name: str, before: dict[str, Any], folder: Path) -> str:
    """What is wrong with the cache afterwards; empty where nothing is."""
    try:
        after = contents(folder / "cache")
    except Exception as error:
        return f"the cache cannot be read any more: {error}"
    if name in _WRITES:
        gone = [video for video in before["videos"] if video not in after["videos"]]
        return f"videos are gone from the cache: {gone[:3]}" if gone else ""
    before, after = ({**each, "files": None} for each in (before, after))
    return difference(after, before)


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def _short(word: str) -> str:
    word = word.encode("utf-8", "backslashreplace").decode()
    return (
        repr(word if len(word) <= 60 else f"{word[:40]}...")
        if not re.fullmatch(r"[\w./:=-]{1,60}", word)
        else word
    )
