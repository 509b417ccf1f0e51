"""Labels of a list, looked up in a lexicon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from ...lexicons import Lexicon
from .video_list import PROBLEMS_SHOWN, DatasetError, preview


class Labeled(Protocol):
    """A video, or a row that will become one."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def where(self) -> str: ...


def check_labels(videos: Iterable[Labeled], lexicon: Lexicon) -> list[tuple[int, ...]]:
    """Return for each video the class indices of its labels; an empty tuple for a video without labels.

    Labels are looked up as `Lexicon.find` does. Raises DatasetError for labels that the lexicon does
    not have, or has several of, with the first row or file of each and the closest names.
    """
    indices: dict[str, tuple[int, ...]] = {}
    n_videos: Counter[str] = Counter()
    first: dict[str, Labeled] = {}
    result = []
    for video in videos:
        for label in video.labels:
            if label not in indices:
                indices[label] = lexicon.find(label)
                first[label] = video
            n_videos[label] += 1
        result.append(tuple(index for label in video.labels for index in indices[label]))

    def format_label(label: str, names: Iterable[str], intro: str) -> str:
        more = n_videos[label] - 1
        place = first[label].where + (f" and {more:,} more" if more else "")
        quoted = ", ".join(map(repr, names))
        return f"{label!r} ({place}{f'; {intro}: {quoted}' if quoted else ''})"

    unknown = [label for label, found in indices.items() if not found]
    if unknown:
        shown = [
            format_label(label, lexicon.close_labels(label), "closest") for label in unknown[:PROBLEMS_SHOWN]
        ]
        raise DatasetError(
            f"Labels that the lexicon {lexicon.name} does not have: {preview(shown, len(unknown))}. "
            f"Correct them, or use the lexicon they come from."
        )
    several = [label for label, found in indices.items() if len(found) > 1]
    if several:
        shown = [
            format_label(label, [lexicon.labels[i] for i in indices[label]], "may be") for label in several
        ]
        raise DatasetError(
            f"Labels that fit several classes of the lexicon {lexicon.name}: {preview(shown)}. "
            f"Use the lexicon's own spelling."
        )
    return result
