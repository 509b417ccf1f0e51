"""The rows of a data set's own files, and the videos on disk that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ....lexicons import Lexicon
from ....lexicons.lexicon import loose
from ...video import VIDEO_SUFFIXES
from ..folders import is_true, suffix_of, walk
from ..ids import check_unicode, segment_id, without_dots
from ..labels import check_labels
from ..video_list import DatasetError, Video, VideoList, natural_key, plural, preview


@dataclass(slots=True)
class Listed:
    """A row of a data set's own files, before its video is looked for."""

    names: tuple[str, ...]
    """What its video may be called, without suffix, the usual name first: a file, or a folder of frames."""

    published: str
    """Its path as the data set publishes it: the id of a video that is not there."""

    where: str
    """File and row."""

    labels: tuple[str, ...] = ()
    """As the file spells them."""

    split: str = ""
    """Several with spaces between them."""

    folder: str = ""
    """The folder it is published in, which decides where several videos have its name."""

    whole_names: tuple[str, ...] = ()
    """What the file of the whole video may be called, where the row is about a segment of it."""

    start_seconds: float | None = None
    """Where that segment begins."""

    end_seconds: float | None = None
    """Where that segment ends."""


@dataclass(slots=True)
class Listing:
    """What the files of a data set say."""

    rows: list[Listed]
    notes: list[str] = field(default_factory=list)


def merge_splits(rows: Iterable[tuple[Listed, int, str]]) -> list[Listed]:
    """Return one row for each video of a data set with three ways to split it (UCF101, HMDB51), of the rows of all
    its lists. A video says where it stands in each, ``train1 test2 train3``, so that one extraction serves all.

    rows    a row of a list, the number of the list's split, and what the video is there: train, test, or
            empty for neither
    Raises DatasetError for a video that one split has twice.
    """
    by_path: dict[str, Listed] = {}
    places: dict[str, dict[int, tuple[str, str]]] = {}
    for row, number, part in rows:
        by_path.setdefault(row.published, row)
        mine = places.setdefault(row.published, {})
        if number in mine:
            raise DatasetError(
                f"{row.where} has the video {row.published!r} a second time in split {number} (first: "
                f"{mine[number][1]}): use the lists as published."
            )
        mine[number] = (part, row.where)
    for path, row in by_path.items():
        row.split = " ".join(f"{part}{number}" for number, (part, _) in sorted(places[path].items()) if part)
    return list(by_path.values())


def segment_rows(
    video: Listed, found: Iterable[tuple[str, float, float]], reversed_segments: list[str]
) -> Iterator[Listed]:
    """Yield a row for each segment of a video, with all labels that it has.

    found                label, start and end in seconds
    reversed_segments    gets those that do not end after they begin; they make no row
    """
    labels: dict[tuple[float, float], list[str]] = {}
    for label, start, end in found:
        if end > start:
            labels.setdefault((start, end), []).append(label)
        else:
            reversed_segments.append(f"{video.names[-1]} {start:g} to {end:g}")
    for (start, end), each in labels.items():
        yield replace(
            video, names=(), labels=tuple(each), whole_names=video.names, start_seconds=start, end_seconds=end
        )


def notes_on_segments(reversed_segments: Sequence[str]) -> list[str]:
    """Return what to say of the segments that `segment_rows` left out."""
    if not reversed_segments:
        return []
    return [f"Segments left out because they end before they begin: {preview(reversed_segments)}."]


def match(
    listing: Listing, rows: Sequence[Listed], root: Path, lexicon: Lexicon, source: str = ""
) -> VideoList:
    """Return the videos below the root that some rows of a listing name; those that are not there are in `missing`.

    A row's video is a file of one of its names anywhere below the root; else a folder of that name, whose images
    are the frames (it is not looked into before it is decoded); else a segment of the file of the whole video.
    Labels get the lexicon's spelling.
    Raises DatasetError for labels that the lexicon does not have, and when no video is there at all.
    """
    check_labels(listing.rows, lexicon)
    tree = _Tree(root, listing.rows)
    videos, missing, several, untimed, n_segments = [], [], [], [], 0
    for row, classes in zip(rows, check_labels(rows, lexicon), strict=True):
        names, segment = _candidates(row, tree)
        if len(names) > 1:
            names = _in_folder(names, row.folder)
        if len(names) > 1:
            several.append(f"{names[0]} (also {', '.join(names[1:])})")
        start, end = (row.start_seconds, row.end_seconds) if segment else (None, None)
        n_segments += bool(names and segment and row.names)
        if not names:
            untimed += (folder for whole in row.whole_names for folder in tree.folders.get(whole, ()))
        name = names[0] if names else row.published
        video = Video(
            id=segment_id(name, start, end),
            path=Path(f"{tree.top}/{name}"),
            labels=tuple(dict.fromkeys(lexicon.labels[index] for index in classes)),
            split=row.split,
            origin=row.where,
            start_seconds=start,
            end_seconds=end,
        )
        (videos if names else missing).append(video)
    hint = ""
    if untimed:
        hint = f"Folders of images, such as {untimed[0]}, have no times, and segments need them: give video files."
    if not videos:
        example = f", such as {missing[0].id!r} ({missing[0].origin})" if missing else ""
        raise DatasetError(
            f"None of the {plural(len(missing), 'listed video')} is below {root}{example}: give the folder that "
            f"holds the videos of {lexicon.name}. {hint}".rstrip()
        )
    check_unicode(video.id for video in videos)
    return VideoList(
        sorted(videos, key=lambda video: natural_key(video.id)),
        missing=sorted(missing, key=lambda video: natural_key(video.id)),
        notes=[*listing.notes, *_notes(tree, several, n_segments), *([hint] if hint else [])],
        source=source,
    )


def _candidates(row: Listed, tree: _Tree) -> tuple[Sequence[str], bool]:
    """Return paths that may be the row's video, and whether the row is a segment of that video."""
    for name in row.names:
        if files := tree.files.get(name):
            return files, False
    # Frames have no times: a folder called like the whole video can only stand for the row as it is.
    for name in (*row.names, *row.whole_names) if row.names else ():
        if folders := tree.folders.get(name):
            return folders, False
    for name in row.whole_names:
        if files := tree.files.get(name):
            return files, True
    return (), not row.names


def _in_folder(names: Sequence[str], folder: str) -> list[str]:
    """Return those of the paths that are in a folder of this name, or else all, in natural order."""
    inside = [name for name in names if folder and loose(PurePosixPath(name).parent.name) == loose(folder)]
    return sorted(inside or names, key=natural_key)


def _notes(tree: _Tree, several: list[str], n_segments: int) -> Iterable[str]:
    if several:
        yield (
            f"{plural(len(several), 'video')} found more than once below the root; the first of each is taken: "
            f"{preview(several)}."
        )
    if n_segments:
        yield (
            f"{plural(n_segments, 'file')} named without the times of the clip: taken as whole videos, of which "
            f"the listed seconds are sampled."
        )
    if tree.n_others:
        yield f"{plural(tree.n_others, 'video file')} below the root that no list names."


class _Tree:
    """The files and folders below the root that are called like a listed video."""

    def __init__(self, root: Path, rows: Iterable[Listed]) -> None:
        self.top = without_dots(str(root))
        self.files: dict[str, list[str]] = {}
        """Name without suffix -> paths below the root."""
        self.folders: dict[str, list[str]] = {}
        self.n_others = 0
        """Video files of other names."""
        wanted = {name for row in rows for names in (row.names, row.whole_names) for name in names}
        # A folder called like a video holds its frames: a hundred thousand of them need not be read.
        for prefix, files, folders in walk(self.top, enter=lambda name: name not in wanted):
            for name in folders:
                if name in wanted:
                    self.folders.setdefault(name, []).append(prefix + name)
            for entry in files:
                if suffix_of(entry.name) not in VIDEO_SUFFIXES or entry.name.startswith("."):
                    continue
                stem = entry.name.rpartition(".")[0]
                if stem not in wanted:
                    self.n_others += 1
                elif is_true(entry.is_file):
                    self.files.setdefault(stem, []).append(prefix + entry.name)
