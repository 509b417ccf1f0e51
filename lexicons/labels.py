"""Class names from the labels of one's own videos."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .lexicon import Lexicon


def lexicon_of_labels(labels: Iterable[str]) -> Lexicon:
    """The different labels in alphabetical order, each with a phrase that reads as words.

    Raises LexiconError when there is no label.
    """
    different = tuple(sorted(set(labels)))
    return Lexicon(
        "labels", tuple(in_words(label) for label in different), different, "the labels of the videos"
    )


def in_words(label: str) -> str:
    """How a label reads: ``brush_hair`` -> brush hair, ``ApplyEyeMakeup`` -> apply eye makeup.

    Labels that hold a space are taken as written.
    """
    text = label.encode("utf-8", "replace").decode()  # names of folders need not be UTF-8
    if " " in text:
        return text
    text = re.sub(r"[_\-]+", " ", text).strip()
    if re.search(r"[a-z][A-Z]", text):
        # An acronym keeps its letters together: HTMLPage -> html page.
        text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text).lower()
    return text or label
