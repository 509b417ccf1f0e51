"""Zero-shot protocols: which classes compete, and which videos are tested, in each repetition.

N videos, C classes in the list, c of them candidates of a trial, n videos tested in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..choices import PROTOCOLS


@dataclass(frozen=True, eq=False)
class Trial:
    """One test: score its videos against its classes. ``scores[np.ix_(trial.videos, trial.classes)]``
    are the scores of the trial, and ``trial.labels`` their labels."""

    name: str
    """Protocol and repetition, such as ``half-classes 3``."""

    classes: NDArray[np.intp]
    """[c] indices of the candidates in the list of classes, ascending."""

    videos: NDArray[np.intp]
    """[n] rows of the videos tested, ascending: all whose class is a candidate."""

    labels: NDArray[np.intp]
    """[n] position of each tested video's class in `classes`."""


def full_classes(n_classes: int) -> list[NDArray[np.intp]]:
    """All C classes, once: a list of one index array [C]. Raises ValueError when C is 0."""
    if n_classes < 1:
        raise ValueError(f"full-classes needs at least 1 class, got {n_classes}")
    return [np.arange(n_classes)]


def half_classes(n_classes: int, repeats: int = 10) -> list[NDArray[np.intp]]:
    """Random halves of C classes, the same in every run: one index array [C // 2] for each repetition.

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
    keep_absent: bool | None = None,
    class_sets: Mapping[str, ArrayLike] | None = None,
    video_sets: Mapping[str, ArrayLike] | None = None,
) -> list[Trial]:
    """The tests of a protocol on videos with known classes.

    protocol     ``full-classes``: one trial with all classes. ``half-classes``: as many trials as
                 repeats, each with a random half of them. ``kinetics600``: a trial for each of the
                 given sets of classes. ``splits``: a trial with all classes for each of the given sets
                 of videos.
    labels       [N] integers in 0..C-1, the class of each video
    n_classes    C, classes in the list
    repeats      trials of half-classes; the others have as many as they have
    keep_absent  whether classes without any video stay candidates, which makes the test harder.
                 Default: they drop out under half-classes, as in the released code, and stay elsewhere,
                 where the list of classes is the question.
    class_sets   of kinetics600: {name: indices of its classes}
    video_sets   of splits: {name: rows of its videos}
    Raises ValueError for an unknown protocol, labels out of range, no videos, and a trial that would
    test no video, or whose videos are all of its one candidate class.
    Source: Wu et al. 2023 (BIKE), A.3; Ni et al. 2022 (X-CLIP), 4.3.
    """
    labels = np.asarray(labels)
    if protocol not in PROTOCOLS:
        raise ValueError(f"There is no protocol {protocol!r}; known: {', '.join(PROTOCOLS)}.")
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be a class index for each of one or more videos, got {labels.dtype} {labels.shape}"
        )
    wrong = (labels < 0) | (labels >= n_classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"video {row} has the label {labels[row]}, but there are classes 0 to {n_classes - 1}"
        )
    labels = labels.astype(np.intp)
    if protocol == "splits":
        return _video_trials(labels, n_classes, video_sets or {})
    if protocol == "half-classes":
        drawn = half_classes(n_classes, repeats)
        names = [f"{protocol} {repetition}" for repetition in range(repeats)]
        keep_absent = bool(keep_absent)
    elif protocol == "kinetics600":
        if not class_sets:
            raise ValueError("kinetics600 needs the sets of classes that are tested; none were given")
        names = list(class_sets)
        drawn = [np.asarray(class_sets[name], np.intp) for name in names]
    else:
        names, drawn = [protocol], full_classes(n_classes)
    return _trials(names, drawn, labels, n_classes, keep_absent=keep_absent is not False)


def _video_trials(labels: NDArray, n_classes: int, video_sets: Mapping[str, ArrayLike]) -> list[Trial]:
    if not video_sets:
        raise ValueError("splits needs the sets of videos that are tested; none were given")
    result = []
    for name, rows in video_sets.items():
        videos = np.sort(np.asarray(rows, np.intp))
        if not len(videos):
            raise ValueError(f"{name} has no videos to test.")
        result.append(Trial(name, np.arange(n_classes), videos, labels[videos]))
    return result


def _trials(
    names: Sequence[str], drawn: Sequence[NDArray], labels: NDArray, n_classes: int, *, keep_absent: bool
) -> list[Trial]:
    n_videos = np.bincount(labels, minlength=n_classes)  # [C]
    result = []
    for name, candidates in zip(names, drawn, strict=True):
        # Ascending, as in the released code: which class wins a tie does not hang on the draw.
        classes = np.sort(candidates if keep_absent else candidates[n_videos[candidates] > 0])
        position = np.full(n_classes, -1)
        position[classes] = np.arange(len(classes))
        videos = np.flatnonzero(position[labels] >= 0)
        if len(videos) and len(classes) < 2 <= n_classes:
            raise ValueError(
                f"{name} draws {len(candidates)} of {n_classes} classes, and only one of these has videos: there is "
                "nothing to tell apart. Use full-classes, or videos of more classes."
            )
        if not len(videos):
            raise ValueError(
                f"{name} draws {len(candidates)} of {n_classes} classes, and none of the "
                f"{len(labels)} videos is of one of them; use full-classes, or more videos."
            )
        result.append(Trial(name, classes, videos, position[labels[videos]]))
    return result
