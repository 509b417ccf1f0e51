"""Which videos of a list are trained on, and which choose the epoch.

n videos, C classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...cache.identity import canonical_json
from ...lexicons import Lexicon, lexicon_of_labels
from ..datasets import DatasetError, Video, VideoList, check_labels
from ..evaluation import draw_shots, stratified_split
from ..heads import FitError

TRAIN = "train"
"""Which split is trained on when none is named."""
ALL = "all"
"""As a split: every labeled video."""


@dataclass(frozen=True, eq=False)
class TrainingVideos:
    """Labeled videos: those that are trained on, and those that are held out of it and choose the epoch."""

    lexicon: Lexicon
    train: Sequence[Video]
    train_labels: np.ndarray
    """[n] int64 class indices in the order of the lexicon."""
    held_out: Sequence[Video] = ()
    held_out_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    copies: int = 1
    """How often an epoch has every video, each time with frames and boxes of its own."""
    notes: Sequence[str] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over ids, segments, classes and sides: another list is another training."""
        sides = [
            [[video.id, video.start_seconds, video.end_seconds, int(label)] for video, label in zip(*side, strict=True)]
            for side in ((self.train, self.train_labels), (self.held_out, self.held_out_labels))
        ]  # fmt: skip
        return hashlib.sha256(canonical_json([sides, self.copies]).encode()).hexdigest()


def mirrored_classes(lexicon: Lexicon) -> np.ndarray:
    """Return [C] int64: the class of a mirrored video of each class.

    Another one where "left" and "right", exchanged in the words of a class, are the words of that one: three pairs of
    Something-Something. Source: released BIKE and Text4Vis.
    """
    position = {phrase.lower(): c for c, phrase in enumerate(lexicon.phrases)}

    def mirrored(phrase: str) -> str:
        return re.sub(r"\b(left|right)\b", lambda word: _OTHER_SIDE[word[0]], phrase.lower())

    return np.array([position.get(mirrored(phrase), c) for c, phrase in enumerate(lexicon.phrases)], np.int64)


_OTHER_SIDE = {"left": "right", "right": "left"}


def training_videos(
    videos: VideoList,
    lexicon: Lexicon | None = None,
    *,
    split: str | None = None,
    shots: int | None = None,
    held_out: float = 0.1,
    seed: int = 0,
) -> TrainingVideos:
    """Return which videos of a list are trained on.

    lexicon     its classes; None: the labels of the list
    split       None: `train`, or of a list without splits every labeled video; `all`: every labeled video
    shots       so many of every class, drawn with the seed, and repeated until an epoch has about as many clips as
                without it; None: all
    held_out    share of each class that is held out, after the shots are drawn

    A segment of several labels is an example of each: the intervals of Charades. A whole video of several labels is left
    out, with a note. All segments of a file are trained on, or held out. Raises DatasetError for a split that the list
    does not have, labels that the lexicon does not have, and where nothing has a label; FitError for too few shots or
    classes. Source: released BIKE (Charades).
    """
    chosen, notes = _of_split(videos, split), []
    labeled = [video for video in chosen if video.labels]
    single = [
        replace(video, labels=(label,)) for video in labeled if _is_example(video) for label in video.labels
    ]
    if not single:
        raise DatasetError(
            f"none of the {len(chosen)} videos that would be trained on has one label. Labels come from folders "
            "(ROOT/LABEL/VIDEO), or from a CSV with the columns path,label. Of a video with several, segments are trained "
            "on (columns start,end), each with its own."
        )
    unused = sum(not _is_example(video) for video in labeled)
    if unused or len(labeled) < len(chosen):
        notes.append(
            f"not trained on: {len(chosen) - len(labeled)} videos without a label, {unused} with several labels."
        )
    if len(single) > len(labeled) - unused:
        notes.append(
            f"{len(single)} examples are made of {len(labeled) - unused} segments: one for each label of a segment."
        )
    lexicon = lexicon or lexicon_of_labels([video.labels[0] for video in single])
    labels = np.array(check_labels(single, lexicon), np.int64)[:, 0]
    n_all = len(single)
    drawn = draw_shots(labels, lexicon.labels, shots, seed)
    single, labels = [single[i] for i in drawn], labels[drawn]
    if len(np.unique(labels)) < 2:
        raise FitError("the training videos are all of one class; there is nothing to tell apart")
    validates = np.zeros(len(single), bool)
    if held_out:
        ids, sources = [video.id for video in single], [str(video.path) for video in single]
        validates = stratified_split(ids, labels, held_out, seed=seed, sources=sources, at_least=0)
        if not validates.any():
            notes.append("no class has videos enough to hold one out: the last epoch will be kept.")
    absent = len(lexicon) - len(np.unique(labels[~validates]))
    if absent:
        notes.append(f"{absent} of {len(lexicon)} classes have no training video.")
    return TrainingVideos(
        lexicon,
        [video for video, held in zip(single, validates, strict=True) if not held],
        labels[~validates],
        [video for video, held in zip(single, validates, strict=True) if held],
        labels[validates],
        copies=max(1, n_all // len(single)) if shots else 1,
        notes=notes,
    )


def _is_example(video: Video) -> bool:
    """Whether a clip shows what the labels say: of a whole video with several, any of them may be elsewhere in it."""
    segment = video.start_seconds is not None or video.end_seconds is not None
    return len(video.labels) == 1 or (segment and bool(video.labels))


def _of_split(videos: VideoList, split: str | None) -> list[Video]:
    has = sorted({word for video in videos for word in video.split.split()})
    if split is None:
        split = TRAIN if has else ALL
    if split not in has and split != ALL:
        known = f"the splits {', '.join(has)}" if has else "no splits"
        raise DatasetError(
            f"the list has {known}, not {split!r}. Name the videos to train on with --train-split; {ALL} takes every "
            "labeled one."
        )
    return [video for video in videos if split not in has or split in video.split.split()]


def readable_ids(videos: Sequence[Video], unreadable: Container[str]) -> list[str]:
    """Return the ids of the videos that could be read, a segment of several labels once."""
    return [name for name in dict.fromkeys(video.id for video in videos) if name not in unreadable]
