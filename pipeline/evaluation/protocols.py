"""Zero-shot protocols: which classes compete, and which videos are tested, in each repetition.

N videos, C classes in the list, c of them candidates of a trial, n videos tested in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..choices import PROTOCOLS
from .metrics import checked_labels


@dataclass(frozen=True, eq=False)
class Trial:
    """One test: score its videos against its classes. ``scores[np.ix_(trial.videos, trial.classes)]``
    are the scores of the trial, and ``trial.labels`` their labels."""

    name: str
    """Protocol and repetition, such as ``half-classes 3``."""
    classes: NDArray[np.intp]
    """[c] indices of the candidates in the list of classes, ascending."""
    videos: NDArray[np.intp]
    """[n] positions of the videos tested, ascending: all whose class is a candidate."""
    labels: NDArray[np.intp]
    """[n] position of each tested video's class in `classes`."""


def half_classes(n_classes: int, repeats: int = 10) -> list[NDArray[np.intp]]:
    """Return random halves of C classes, the same in every run: one index array [C // 2] for each repetition.

    Repetition s takes the first half of the permutation that numpy's legacy generator makes with the
    seed s, in the order of that permutation: the draw of the released BIKE and Text4Vis code.
    Raises ValueError for fewer than 4 classes, of which a half would have nothing to tell apart, and for fewer than
    1 repetition.
    Source: Wu et al. 2023 (BIKE), A.3.
    """
    if n_classes < 4:
        raise ValueError(
            f"half-classes needs at least 4 classes, got {n_classes}: a half of one class is always right. Use "
            "full-classes."
        )
    if repeats < 1:
        raise ValueError(f"half-classes needs at least 1 repetition, got {repeats}")
    return [
        # The legacy generator is meant: its stream never changes, and published numbers rest on it.
        np.random.RandomState(seed).permutation(n_classes)[: n_classes // 2]
        for seed in range(repeats)
    ]


def trials(
    protocol: str,
    labels: ArrayLike,
    n_classes: int,
    *,
    repeats: int = 10,
    class_sets: Mapping[str, ArrayLike] | None = None,
    video_sets: Mapping[str, ArrayLike] | None = None,
) -> list[Trial]:
    """Return the tests of a protocol on videos with known classes.

    protocol     ``full-classes``: one trial with all classes. ``half-classes``: as many trials as
                 repeats, each with a random half of them. ``kinetics600``: a trial for each of the
                 given sets of classes. ``splits``: a trial with all classes for each of the given sets
                 of videos.
    labels       [N] integers in 0..C-1, the class of each video
    n_classes    C, classes in the list
    repeats      trials of half-classes; the others have as many as they have
    class_sets   of kinetics600: {name: indices of its classes}
    video_sets   of splits: {name: positions of its videos}

    Classes without any video drop out under half-classes, as in the released code, and stay candidates elsewhere,
    where the list of classes is the question.
    Raises ValueError for an unknown protocol, labels out of range, no videos, and a trial that would
    test no video, or whose videos are all of its one candidate class.
    Source: Wu et al. 2023 (BIKE), A.3; Ni et al. 2022 (X-CLIP), 4.3.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"There is no protocol {protocol!r}; known: {', '.join(PROTOCOLS)}.")
    labels = checked_labels(labels, n_classes)
    every = np.arange(n_classes)
    if protocol == "splits":
        if not video_sets:
            raise ValueError("splits needs the sets of videos that are tested; none were given")
        sets = {name: np.sort(np.asarray(videos, np.intp)) for name, videos in video_sets.items()}
        empty = next((name for name, videos in sets.items() if not len(videos)), None)
        if empty is not None:
            raise ValueError(f"{empty} has no videos to test.")
        return [Trial(name, every, videos, labels[videos]) for name, videos in sets.items()]
    if protocol == "half-classes":
        present = np.isin(every, labels)
        halves = half_classes(n_classes, repeats)
        return [
            _trial(f"{protocol} {repetition}", half, labels, n_classes, present)
            for repetition, half in enumerate(halves)
        ]
    if protocol == "kinetics600" and not class_sets:
        raise ValueError("kinetics600 needs the sets of classes that are tested; none were given")
    drawn = class_sets if protocol == "kinetics600" and class_sets else {protocol: every}
    return [_trial(name, classes, labels, n_classes) for name, classes in drawn.items()]


def _trial(
    name: str, drawn: ArrayLike, labels: NDArray, n_classes: int, present: NDArray[np.bool_] | None = None
) -> Trial:
    """Return the trial of the classes drawn, or of those of them that are `present` [C]."""
    # Ascending, as in the released code: which class wins a tie does not depend on the draw.
    drawn = np.sort(np.asarray(drawn, np.intp))
    classes = drawn if present is None else drawn[present[drawn]]
    position = np.full(n_classes, -1)
    position[classes] = np.arange(len(classes))
    videos = np.flatnonzero(position[labels] >= 0)
    if not len(videos):
        raise ValueError(
            f"{name} draws {len(drawn)} of {n_classes} classes, and none of the {len(labels)} videos is of one of "
            "them; use full-classes, or more videos."
        )
    if len(classes) < 2 <= n_classes:
        raise ValueError(
            f"{name} draws {len(drawn)} of {n_classes} classes, and only one of these has videos: there is nothing to "
            "tell apart. Use full-classes, or videos of more classes."
        )
    return Trial(name, classes, videos, position[labels[videos]])
