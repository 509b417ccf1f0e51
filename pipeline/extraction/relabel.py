"""Other labels and splits for videos that are in a cache: nothing is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...cache import CacheError, FeatureCache, ListFacts, read_labels_before, update_labels
from ..datasets import LABEL_SEPARATOR, DatasetError, Video
from .matching import match_list, match_name


@dataclass(frozen=True)
class Relabeling:
    """Labels and splits that videos of a cache are to have."""

    facts: Mapping[str, ListFacts]
    """By id, of all videos that are named."""
    before: Mapping[str, ListFacts]
    """What they have now."""
    absent: Sequence[Video] = ()
    """Rows of the list whose videos the cache does not have."""

    @property
    def changed(self) -> list[str]:
        """The ids of the videos whose labels or split become others."""
        return [id for id, each in self.facts.items() if each != self.before[id]]

    def apply(self, cache: FeatureCache) -> None:
        """Write the labels that change, and keep what was there for `undo_relabeling`. Raises CacheError, OSError."""
        changed = self.changed
        now = {id: self.facts[id] for id in changed}
        update_labels(cache.folder, now, len(cache), before={id: self.before[id] for id in changed})


def plan_relabeling(
    cache: FeatureCache,
    listed: Sequence[Video] = (),
    labels: Iterable[str] = (),
    splits: Iterable[str] = (),
) -> Relabeling:
    """Return what a list, and then single assignments, say of the videos of a cache.

    listed    rows of a list. As in an extraction, one without any label says nothing of labels, and one without any split
              nothing of splits
    labels    `ID=LABEL`, where ID may be a path or a pattern (see `match_name`); several labels with `;` between them,
              none to take them away. Of several assignments to one video the last counts
    splits    `ID=SPLIT`
    Raises DatasetError where an assignment has no `=` or names no video, where two rows name one video, and where no row
    names any.
    """
    rows, absent = match_list(listed, cache)
    if listed and not rows:
        first = absent[0]
        raise DatasetError(
            f"None of the {len(listed):,} listed videos is in {cache.folder}: {first.where} is {first.id!r}, where it has ids "
            f"such as {next(iter(cache.ids), '(none)')!r}. Name the folder where ids begin (--root)."
        )
    has_labels, has_splits = any(row.labels for row in listed), any(row.split for row in listed)
    facts: dict[str, ListFacts] = {}
    for id, row in rows.items():
        now = _facts(cache, id)
        facts[id] = ListFacts(
            row.labels if has_labels else now.labels, row.split if has_splits else now.split
        )
    for text in labels:
        name, value = _assignment(text, "LABEL")
        several = tuple(
            dict.fromkeys(each for part in value.split(LABEL_SEPARATOR) if (each := part.strip()))
        )
        for id in match_name(name, cache):
            facts[id] = facts.get(id, _facts(cache, id))._replace(labels=several)
    for text in splits:
        name, value = _assignment(text, "SPLIT")
        for id in match_name(name, cache):
            facts[id] = facts.get(id, _facts(cache, id))._replace(split=value)
    return Relabeling(facts, {id: _facts(cache, id) for id in facts}, absent)


def undo_relabeling(cache: FeatureCache) -> Relabeling:
    """Return what gives the videos their labels and splits from before they were labeled last.

    Raises CacheError where none were.
    """
    before = read_labels_before(cache.folder, len(cache))
    if not before:
        raise CacheError(
            f"{cache.folder} has nothing to undo: no `vidclip label` has changed a label or split there."
        )
    facts = {id: each for id, each in before.items() if id in cache}
    return Relabeling(facts, {id: _facts(cache, id) for id in facts})


def _facts(cache: FeatureCache, id: str) -> ListFacts:
    info = cache.videos[cache.index(id)]
    return ListFacts(info.labels, info.split)


def _assignment(text: str, what: str) -> tuple[str, str]:
    """Return the two sides of the last `=`: an id may have others, in the times of a segment."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise DatasetError(
            f"{text!r} is not ID={what}: write the id of a video, or a pattern, and = behind it."
        )
    return name, value.strip()
