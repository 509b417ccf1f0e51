"""`failures.jsonl`: one line a video that could not be read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .files import append_line

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


def append_failure(folder: Path, failure: Failure) -> None:
    """Records a failure at once: it outlives a kill that follows."""
    append_line(folder / FAILURES_FILE, json.dumps(asdict(failure)))


def read_failures(folder: Path) -> dict[str, Failure]:
    """The last failure of every video that ever failed; a line cut short by a crash is passed over."""
    failures: dict[str, Failure] = {}
    path = folder / FAILURES_FILE
    if not path.exists():
        return failures
    for line in path.read_bytes().splitlines():
        try:
            values = json.loads(line)
            failure = Failure(**{key: str(values[key]) for key in ("id", "path", "stage", "reason")})
        except (ValueError, KeyError, TypeError):
            continue
        failures[failure.id] = failure
    return failures
