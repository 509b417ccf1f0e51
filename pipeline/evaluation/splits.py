"""Which videos are trained on and which are tested: a stratified random split where the list names none, and that no
video is on both sides, whatever its splits are called.

N videos of a cache, n of them chosen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon
from .labels import ALL, LabeledVideos, default_split, select_videos, split_names
from .results import EvaluationError

TEST_SHARE = 0.2
"""Share of each class's videos that is kept for testing where the list names no splits."""
TRAIN = "train"
"""Which split is trained on when none is named."""


def stratified_split(
    ids: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    share: float,
    *,
    seed: int = 0,
    sources: Sequence[str] | None = None,
    at_least: int = 1,
) -> np.ndarray:
    """Return which videos are kept for testing, [n] booleans: a random share of each class.

    ids, labels    of the videos; ids differ
    share          of the videos of a class, rounded; above 0 and below 1
    sources        the file of each video: segments of one file stay on one side. None: each is a file by itself
    at_least       so many files of a class are tested where its share rounds to fewer

    Of every class, one file at least is trained on. Files with segments of
    several classes count for the class that most of their segments have. The split depends on the ids, the labels
    and the seed, not on the order of the videos; another video does not reshuffle the others.
    Raises ValueError for a share out of range, or lengths that differ.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of test videos must be above 0 and below 1, got {share}")
    sources = ids if sources is None else sources
    if not len(ids) == len(labels) == len(sources):
        raise ValueError(f"{len(ids)} ids, {len(labels)} labels and {len(sources)} sources do not fit")
    members: dict[str, list[int]] = {}
    for i, source in enumerate(sources):
        members.setdefault(source, []).append(i)
    by_class: dict[int, list[tuple[bytes, list[int]]]] = {}
    for own in members.values():
        counts = Counter(int(labels[i]) for i in own)
        label = min(counts, key=lambda c: (-counts[c], c))
        name = min(ids[i] for i in own)
        rank = hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()
        by_class.setdefault(label, []).append((rank, own))
    tested = np.zeros(len(ids), bool)
    for files in by_class.values():
        n_tested = min(max(round(share * len(files)), at_least), len(files) - 1)
        for _, own in sorted(files)[:n_tested]:
            tested[own] = True
    return tested


@dataclass(frozen=True, eq=False)
class TrainTest:
    """The two sides of a training."""

    train: LabeledVideos
    test: LabeledVideos
    test_share: float | None = None
    """Share of each class that was drawn for testing; None where the list's own splits say it."""
    seed: int | None = None
    """The seed of that draw."""

    @property
    def settings(self) -> dict[str, float | int | None]:
        """For heads and JSON."""
        return {"test_share": self.test_share, "split_seed": self.seed}


def draws_test_set(cache: FeatureCache, share: float | None, *named: str | None) -> bool:
    """Return whether the test videos are drawn: where a share is given, or where neither the list names splits nor the user
    (`named`)."""
    return share is not None or not (any(name is not None for name in named) or split_names(cache))


def train_and_test(
    cache: FeatureCache,
    lexicon: Lexicon,
    train_split: str | None = None,
    split: str | None = None,
    share: float | None = None,
    *,
    seed: int = 0,
    multi_label: bool = False,
) -> TrainTest:
    """Return what is trained on and what is tested: the list's splits, or where there are none a random split by `seed`.

    multi_label    any number of labels; see `select_videos` and `training_set`
    Raises EvaluationError as `drawn_split`, `training_set`, `select_videos` and `check_disjoint` do.
    """
    if draws_test_set(cache, share, train_split, split):
        sides = drawn_split(cache, lexicon, train_split, share, seed=seed, multi_label=multi_label)
    else:
        sides = TrainTest(
            training_set(cache, lexicon, train_split, multi_label=multi_label),
            select_videos(cache, lexicon, split, multi_label=multi_label),
        )
    notes = check_disjoint(cache, sides.train, sides.test)
    return replace(sides, test=replace(sides.test, notes=[*sides.test.notes, *notes]))


def sides_to_fit(
    cache: FeatureCache,
    lexicon: Lexicon,
    train_split: str | None = None,
    share: float | None = None,
    *,
    seed: int = 0,
    multi_label: bool = False,
) -> tuple[LabeledVideos, LabeledVideos | None, dict[str, float | int | None], list[str]]:
    """Return (videos to train on, videos to test where there are any, how they were drawn, notes).

    Tested is a random split, or else the default split, where its labels are known and none of its videos is
    trained on. Raises EvaluationError where nothing can be trained on, or a `share` cannot be drawn.
    """
    notes: list[str] = []
    if draws_test_set(cache, share, train_split):
        try:
            sides = train_and_test(
                cache, lexicon, train_split, None, share, seed=seed, multi_label=multi_label
            )
            return sides.train, sides.test, sides.settings, list(sides.test.notes)
        except EvaluationError as error:
            if share is not None:
                raise
            notes.append(f"{error} The head is not tested.")
    train, test = training_set(cache, lexicon, train_split, multi_label=multi_label), None
    notes += train.notes
    split = default_split(cache)
    if split and split in split_names(cache, labeled=True):
        try:
            test = select_videos(cache, lexicon, split, multi_label=multi_label)
            notes += check_disjoint(cache, train, test)
        except EvaluationError as error:
            test = None
            notes.append(f"the head will not be tested on the split {split}: {error}")
    return train, test, {"test_share": None, "split_seed": None}, notes


def training_set(
    cache: FeatureCache, lexicon: Lexicon, train_split: str | None = None, *, multi_label: bool = False
) -> LabeledVideos:
    """Return the labeled videos of the split that is trained on.

    train_split    None: `train`; of a cache without splits, all
    multi_label    any number of labels, but one at least: targets are [n, C]
    Raises EvaluationError as `select_videos` does.
    """
    if train_split is None:
        train_split = TRAIN if split_names(cache) else ALL
    found = select_videos(cache, lexicon, train_split, multi_label=multi_label)
    if not multi_label:
        return found
    labeled = np.asarray(found.targets.any(axis=1))
    n_unlabeled = int((~labeled).sum())
    notes = [f"{n_unlabeled} videos without a label are not trained on."] if n_unlabeled else []
    return replace(found.take(labeled), notes=notes)


def drawn_split(
    cache: FeatureCache,
    lexicon: Lexicon,
    train_split: str | None = None,
    share: float | None = None,
    *,
    seed: int = 0,
    multi_label: bool = False,
) -> TrainTest:
    """Return a stratified random split of the videos of `train_split`, or of all of a cache without splits.

    share    None: TEST_SHARE; of videos with several labels, of those whose rarest label is the same
    Raises EvaluationError where no class has two files.
    """
    share = TEST_SHARE if share is None else share
    pool = training_set(cache, lexicon, train_split, multi_label=multi_label)
    videos = [cache.videos[i] for i in pool.indices]
    classes = pool.targets
    if multi_label:
        from ..heads import strata  # not above: heads import torch

        classes = strata(pool.targets)
    tested = stratified_split(
        [video.id for video in videos], classes, share, seed=seed, sources=[v.path for v in videos]
    )
    if not tested.any():
        raise EvaluationError(
            f"no class of {cache.folder} has two videos: there is nothing to test that is not trained on."
        )
    of = f" of {pool.split}" if pool.split else ""
    train, test = pool.take(~tested), pool.take(tested)
    why = f"{cache.folder} has no splits: " if not split_names(cache) else ""
    notes = [
        f"{why}{100 * share:g} % of each class's videos{of}, drawn with seed {seed}, are kept for testing (--test-share).",
        *pool.notes,
    ]
    single = len(np.setdiff1d(classes[~tested], classes[tested]))
    if single:
        notes.append(f"{single} classes have a single video: it is trained on, and they are not tested.")
    return TrainTest(
        replace(train, split=f"{100 * (1 - share):g} %{of}, seed {seed}"),
        replace(test, split=f"{100 * share:g} %{of}, seed {seed}", notes=notes),
        share,
        seed,
    )


def check_disjoint(cache: FeatureCache, train: LabeledVideos, test: LabeledVideos) -> list[str]:
    """Return notes on files that are on both sides, as segments or under two ids.

    Raises EvaluationError where a video would be trained on and tested.
    """
    both = np.intersect1d(train.indices, test.indices)
    if len(both):
        some = "" if len(both) == len(test.indices) else f"{len(both)} of "
        named = f" of split {test.split!r}" if test.split else ""
        raise EvaluationError(
            f"{some}the {len(test.indices)} test videos{named} would be trained on and tested (the first is "
            f"{cache.ids[both[0]]!r}). Name another split."
        )
    paths = cache.videos.strings("path")
    trained = {paths[i] for i in train.indices}
    shared = [i for i in test.indices if paths[i] in trained]
    if not shared:
        return []
    return [
        f"{len(shared)} of the {len(test.indices)} test videos come from files that are trained on too, as other segments "
        f"or under another id (the first is {cache.ids[shared[0]]!r})."
    ]


# --- what a head remembers of its training videos


def video_fingerprints(cache: FeatureCache, indices: np.ndarray) -> np.ndarray:
    """Return [n, 2] int64 of videos: a hash of the id, and one of the features of the first clip's center crop."""
    pairs = np.empty((len(indices), 2), np.int64)
    for places, batch, frames in cache.single_view().scan(1024, indices):
        for place, index, own in zip(places, batch, frames, strict=True):
            pairs[place] = _hash(cache.ids[index].encode("utf-8", "surrogatepass")), _hash(own.tobytes())
    return pairs


def id_fingerprints(ids: Sequence[str]) -> np.ndarray:
    """Return [n, 2] int64: a hash of each id, and 0 for features, which change while an encoder is trained."""
    hashes = [_hash(each.encode("utf-8", "surrogatepass")) for each in ids]
    return np.stack([np.array(hashes, np.int64), np.zeros(len(ids), np.int64)], axis=1)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little", signed=True)


def leave_out_trained(
    cache: FeatureCache, test: LabeledVideos, heads: Mapping[str, np.ndarray | None], *, asked_for: bool
) -> LabeledVideos:
    """Return the videos without those that a head was trained on, with notes.

    heads        name -> `video_fingerprints` of its training videos, in any order; None: the head does not say
    asked_for    whether the user named these videos: then they are tested, and the note says that they were trained on

    Videos that a head was trained on are left out for all: figures of one table are of the same videos. A video with
    a training video's id and other features is tested, with a note: another file, or the same one read otherwise.
    Raises EvaluationError where nothing is left.
    """
    n_videos, keep, notes = len(test), np.ones(len(test), bool), []
    own = video_fingerprints(cache, test.indices) if heads else np.empty((0, 2), np.int64)
    for name, trained_on in heads.items():
        if trained_on is None:
            notes.append(
                f"{name} does not say which videos it was trained on: some of those tested may be among them."
            )
            continue
        by_id = trained_on[trained_on[:, 1] == 0, 0]  # of a fine-tuned encoder
        same = np.isin(own[:, 1], trained_on[:, 1]) | np.isin(own[:, 0], by_id)
        named = np.isin(own[:, 0], trained_on[:, 0]) & ~same
        if same.any() and asked_for:
            notes.append(
                f"{name} was trained on {same.sum()} of the {n_videos} tested videos: on these its figures say nothing "
                "of new videos."
            )
        elif same.any():
            keep &= ~same
            notes.append(
                f"{same.sum()} of the {n_videos} videos are not tested, because {name} was trained on them; name a "
                f"--split, or {ALL}, to test them too."
            )
        if named.any():
            notes.append(
                f"{named.sum()} of the {n_videos} videos have the ids of videos that {name} was trained on, and other "
                "features; they are tested."
            )
    if not keep.any():
        raise EvaluationError(
            f"all {n_videos} videos that would be tested were trained on by {' or '.join(heads)}. Name other videos "
            "with --split, or train on fewer."
        )
    return test.take(keep, notes)
