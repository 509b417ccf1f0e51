"""The lists of the BIKE, Text4Vis and X-CLIP repositories: ``path frames label`` or ``path label``.

    brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0 438 0     BIKE, Text4Vis: a folder of frames, or a video
    -4wsuPCjDBc_000009_000019.mp4 0                            X-CLIP, and theirs too: a video

The labels count the classes of a lexicon from 0.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...lexicons import Lexicon
from .ids import id_below
from .presence import Completer
from .text_files import read_lines
from .video_list import DatasetError, Video, preview

FORMATS = "lines `path label` or `path frames label`, the label a number from 0"

_PATH_LABEL = re.compile(r"(\S.*?)\s+([0-9]+)")
_PATH_FRAMES_LABEL = re.compile(r"(\S.*?)\s+([0-9]+)\s+([0-9]+)")


def read_list(path: Path, base: str, lexicon: Lexicon | None) -> list[Video]:
    """Return the videos of such a list. Paths may hold spaces: a line is read from its right end.

    base       the folder that the paths are relative to
    lexicon    the classes that the labels count, from 0

    A list is of the first form when most of its lines are. The number of frames is not used: the frames
    that are there count. A path without a suffix is a folder, or the video of that name (``v_x.avi``).
    Raises DatasetError for lines of another form, for labels beyond the lexicon, and where the folder that
    a video is in is another class than its label: then the labels count from 1, or another lexicon.
    """
    lines = read_lines(path)
    if not lines:
        raise DatasetError(
            f"{path} is not a video. A list of videos is a .csv file with the header path,label,split, or a "
            f".txt file with {FORMATS}; this one is empty."
        )
    with_frames = sum(bool(_PATH_FRAMES_LABEL.fullmatch(line)) for _, line in lines)
    form = _PATH_FRAMES_LABEL if with_frames > len(lines) / 2 else _PATH_LABEL
    matches = [(number, line, form.fullmatch(line)) for number, line in lines]
    wrong = [f"row {number}, {line[:80]!r}" for number, line, match in matches if not match]
    if wrong:
        shape = "path frames label" if form is _PATH_FRAMES_LABEL else "path label"
        other = "other lines" if len(wrong) < len(lines) else "such lists"
        raise DatasetError(
            f"{path} is not a list of videos: {preview(wrong)}, where {other} read `{shape}`. A .txt list has "
            f"{FORMATS}; names of labels need a .csv file with the header path,label,split."
        )
    if lexicon is None:
        raise DatasetError(
            f"{path} gives labels as numbers: say with --lexicon which classes they count, in their order."
        )
    complete = Completer()
    folder_class: dict[str, tuple[int, ...]] = {}
    videos = []
    for number, _, match in matches:
        if match is None:
            continue
        origin = f"{path}, row {number}"
        given, label = match[1], match[match.re.groups]
        above, name = os.path.split(given)
        folder = os.path.basename(above)
        if folder not in folder_class:
            folder_class[folder] = lexicon.find(folder) if folder else ()
        whole = os.path.join(above, complete(os.path.join(base, above), name))
        videos.append(
            Video(
                id=id_below(base, whole),
                path=Path(os.path.join(base, whole)),
                labels=(_label(label, folder, folder_class[folder], lexicon, origin),),
                origin=origin,
            )
        )
    return videos


def _label(label: str, folder: str, folder_class: tuple[int, ...], lexicon: Lexicon, where: str) -> str:
    index = int(label) if len(label) < 10 else len(lexicon)
    if index >= len(lexicon):
        raise DatasetError(
            f"{where} has the label {label[:20]}, but the lexicon {lexicon.name} has the classes 0 to "
            f"{len(lexicon) - 1}: name the lexicon that this list was made for."
        )
    if folder_class and index not in folder_class:
        raise DatasetError(
            f"{where} has the label {index}, which is {lexicon.labels[index]!r} in the lexicon {lexicon.name}, for "
            f"a video in the folder {folder!r}, class {folder_class[0]}: the labels count from 1, or count "
            f"another lexicon."
        )
    return lexicon.labels[index]
