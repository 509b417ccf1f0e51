"""Which videos a command reads: SOURCE, or the public data set of --dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .conditions import Call, Condition
from .parameters import Decorator, argument, option, options

if TYPE_CHECKING:
    from ..lexicons import Lexicon
    from ..pipeline.datasets import Dataset, VideoList


def _reads_dataset(call: Call) -> bool:
    return bool(call.values("--dataset")) and call.nearness("--dataset") <= call.nearness("source")


def _reads_folder(call: Call) -> bool:
    source = call.values("source")
    return not _reads_dataset(call) and bool(source) and not any(path.is_file() for path in source)


_OF_DATASET = {
    "needs": Condition(_reads_dataset, "--dataset"),
    "hint": "A CSV names splits in the column `split`, segments in the columns `start` and `end`.",
}

source_argument: Decorator = argument("source", nargs=-1, type=click.Path(path_type=Path))
source_options: Decorator = options(
    option(
        "--root", type=click.Path(path_type=Path, file_okay=False),
        help="Where ids begin, and what a list's paths are relative to; of --dataset, the folder of its videos.",
    ),
    option(
        "--images", is_flag=True, needs=Condition(_reads_folder, "folders as SOURCE"),
        hint="Images that are named, or listed, are videos of one frame without it.",
        help="Take each image below the folders SOURCE as a video of one frame. Otherwise the images of a folder are "
        "the frames of one video.",
    ),
    option(
        "--dataset", metavar="NAME",
        help="In the place of SOURCE, a public data set as its own files list it: ucf101, hmdb51, kinetics400, ... "
        "`vidclip dataset check --help` names them all.",
    ),
    option(
        "--split", **_OF_DATASET,
        help="Of --dataset: 1, 2 or 3 of UCF101 and HMDB51; train, val or test of the others.  [default: all]",
    ),
    option(
        "--annotations", type=click.Path(path_type=Path), **_OF_DATASET,
        help="Of --dataset: its split and label files, their folder or one file.  [default: looked for below the root]",
    ),
    option(
        "--segments/--no-segments", default=None, **_OF_DATASET,
        help="Of --dataset: whether a row is a segment of its video.  [default: of Kinetics, where a file is a whole "
        "video; of Charades, where it is trained on; of ActivityNet not]",
    ),
    option(
        "--allow-missing", is_flag=True,
        help="Leave out videos of a list that are not there; of --dataset, always.",
    ),
)  # fmt: skip
"""The options of commands that read lists of videos; they have a `source_argument` too."""


def named_dataset(ctx: click.Context) -> Dataset | None:
    """Return the data set that is read; None: SOURCE is. What stands nearer counts: the command line before the
    environment before the file."""
    source, dataset = ctx.params["source"], ctx.params["dataset"]
    if source and dataset:
        of_source, of_dataset = (Call(ctx).nearness(name) for name in ("source", "--dataset"))
        if of_source == of_dataset:
            raise click.UsageError(
                f"SOURCE and --dataset {dataset} both say which videos to read: give one of them. The folder of a "
                "data set is its --root."
            )
        dataset = None if of_source < of_dataset else dataset
    if not dataset:
        return None
    from ..pipeline.datasets import find_dataset

    return find_dataset(dataset)


def read_source(ctx: click.Context, lexicon: Lexicon | None, *, training: bool = False) -> VideoList:
    """Return the videos that a command reads.

    lexicon     the classes that the numbers of a .txt list count
    training    whether they are trained on, which needs one class each: Charades is read by its segments
    """
    from ..pipeline.datasets import read_dataset, read_videos

    given, dataset = ctx.params, named_dataset(ctx)
    source, root, segments = given["source"], given["root"], given["segments"]
    if dataset:
        if root is None:
            raise click.UsageError(
                f"--dataset {given['dataset']} needs --root: the folder of its videos, or of their folders of frames."
            )
        if segments is None and training and dataset.trains_on_segments:
            segments = True
        asked = {name: given[name] for name in ("split", "annotations")}
        return read_dataset(given["dataset"], root, segments=segments, **asked)
    if not source:
        raise click.UsageError(
            f'no videos were named. Say where they are: `vidclip {ctx.info_name} videos/`, or source = "videos" in '
            f"vidclip.toml; or name a public data set: `vidclip {ctx.info_name} --dataset ucf101 --root FOLDER`."
        )
    listed = source[0] if len(source) == 1 else source
    videos = read_videos(
        listed, root=root, allow_missing=given["allow_missing"], lexicon=lexicon, images=given["images"]
    )
    if len(source) == 1 and not given["images"]:
        _note_image_folders(Path(source[0]), videos)
    return videos


def _note_image_folders(top: Path, videos: VideoList) -> None:
    """Say what folders of images directly below the source are, which might have been meant as labels."""
    paths = [video.path for video in videos if "/" not in video.id]
    n = top.is_dir() and sum(isinstance(path, Path) and path != top and path.is_dir() for path in paths)
    if n:
        from .messages import note
        from .output import count

        note(
            f"{count(n, 'folder')} of images directly below {top}: each is read as one video, whose frames they "
            "are. With --images, each image is a video of one frame, and its folder is its label."
        )


def print_missing(videos: VideoList) -> None:
    """Print the missing videos before the work, so that a wrong folder is seen at once."""
    from .output import count, echo_some

    if videos.missing:
        listed = count(len(videos) + len(videos.missing), "listed video")
        click.echo(f"{len(videos.missing):,} of {listed} missing, and left out:")
        echo_some([f"{video.id}  ({video.origin})" for video in videos.missing])
