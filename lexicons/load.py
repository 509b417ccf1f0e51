"""Finds a lexicon by its name, or reads one from a text file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .lexicon import CONTROL, Lexicon, LexiconError, close_names, loose
from .registry import ABSENT, ENTRIES, Entry

# A phrase has at most some dozens of words: a longer line, or a larger file, is something else.
_LONGEST_LINE = 2_000
_LARGEST_FILE_BYTES = 1 << 30

_MESSAGES_SHOWN = 5


class LexiconInfo(NamedTuple):
    """A lexicon that comes with vidclip, as a list shows it."""

    name: str
    aliases: tuple[str, ...]
    n_entries: int
    description: str


def available_lexicons() -> list[LexiconInfo]:
    """The lexicons that `load_lexicon` knows by name, in the order of the registry."""
    return [
        LexiconInfo(entry.name, entry.aliases, len(load_lexicon(entry.name)), entry.description)
        for entry in ENTRIES
    ]


def load_lexicon(name_or_path: str | Path) -> Lexicon:
    """A lexicon by its name or alias (``kinetics400``, ``k400``), or from a text file of one's own.

    Names come first: write ``./k400`` for a file of that name. In a file, UTF-8, each line is one
    entry, in the order of the class indices: either a phrase, or ``label<TAB>phrase`` where the data
    set spells the class in another way. Blank lines are skipped, and white space around an entry is
    removed. Everything else stands for itself: there are no comments, because names such as
    ``#1 fan`` exist, and markup such as ``[b]`` is kept. A byte order mark and CRLF line ends are
    tolerated. A ``.json`` file is an object of class names and their numbers from 0, as Something-Something v2 is published
    with: ``{"Holding something": "17", ...}``.

    Raises LexiconError for an unknown name, and for a file that is missing, empty, not UTF-8 text,
    or says the same label twice; the message names the line.
    """
    if isinstance(name_or_path, str) and (entry := _entries_by_key().get(_key(name_or_path))):
        return _load_entry(entry)
    if not str(name_or_path).strip():
        raise LexiconError(f"The name of the lexicon is blank. Known: {_known_names()}.")
    path = Path(name_or_path)
    absent = None if isinstance(name_or_path, Path) else absent_name(name_or_path)
    if absent and not path.exists():
        raise LexiconError(
            f"The class names of {absent} do not come with vidclip, and those of no other list are used in their place. "
            "Give the path of a text file with one phrase a line, or of its own label file in JSON "
            '({"Holding something": "17", ...}), if it has one.'
        )
    try:
        if path.is_file():
            return _read_file(path, name=path.stem, source=str(path))
        if path.is_dir():
            raise LexiconError(f"{path} is a folder; a lexicon is a text file with one phrase a line.")
    except OSError as error:
        raise LexiconError(f"The lexicon {path} cannot be read: {error.strerror or error}.") from error
    if isinstance(name_or_path, Path) or path.suffix or len(path.parts) > 1:
        raise LexiconError(
            f"There is no lexicon file {str(name_or_path)!r}. Give the path of a text file with one phrase "
            f"a line, or one of the names {_known_names()}."
        )
    close = close_names(_key(name_or_path), _entries_by_key())
    meant = dict.fromkeys(_entries_by_key()[key].name for key in close)
    hint = f" Did you mean {' or '.join(meant)}?" if meant else ""
    raise LexiconError(
        f"There is no lexicon called {name_or_path!r}.{hint} Known: {_known_names()}; "
        f"or give the path of a text file with one phrase a line."
    )


def _known_names() -> str:
    return ", ".join(entry.name for entry in ENTRIES)


def absent_name(name: str) -> str | None:
    """The data set that is meant, where it is one that does not come with vidclip (see `registry.ABSENT`)."""
    return next(
        (entry for entry, also in ABSENT.items() if _key(name) in map(_key, (entry, *also.split()))), None
    )


def _key(name: str) -> str:
    return loose(name).replace("-", "")


@lru_cache(maxsize=1)
def _entries_by_key() -> dict[str, Entry]:
    return {_key(name): entry for entry in ENTRIES for name in (entry.name, *entry.aliases)}


@lru_cache(maxsize=len(ENTRIES))
def _load_entry(entry: Entry) -> Lexicon:
    return _read_file(Path(__file__).with_name(f"{entry.name}.txt"), name=entry.name, source=entry.source)


def _read_file(path: Path, *, name: str, source: str) -> Lexicon:
    n_bytes = path.stat().st_size
    if n_bytes > _LARGEST_FILE_BYTES:
        raise LexiconError(
            f"{path} has {n_bytes / 2**30:.1f} GiB, too much for a lexicon: "
            f"a lexicon is a text file with one phrase a line, of at most 1 GiB."
        )
    text = _decoded(path, path.read_bytes())
    if path.suffix.lower() == ".json":
        names = _numbered_names(path, text)
        return Lexicon(name=name, phrases=names, labels=names, source=source)
    labels: list[str] = []
    phrases: list[str] = []
    line_of_label: dict[str, int] = {}
    repeated: list[str] = []
    # Only the line ends of text files count: str.splitlines would also cut at characters inside names.
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if not line or line.isspace():
            continue
        label, phrase = _label_and_phrase(path, number, line)
        earlier = line_of_label.setdefault(label, number)
        if earlier != number:
            repeated.append(f"{label!r} on lines {earlier} and {number}")
        labels.append(label)
        phrases.append(phrase)
    if repeated:
        raise LexiconError(
            f"{path} says the same label twice: {_first(repeated)}. Remove one of the lines, or tell "
            f"them apart with a label and a TAB before the phrase."
        )
    if not labels:
        raise LexiconError(f"{path} is empty; a lexicon has one phrase a line.")
    return Lexicon(name=name, phrases=tuple(phrases), labels=tuple(labels), source=source)


def _numbered_names(path: Path, text: str) -> tuple[str, ...]:
    """Return the names of a JSON object {name: number}, in the order of the numbers: each from 0 once."""
    form = 'a JSON lexicon is an object of names and their numbers, such as {"Holding something": "0"}'

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, _ in pairs if [each for each, _ in pairs].count(key) > 1)
            raise LexiconError(f"{path} says the name {twice!r} twice: remove one of them.")
        return found

    try:
        document = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, LexiconError):
            raise
        raise LexiconError(f"{path} is not JSON that can be read ({error}); {form}.") from error
    if not isinstance(document, dict) or not document:
        raise LexiconError(f"{path}: {form}.")
    by_number: dict[int, str] = {}
    for name, number in document.items():
        digits = number if isinstance(number, str) else str(number) if type(number) is int else ""
        place = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else -1
        if not 0 <= place < len(document):
            raise LexiconError(
                f"{path} gives {name!r} the number {number!r}, where {len(document)} names have 0 to {len(document) - 1}; {form}."
            )
        other = by_number.setdefault(place, name)
        if other != name:
            raise LexiconError(f"{path} gives {other!r} and {name!r} the same number {place}.")
    return tuple(by_number[place].strip() for place in range(len(document)))


def _decoded(path: Path, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LexiconError(f"{path}, line 1: this is UTF-16 text; save the file as UTF-8.")
    if b"\0" in content:
        raise LexiconError(f"{path} is a binary file; a lexicon is a UTF-8 text file with one phrase a line.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Positions count from behind the byte order mark, which `object` lacks too.
        number = error.object[: error.start].count(b"\n") + 1
        raise LexiconError(
            f"{path}, line {number}: not UTF-8 text (byte 0x{error.object[error.start]:02x}); "
            f"save the file as UTF-8."
        ) from error


def _label_and_phrase(path: Path, number: int, line: str) -> tuple[str, str]:
    if len(line) > _LONGEST_LINE:
        raise LexiconError(
            f"{path}, line {number} has {len(line):,} characters; a lexicon has one phrase a line, "
            f"of at most {_LONGEST_LINE:,} characters."
        )
    cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else [line.strip()]
    if len(cells) > 2 or not all(cells):
        raise LexiconError(
            f"{path}, line {number} is {line!r}; a line is a phrase, or a label, one TAB and a phrase."
        )
    label, phrase = cells[0], cells[-1]
    for cell in cells:
        if found := CONTROL.search(cell):
            raise LexiconError(
                f"{path}, line {number} holds the control character U+{ord(found.group()):04X}: remove it."
            )
    return label, phrase


def _first(messages: Iterable[str]) -> str:
    messages = list(messages)
    more = len(messages) - _MESSAGES_SHOWN
    return "; ".join(messages[:_MESSAGES_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
