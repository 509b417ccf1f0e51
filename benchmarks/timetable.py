"""Sections of a benchmark within a budget of seconds: what is measured in time is printed at once, what is not is named.

A section has a share of the budget, and what sections before it left. Its cells run one after the other; the one that is
running when the time of the section is over is broken off.
"""

from __future__ import annotations

import faulthandler
import json
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeAlias

Value: TypeAlias = "float | str | None"
Row: TypeAlias = "dict[str, Value]"
GRACE = 10.0
"""Seconds beyond the budget after which the process is ended: something did not come back."""


class Cell(NamedTuple):
    """One line of a table."""

    name: str
    run: Callable[[], Row]
    """Measure it; the columns are the same in all cells of a section."""


@dataclass(frozen=True)
class Section:
    """What is measured together."""

    name: str
    title: str
    share: float
    """Its part of the budget, beside the shares of the others."""
    cells: Callable[[], Sequence[Cell]]
    """The most important one first; what takes time happens when they run."""


@dataclass
class Outcome:
    """What came of a section."""

    title: str
    rows: dict[str, Row] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Cells that went wrong, and how."""
    left_out: list[str] = field(default_factory=list)
    """Cells for which the time was too short."""
    seconds: float = 0.0


class OutOfTime(BaseException):
    """The time of a section is over. No Exception: whoever handles those must not handle this."""


def deadlines(shares: Mapping[str, float], budget: float) -> dict[str, float]:
    """Return when each section has to be done, in seconds from the start; the last at the end of the budget."""
    total, passed, found = sum(shares.values()), 0.0, {}
    for name, share in shares.items():
        passed += share
        found[name] = budget * passed / total
    return found


def run_sections(
    sections: Sequence[Section],
    budget: float,
    *,
    show: Callable[[str], None] = lambda line: print(line, flush=True),
    on_section: Callable[[dict[str, Outcome]], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Outcome]:
    """Run the sections, the most important one first, and show each line as it comes.

    on_section    called after each with all that there is
    """
    began, until = clock(), deadlines({section.name: section.share for section in sections}, budget)
    outcomes: dict[str, Outcome] = {}
    for section in sections:
        outcome = outcomes[section.name] = Outcome(section.title)
        show(f"\n{section.name}: {section.title}")
        start = clock()
        try:
            cells = section.cells()
        except Exception as error:
            _note_failure(outcome, "all", error, show)
        else:
            _run_cells(cells, outcome, began + until[section.name], show, clock)
        outcome.seconds = clock() - start
        show(f"  {_ending(outcome)}")
        on_section(outcomes)
    return outcomes


def _run_cells(
    cells: Sequence[Cell],
    outcome: Outcome,
    until: float,
    show: Callable[[str], None],
    clock: Callable[[], float],
) -> None:
    width = max(len(cell.name) for cell in cells)
    for number, cell in enumerate(cells):
        left = until - clock()
        try:
            if left <= 0:
                raise OutOfTime
            with time_limit(left):
                row = cell.run()
        except OutOfTime:
            outcome.left_out = [each.name for each in cells[number:]]
            return
        except Exception as error:
            _note_failure(outcome, cell.name, error, show)
            continue
        if not outcome.rows:
            show(f"  {'':{width}}{''.join(_column(name, name) for name in row)}")
        outcome.rows[cell.name] = row
        show(f"  {cell.name:{width}}{''.join(_column(name, value) for name, value in row.items())}")


@contextmanager
def last_resort(seconds: float) -> Iterator[None]:
    """End the process after these seconds and GRACE, wherever it is: for what no signal reaches, because it never returns
    to Python. It says where, and the exit status is 1."""
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _note_failure(outcome: Outcome, name: str, error: Exception, show: Callable[[str], None]) -> None:
    traceback.print_exception(error)
    outcome.failed[name] = f"{type(error).__name__}: {error}"
    show(f"  {name}: failed, {type(error).__name__}: {str(error).strip()[:200]}")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread, which this must be, when the time is over; as soon as Python code runs again."""

    def ring(*_: object) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _column(name: str, value: Value) -> str:
    return f"{format_value(value):>{max(len(name), 8) + 2}}"


def format_value(value: Value) -> str:
    """At least three digits of a number, and no more than are needed for it; `-` where there is none."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.2e}" if digits > 6 else f"{value:,.{max(0, digits)}f}"


def _ending(outcome: Outcome) -> str:
    told = f"{outcome.seconds:.0f} s"
    if outcome.left_out:
        told += f"; no time was left for {len(outcome.left_out)}: {', '.join(outcome.left_out)}"
    return told


def to_json(facts: Mapping[str, object], outcomes: Mapping[str, Outcome]) -> str:
    """Return one document of what was measured; what is not a number in JSON is null."""
    sections = {
        name: {
            "title": own.title,
            "seconds": round(own.seconds, 3),
            "rows": {
                cell: {key: _plain(value) for key, value in row.items()} for cell, row in own.rows.items()
            },
            "failed": own.failed,
            "left_out": own.left_out,
        }
        for name, own in outcomes.items()
    }
    return json.dumps({**facts, "sections": sections}, indent=1, allow_nan=False) + "\n"


def _plain(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, facts: Mapping[str, object], outcomes: Mapping[str, Outcome]) -> None:
    """Write the document, whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(to_json(facts, outcomes), encoding="utf-8")
    temporary.replace(path)


def finish(outcomes: Mapping[str, Outcome], seconds: float) -> None:
    """Say what is missing, and end with exit status 1 where something went wrong."""
    failed = [f"{name}: {cell}" for name, own in outcomes.items() for cell in own.failed]
    left_out = [f"{name}: {cell}" for name, own in outcomes.items() for cell in own.left_out]
    rows = sum(len(own.rows) for own in outcomes.values())
    print(f"\n{seconds:.0f} s: {rows} measured, {len(left_out)} left out, {len(failed)} failed", flush=True)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")
