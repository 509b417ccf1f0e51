"""Public data sets, read from the files that they are published with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ....lexicons import Lexicon, load_lexicon
from ....lexicons.lexicon import close_names, loose
from ....lexicons.load import absent_name
from ....lexicons.registry import ABSENT, ENTRIES
from ..video_list import DatasetError, VideoList
from .activitynet import read_activitynet
from .annotation_files import SPLIT_WORDS, Place, Request
from .charades import read_charades
from .hmdb51 import read_hmdb51
from .kinetics import read_kinetics
from .matching import Listed, Listing, match
from .something_something import read_classes_v2, read_something_something, read_something_something_v2
from .ucf101 import read_ucf101

_NUMBERED = ("1", "2", "3")


@dataclass(frozen=True)
class Dataset:
    """A data set whose own files can be read."""

    name: str
    """That of its lexicon, which has the official order of its classes; of one that reads its own classes, just a name."""

    read: Callable[[Request], Listing]
    """Reads the rows of all its lists."""

    splits: tuple[str, ...] = ("train", "val", "test")
    """What `read_dataset` can be asked for."""

    has_segments: bool = False
    """Whether its lists give segments of longer videos."""

    trains_on_segments: bool = False
    """Whether a whole video has several classes, so that its segments are trained on."""

    read_classes: Callable[[Place], Lexicon] | None = None
    """Reads its classes from its own files, where no lexicon of the package has them."""

    def classes(self, root: Path, annotations: Path | None) -> Lexicon:
        """Return its classes in the official order. Raises DatasetError where its own files must say them, and do not."""
        return self.read_classes(Place(root, annotations)) if self.read_classes else load_lexicon(self.name)


DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        dataset.name: dataset
        for dataset in (
            Dataset("ucf101", read_ucf101, _NUMBERED),
            Dataset("hmdb51", read_hmdb51, _NUMBERED),
            Dataset("kinetics400", read_kinetics, has_segments=True),
            Dataset("kinetics600", read_kinetics, has_segments=True),
            Dataset("kinetics700", read_kinetics, has_segments=True),
            Dataset("activitynet", read_activitynet, has_segments=True),
            Dataset("charades", read_charades, ("train", "test"), has_segments=True, trains_on_segments=True),
            Dataset("something-something-v1", read_something_something),
            Dataset("something-something-v2", read_something_something_v2, read_classes=read_classes_v2),
        )
    }
)
"""Canonical name -> data set."""


def find_dataset(name: str) -> Dataset:
    """Return a data set by its name or an alias, as lexicons are found: ``k400``, ``UCF-101``.

    Raises DatasetError for a name that none has.
    """
    aliases = {entry.name: entry.aliases for entry in ENTRIES}
    aliases |= {each: tuple(also.split()) for each, also in ABSENT.items()}
    by_key = {_key(each): DATASETS[one] for one in DATASETS for each in (one, *aliases[one])}
    if (found := by_key.get(_key(name))) is not None:
        return found
    elsewhere = (
        "Others are read from a folder ROOT/LABEL/VIDEO, or from a CSV with the header path,label,split."
    )
    if absent := absent_name(name):
        raise DatasetError(
            f"The files of {absent} cannot be read as they are published, and no other data set takes its place. "
            f"{elsewhere}"
        )
    close = dict.fromkeys(by_key[key].name for key in close_names(_key(name), by_key))
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise DatasetError(
        f"There is no data set called {name!r}.{hint} Known: {', '.join(DATASETS)}. {elsewhere}"
    )


def read_dataset(
    name: str,
    root: str | Path,
    *,
    split: int | str | None = None,
    annotations: str | Path | None = None,
    segments: bool | None = None,
) -> VideoList:
    """Return the videos of a public data set, as its own split and label files list them.

    name         ucf101, hmdb51, kinetics400, kinetics600, kinetics700, activitynet, charades,
                 something-something-v1, something-something-v2, or an alias of one
    root         The folder of its videos, or of their folders of frames, at any depth; ids begin here.
    split        None: all its lists. UCF101 and HMDB51 have three splits: each video then carries its place
                 in all of them, ``train1 test2 train3``; a number from 1 to 3 gives the videos of that split
                 with ``train`` or ``test``. Of the others: train, val or test.
    annotations  The folder of the data set's files, or the one file that is meant. Default: the root, and
                 folders below it where such files usually lie.
    segments     Whether a row is a segment of its video. Default: of Kinetics, where a file is named by its
                 YouTube id alone; of ActivityNet and Charades not, where a video has all its labels.

    Returns the videos that are there, in natural order of their ids, with the labels as the package's lexicon of
    the data set spells them, or of Something-Something v2 its own label file; the others are in `missing` under the names they are published with. `notes`
    says what else is worth knowing.
    Raises DatasetError, with file and row, for files that are not there or not as published, labels that the
    lexicon does not have, a split that does not exist, and when no video at all is there.
    """
    dataset = find_dataset(name)
    wanted = _split(dataset, split)
    if segments and not dataset.has_segments:
        raise DatasetError(
            f"{dataset.name} is read as whole videos: its lists give no segments to sample from."
        )
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"The root {root} is not a folder: give the folder that holds {dataset.name}.")
    place = None if annotations is None else Path(annotations)
    lexicon = dataset.classes(root, place)
    listing = dataset.read(Request(root, place, lexicon, segments))
    if not listing.rows:
        raise DatasetError(f"The lists of {dataset.name} name no video: download them again.")
    rows = _of_split(listing.rows, wanted) if wanted else listing.rows
    if not rows:
        has = sorted({word for row in listing.rows for word in row.split.split()})
        raise DatasetError(
            f"The lists of {dataset.name} that are there name no video of the split {wanted}, only of "
            f"{', '.join(has) or 'none'}: add the list of that split."
        )
    asked = {"split": split, "annotations": annotations, "segments": segments}
    chosen = [f"{key} {value}" for key, value in asked.items() if value is not None]
    source = " ".join([name, f"below {root.absolute()}", *chosen])
    return match(listing, rows, root, lexicon, source)


def _of_split(rows: list[Listed], wanted: str) -> list[Listed]:
    """Return the rows of a split; for a numbered split, with what each video is in it."""
    if wanted not in _NUMBERED:
        return [row for row in rows if wanted == row.split]
    parts = ((row, word) for row in rows for word in row.split.split() if word.endswith(wanted))
    return [replace(row, split=word.removesuffix(wanted)) for row, word in parts]


def _split(dataset: Dataset, split: int | str | None) -> str:
    """Return the split that is meant, one of the data set's own; empty for all."""
    if split is None or split == "":
        return ""
    asked = str(split).strip().lower()
    asked = SPLIT_WORDS.get(asked, asked)
    if asked not in dataset.splits:
        raise DatasetError(f"{dataset.name} has the splits {', '.join(dataset.splits)}, not {split!r}.")
    return asked


def _key(name: str) -> str:
    return loose(name).replace("-", "")
