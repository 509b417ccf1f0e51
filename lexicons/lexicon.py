"""A lexicon: an ordered list of classes or phrases, and how a name finds its place in it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

# Control characters would end a line, split a cell, or steer the terminal that prints the name.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Comparing a misspelt name with each of a million phrases takes many seconds: it is left out there.
_MOST_NAMES_COMPARED = 20_000


class LexiconError(ValueError):
    """A lexicon that cannot be found or read, or a name that is not in it."""


@dataclass(frozen=True)
class Lexicon:
    """Phrases in their official order; the position of a phrase is its class index.

    Raises LexiconError when it has no entry, when phrases and labels differ in number, when one of
    them is blank or holds a control character, or when a label stands twice.
    """

    name: str
    """Canonical name, such as ``kinetics400``; for a file of one's own, its name without the suffix."""

    phrases: tuple[str, ...]
    """What is said to the text encoder."""

    labels: tuple[str, ...]
    """The data set's own spelling of each phrase, in the same order; no label stands twice."""

    source: str = field(default="", compare=False)
    """Where the list comes from: a publication, or the path of a file."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "phrases", tuple(self.phrases))
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(self.phrases) != len(self.labels):
            raise LexiconError(
                f"Lexicon {self.name} has {len(self.phrases)} phrases but {len(self.labels)} labels: "
                f"give one label for each phrase."
            )
        if not self.labels:
            raise LexiconError(f"Lexicon {self.name} is empty: it needs at least one phrase.")
        for kind, texts in (("phrase", self.phrases), ("label", self.labels)):
            for position, text in enumerate(texts):
                if not text or text.isspace():
                    raise LexiconError(f"Lexicon {self.name}: {kind} {position} is blank.")
                if CONTROL.search(text):
                    raise LexiconError(
                        f"Lexicon {self.name}: {kind} {position}, {text!r}, holds a control character."
                    )
        if len(self._positions) != len(self.labels):
            first: dict[str, int] = {}
            for position, label in enumerate(self.labels):
                if first.setdefault(label, position) != position:
                    raise LexiconError(
                        f"Lexicon {self.name} has the label {label!r} twice, "
                        f"at positions {first[label]} and {position}: each class needs a label of its own."
                    )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over labels and phrases in their order; name and source do not count.

        It is the digest of the lexicon written as a file with a line ``label<TAB>phrase`` for each
        entry, in UTF-8. Two lexicons of the same digest say the same to an encoder.
        """
        lines = (f"{label}\t{phrase}\n" for label, phrase in zip(self.labels, self.phrases, strict=True))
        # Labels that are folder names may hold undecodable bytes, as lone surrogates.
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def short_digest(self) -> str:
        """The first 12 characters of the digest: short enough for the name of a file."""
        return self.digest[:12]

    def find(self, label: str) -> tuple[int, ...]:
        """Positions of the classes that a name may mean; empty when it means none.

        Tried in this order, and the first that finds something decides: the label as it is, the phrase
        as it is, then either of them without regard to case, spaces and underscores (``air_drumming``
        finds "air drumming", ``HandStandPushups`` finds "HandstandPushups").
        """
        if (position := self._positions.get(label)) is not None:
            return (position,)
        return self._phrase_positions.get(label) or self._loose_positions.get(loose(label), ())

    def index(self, label: str) -> int:
        """Position of the one class that a name means, as `find` looks for it.

        Raises LexiconError when there is none, with the closest names, and when there are several.
        """
        found = self.find(label)
        if len(found) == 1:
            return found[0]
        if found:
            raise LexiconError(
                f"{label!r} may be any of {listed([self.labels[i] for i in found])} "
                f"in the lexicon {self.name}: use one of these labels."
            )
        close = self.close_labels(label)
        hint = f" Closest: {listed(close)}." if close else ""
        raise LexiconError(f"{label!r} is not in the lexicon {self.name} ({len(self)} names).{hint}")

    def resolve(self, labels: Iterable[str]) -> list[int]:
        """Positions of several classes, in the order asked; raises as `index` does."""
        known: dict[str, int] = {}
        positions = []
        for label in labels:
            if (position := known.get(label)) is None:
                position = known[label] = self.index(label)
            positions.append(position)
        return positions

    def close_labels(self, label: str, count: int = 3) -> list[str]:
        """Labels that read most like a misspelt one, best first; none when the lexicon is very long."""
        if len(self) > _MOST_NAMES_COMPARED:
            return []
        keys = close_names(loose(label), self._loose_positions, count=count)
        found = dict.fromkeys(i for key in keys for i in self._loose_positions[key])
        return [self.labels[i] for i in found][:count]

    def ambiguous(self) -> list[tuple[int, int]]:
        """Pairs of positions whose phrases a text encoder cannot tell apart.

        Case and the amount of white space are ignored, as CLIP's tokenizer ignores them. Each later
        entry is paired with the first that reads the same; an empty list means all differ.
        """
        first: dict[str, int] = {}
        pairs = []
        for position, phrase in enumerate(self.phrases):
            earlier = first.setdefault(" ".join(phrase.lower().split()), position)
            if earlier != position:
                pairs.append((earlier, position))
        return pairs

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {label: position for position, label in enumerate(self.labels)}

    @cached_property
    def _phrase_positions(self) -> dict[str, tuple[int, ...]]:
        return _grouped(enumerate(self.phrases))

    @cached_property
    def _loose_positions(self) -> dict[str, tuple[int, ...]]:
        both = enumerate(zip(self.labels, self.phrases, strict=True))
        return _grouped((i, key) for i, pair in both for key in {loose(text) for text in pair})


def loose(text: str) -> str:
    """A name without what people write differently: case, spaces, underscores, Unicode composition."""
    return re.sub(r"[\s_]+", "", unicodedata.normalize("NFC", text).casefold())


def close_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Those of the known names that a misspelt one most likely meant, best first."""
    import difflib

    return difflib.get_close_matches(name, list(known), n=count)


def listed(names: Iterable[str]) -> str:
    """Names in quotation marks, with commas between them, for a message."""
    return ", ".join(repr(name) for name in names)


def _grouped(pairs: Iterable[tuple[int, str]]) -> dict[str, tuple[int, ...]]:
    groups: dict[str, tuple[int, ...]] = {}
    for position, key in pairs:
        groups[key] = (*groups.get(key, ()), position)
    return groups
