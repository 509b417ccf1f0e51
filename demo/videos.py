"""The world as files: H.264 videos and CSV lists of them."""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

from .actions import ACTIONS, ORDER_PAIRS, action_named
from .render import render_video
from .world import FRAMES_PER_SECOND, KINDS, TEST_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS

SPLIT_SEEDS: dict[str, range] = {"train": TRAIN_SEEDS, "validation": VALIDATION_SEEDS, "test": TEST_SEEDS}
"""The seeds of each split's videos; no two overlap."""

DEFAULT_COUNTS: dict[str, dict[str, int]] = {
    "trimmed": {"train": 4, "test": 4},
    "idle": {"test": 2},
    "distracting": {"test": 2},
}
"""Videos per class of each kind and split that `vidclip demo` renders: 900 in all."""

OFFICIAL_COUNTS: dict[str, dict[str, int]] = {
    "trimmed": {"train": 16, "validation": 4, "test": 10},
    "idle": {"validation": 4, "test": 10},
    "distracting": {"validation": 4, "test": 10},
    "order": {"train": 50, "validation": 10, "test": 50},
}
"""Videos per class of each kind and split that `videos.csv` lists: the ones that published numbers are measured on."""


@dataclass(frozen=True)
class Clip:
    """One video of the world: everything about it follows from these."""

    label: str
    """Name of its class."""
    seed: int
    kind: str = "trimmed"
    """One of KINDS."""
    split: str = "test"

    @property
    def path(self) -> str:
        """Where it lies below the world's folder, POSIX."""
        folder = self.label.replace(" ", "_")
        return f"videos/{folder}/{self.kind}_{self.seed:05d}.mp4"

    @property
    def listed_split(self) -> str:
        """What the column `split` says: `test` for trimmed videos, else with the kind: `test-idle`."""
        return self.split if self.kind == "trimmed" else f"{self.split}-{self.kind}"

    @property
    def group(self) -> str:
        """ "seen", "unseen" (pairs that the encoder never met), or "order"."""
        if self.kind == "order":
            return "order"
        return "seen" if action_named(self.label).seen else "unseen"


def list_clips(counts: Mapping[str, Mapping[str, int]] = DEFAULT_COUNTS) -> list[Clip]:
    """The clips of a world, given videos per class of each kind and split.

    Classes come in their official order, and the n-th video of a class and split has the n-th seed of the split, so
    a larger world contains every smaller one. Raises ValueError for a kind or split that does not exist.
    """
    clips = []
    for kind, splits in counts.items():
        if kind not in KINDS:
            raise ValueError(f'there is no kind of video "{kind}"; the kinds are {", ".join(KINDS)}.')
        actions = [a for pair in ORDER_PAIRS for a in pair] if kind == "order" else ACTIONS
        for split, n in splits.items():
            if split not in SPLIT_SEEDS:
                raise ValueError(f'there is no split "{split}"; the splits are {", ".join(SPLIT_SEEDS)}.')
            clips += [
                Clip(a.name, seed, kind, split) for a in actions for seed in islice(SPLIT_SEEDS[split], n)
            ]
    return clips


def first_clips(count: int) -> list[Clip]:
    """`count` trimmed training clips, one of each class in turn: a world of any size, for benchmarks."""
    return [Clip(ACTIONS[i % len(ACTIONS)].name, i // len(ACTIONS), "trimmed", "train") for i in range(count)]


def write_video(path: Path | str, frames: np.ndarray, *, frames_per_second: int = FRAMES_PER_SECOND) -> None:
    """Write [T, H, W, 3] uint8 RGB frames (H and W even) as H.264, yuv420p, in an MP4 file.

    The file appears under its name only when it is whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
    try:
        with av.open(str(unfinished), "w") as container:
            stream = container.add_stream("libx264", rate=frames_per_second)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            stream.options = {"preset": "ultrafast", "crf": "20", "x264-params": "keyint=12:threads=1"}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_clips(folder: Path, clips: list[Clip]) -> int:
    cv2.setNumThreads(1)
    for clip in clips:
        write_video(folder / clip.path, render_video(action_named(clip.label), clip.seed, clip.kind))
    return len(clips)


def write_clips(folder: Path | str, clips: Iterable[Clip], *, workers: int = 0) -> Iterator[tuple[int, int]]:
    """Render the clips that are not there yet below `folder`; yields (videos done, videos asked for) as it goes.

    workers  processes; 0: one a core
    """
    folder = Path(folder)
    clips = list(clips)
    missing = [clip for clip in clips if not (folder / clip.path).exists()]
    done = len(clips) - len(missing)
    yield done, len(clips)
    pieces = [missing[i : i + 16] for i in range(0, len(missing), 16)]
    workers = min(workers or os.cpu_count() or 1, len(pieces))
    if workers <= 1:
        for piece in pieces:
            done += _write_clips(folder, piece)
            yield done, len(clips)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for n in pool.map(_write_clips, [folder] * len(pieces), pieces):
            done += n
            yield done, len(clips)


LIST_FILE = "videos.csv"
CSV_HEADER = ("path", "label", "split", "kind", "group", "seed")


def write_list(path: Path | str, clips: Iterable[Clip]) -> None:
    """Write a CSV with the columns path, label, split (what loaders read), kind, group and seed."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        writer.writerows((c.path, c.label, c.listed_split, c.kind, c.group, c.seed) for c in clips)
    unfinished.replace(path)


def write_world(
    folder: Path | str, clips: Iterable[Clip] | None = None, *, workers: int = 0
) -> Iterator[tuple[int, int]]:
    """Write a world: its videos, and `videos.csv`, the list of them.

    folder   made if need be; videos that exist are kept
    clips    by default those of DEFAULT_COUNTS
    workers  processes; 0: one a core
    Yields (videos done, videos asked for) as it goes; nothing happens before the first is taken.
    """
    folder = Path(folder)
    clips = list_clips() if clips is None else list(clips)
    folder.mkdir(parents=True, exist_ok=True)
    write_list(folder / LIST_FILE, clips)
    yield from write_clips(folder, clips, workers=workers)
