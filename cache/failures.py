"""`failures.jsonl`: one line for each video that could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .files import append_line, folder_turn, write_whole
from .lines import read_lines, to_line
from .removed import Removed

FAILURES_FILE = "failures.jsonl"


@dataclass(frozen=True)
class Failure:
    """A video that is listed, but has no features."""

    id: str
    path: str
    stage: str
    """open, decode, timeout, crash, encode, ..."""
    reason: str
    """In words for a person."""
    source_bytes: int = -1
    """Size of the file when it could not be read; -1 where it is not known."""
    source_modified_ns: int = -1
    """When the file was last modified, in nanoseconds since 1970; -1 where it is not known."""
    generation: int = 0
    """Features of this video with a lower generation are those of a file that no longer exists."""
    reported: bool = False
    """Whether a finished extraction has reported it."""


def append_failure(folder: Path, failure: Failure) -> None:
    """Record a failure at once: it outlives a kill that follows."""
    with folder_turn(folder):
        append_line(folder / FAILURES_FILE, _line(failure))


def mark_reported(folder: Path, ids: Iterable[str]) -> None:
    """Mark failures as reported; the file is replaced whole."""
    with folder_turn(folder):
        failures = read_failures(folder)
        news = [id for id in ids if id in failures and not failures[id].reported]
        if news:
            failures |= {id: replace(failures[id], reported=True) for id in news}
            write_whole(
                folder / FAILURES_FILE, "".join(f"{_line(each)}\n" for each in failures.values()).encode()
            )


def rewrite_failures(folder: Path, removed: Mapping[str, Removed]) -> None:
    """Write the last failure of each video, without those that were taken out with their videos; within the folder's turn."""
    failures = read_failures(folder)
    kept = standing(failures.values(), removed)
    if len(kept) < len(failures):
        write_whole(folder / FAILURES_FILE, "".join(f"{_line(each)}\n" for each in kept).encode())


def standing(failures: Iterable[Failure], removed: Mapping[str, Removed]) -> list[Failure]:
    """Return the failures that are not older than the removal of their videos: those were taken out with them."""
    return [
        each for each in failures if each.id not in removed or each.generation >= removed[each.id].generation
    ]


def _line(failure: Failure) -> str:
    return to_line(asdict(failure))


def read_failures(folder: Path) -> dict[str, Failure]:
    """Return the last failure of every video that ever failed; a damaged line is skipped, and named in the log.

    Raises CacheError for a file that cannot be read.
    """
    return {failure.id: failure for failure in read_lines(folder / FAILURES_FILE, parse_failure)}


def parse_failure(values: dict[str, Any]) -> Failure:
    """Return a failure from a JSON object. Raises one of several errors for another form; see `lines.read_lines`."""
    id, path, stage, reason = (str(values[key]) for key in ("id", "path", "stage", "reason"))
    size, modified_ns, generation = (_number(values, *each) for each in _NUMBERS.items())
    reported = values.get("reported") is True
    return Failure(id, path, stage, reason, size, modified_ns, generation, reported)


_NUMBERS = {"source_bytes": -1, "source_modified_ns": -1, "generation": 0}
"""Keys that older lines lack, and the values that take their place."""


def _number(values: dict[str, Any], key: str, default: int) -> int:
    value = values.get(key, default)
    return value if type(value) is int and -(2**63) <= value < 2**63 else default
