"""Damaged and hostile caches: whatever a command prints of one must be what it prints of the sound one, or be refused,
or come with a warning; and where `vidclip verify` calls a cache sound, all commands must print just that.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from damage import ANYWHERE
from fixtures import World, contents
from harness import GIB, Limits, Outcome, Trial, vidclip
from hostile import HOSTILE, as_version1

_MEMORY = GIB // 2
"""More than this above the imported program is too much for any cache of a few kilobytes."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("info", "cache", "--json", "result"),
    "eval": ("eval", "--cache", "cache", "--json", "result"),
    "eval, attributes": (
        *("eval", "--cache", "cache", "--pool", "vcs", "--prompt", "text4vis", "--attributes", "demo"),
        *("--json", "result"),
    ),
    "eval, few-shot": (
        *("eval", "--cache", "cache", "--protocol", "few-shot", "--classifier", "lda", "--shots", "2"),
        *("--seeds", "1", "--json", "result"),
    ),
    "attributes": ("attributes", "--cache", "cache", "--lexicon", "demo", "--json", "result"),
    "fit": (
        *("fit", "--cache", "cache", "--classifier", "text", "--epochs", "1"),
        *("--output", "result"),
    ),
    "saliency": ("saliency", "clip00.mp4", "a red ball", "--cache", "cache"),
    "plot": ("plot", "correlation", "--cache", "cache", "--classifier", "lda", "--output", "result.svg"),
    "merge": ("merge", "cache", "--output", "merged"),
    "merge into another": ("merge", "sibling", "cache", "--output", "merged"),
}
"""What is done with a damaged cache beside `verify`."""

Result = tuple[int, object, frozenset[str]]
"""Exit status, what came out, and the lines on standard error."""


class SoundResults:
    """What the commands make of the sound cache; computed when it is asked for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found: dict[str, Result] = {}

    def __call__(self, name: str, folder: Path) -> Result:
        """By a process in its `folder`."""
        if name not in self._found:
            work = folder / "sound"
            _copy(self._world, work)
            self._found[name], done = _result(name, work, Limits(300))
            if done.complaint or done.status:
                raise RuntimeError(f"{name}: {done.status} {done.stdout} {done.stderr}")
            shutil.rmtree(work)
        return self._found[name]


def case(
    world: World, sound: SoundResults, rng: random.Random, folder: Path, limits: Limits
) -> Iterator[Trial]:
    """One damaged cache; verify, and three commands."""
    _copy(world, folder)
    cache = folder / "cache"
    version1 = rng.random() < 0.25
    if version1:
        as_version1(cache)
    before = _bytes(cache)
    hostile = rng.choice([*HOSTILE]) if rng.random() < 0.3 else ""
    if hostile:
        what = f"hostile: {hostile}"
        HOSTILE[hostile](world, cache, rng)
    else:
        what = _damage(world, cache, rng) + (" (version 1)" if version1 else "")
    changed = sorted(name for name, data in _bytes(cache).items() if before.get(name) != data)
    changed += sorted(before.keys() - _bytes(cache).keys())
    where = ", ".join(changed) or "nothing"

    verified = vidclip("verify", "--cache", "cache", folder=folder, limits=limits)
    if wrong := _always_wrong(verified):
        yield Trial(what, "wrong", f"verify ({where}): {wrong}")
        return
    outcomes = []
    # Embeddings may be there or not, and a file says what it holds, whatever it is called: only what lists files
    # shows these.
    listed = what.startswith(("gone", "copied beside itself", "swapped with another"))
    for name in rng.sample(list(COMMANDS), 3):
        _, expected, known_lines = sound(name, folder)
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(cache, work / "cache", symlinks=True)
        shutil.copytree(folder / "sibling", work / "sibling")
        (status, value, lines), done = _result(name, work, limits)
        outcome = "refused"
        written = work / "result"
        wrong = _always_wrong(done, written.read_bytes() if written.exists() else b"")
        if not wrong and status == 0:
            outcome = "the same result"
            if (_without_texts(value) != _without_texts(expected)) if listed else value != expected:
                outcome = "another result, with a warning"
                if hostile:  # checksums are right: it is another cache
                    outcome = "taken as it is"
                elif not lines - known_lines:
                    wrong = f"another result without a word: {_shortened(value, expected)}"
        if not wrong and outcome != "the same result" and verified.status == 0 and not hostile:
            wrong = f"{outcome}, though verify calls the cache sound ({done.last_line})"
        if wrong:
            yield Trial(what, "wrong", f"{name} ({where}): {wrong}")
            return
        outcomes.append(outcome)
    order = ("taken as it is", "another result, with a warning", "refused", "the same result")
    yield Trial(what, next(outcome for outcome in order if outcome in outcomes))


def _always_wrong(done: Outcome, result: bytes = b"") -> str:
    if done.complaint:
        return done.complaint
    if b"NaN" in result:
        return "NaN in a result"
    if re.search("(?i)not enough memory|cannot allocate|memoryerror", done.stderr):
        return f"asks for all memory there is: {done.last_line}"
    if done.grown_bytes > _MEMORY:
        return f"takes {done.grown_bytes / GIB:.1f} GiB"
    return ""


def _result(name: str, work: Path, limits: Limits) -> tuple[Result, Outcome]:
    done = vidclip(*COMMANDS[name], folder=work, limits=limits)
    value: object = None
    if done.status == 0 and not done.complaint:
        value = re.sub(r"\d[\d,.]* [kMG]?B\b", "", done.stdout)
        for path in (work / "result", work / "result.svg"):
            if path.exists():
                value = path.read_bytes()
        if name == "info":
            value = {k: v for k, v in json.loads((work / "result").read_text()).items() if k != "bytes"}
        elif name.startswith("merge"):
            value = contents(work / "merged")
        elif name == "plot":  # matplotlib writes the time, and names of its own
            value = re.sub(
                rb"<dc:date>.*?</dc:date>|[a-z]\w{10}(?=[\"\)])", b"", (work / "result.svg").read_bytes()
            )
    return (done.status, value, frozenset(done.stderr.splitlines())), done


def _copy(world: World, to: Path) -> None:
    for name in ("cache", "sibling"):
        world.copy_cache(name, to / name)


def _bytes(cache: Path) -> dict[str, bytes]:
    """The regular files: a link may lead to a device without end."""
    return {
        path.name: path.read_bytes() for path in cache.iterdir() if path.is_file() and not path.is_symlink()
    }


def _without_texts(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: inner for key, inner in value.items() if key not in ("texts", "files", "shards")}


def _shortened(found: object, expected: object) -> str:
    """Where two results differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
        return "; ".join(_shortened(found.get(key), expected.get(key)) for key in keys[:1])
    a, b = str(found), str(expected)
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"...{a[max(0, at - 40) : at + 60]!r} instead of ...{b[max(0, at - 40) : at + 60]!r}"


# ---- what is done to it


def _damage(world: World, cache: Path, rng: random.Random) -> str:
    """Damages the cache; returns what was done."""
    files = sorted(path for path in cache.iterdir() if path.is_file() and path.stat().st_size)
    what = rng.choice([*ANYWHERE] * 2 + [*_WHOLE_FILES])
    path = rng.choice(files)
    if what in ANYWHERE:
        data = bytearray(path.read_bytes())
        ANYWHERE[what](data, rng)
        path.write_bytes(data)
    else:
        _WHOLE_FILES[what](world, cache, path, rng)
    return f"{what}, {re.split(r'[-.]', path.name)[0]}"


def _swap(_: World, cache: Path, path: Path, rng: random.Random) -> None:
    """Two files of one sort change names: shards may, text files say other phrases than their names."""
    same = sorted(other for other in cache.glob(f"*{path.suffix}") if other != path)
    other = rng.choice(same or [path])
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


def _of_a_stranger(world: World, cache: Path, path: Path, _: random.Random) -> None:
    """A file of another cache, of another sampling, under this one's name."""
    sort = re.split(r"[-.]", path.name)[0]
    others = sorted((world.folder / "stranger").glob(f"{sort}*")) or [
        world.folder / "stranger" / "cache.json"
    ]
    shutil.copyfile(others[0], cache / path.name)


def _twice(_: World, cache: Path, path: Path, __: random.Random) -> None:
    """A copy beside it, as a careless hand leaves it."""
    shutil.copyfile(path, cache / f"{path.stem} (copy){path.suffix}")


def _gone(_: World, cache: Path, __: Path, rng: random.Random) -> None:
    """A file that can be made again, or whose loss nobody can notice but the one who counts: not a shard."""
    rng.choice([*cache.glob("text-*"), *cache.glob("attributes-*"), cache / "cache.json"]).unlink()


def _folder(_: World, __: Path, path: Path, ___: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _link(_: World, __: Path, path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/nowhere", path.name, "/proc/self/mem")))


_WHOLE_FILES: dict[str, Callable[[World, Path, Path, random.Random], None]] = {
    "swapped with another": _swap,
    "a stranger's": _of_a_stranger,
    "copied beside itself": _twice,
    "gone": _gone,
    "a folder in its place": _folder,
    "a link in its place": _link,
}
