"""Sound things, to be damaged or interrupted: videos of many codecs, lists of them, caches and heads."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Limits, vidclip, watched

KINDS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    # name: (encoder, pixel format, options of the encoder, options of the container)
    "h264.mp4": ("libx264", "yuv420p", {"preset": "ultrafast", "g": "8"}, {}),
    "h264-b.mp4": ("libx264", "yuv420p", {"preset": "medium", "g": "12", "bf": "2"}, {}),
    "h264-faststart.mp4": ("libx264", "yuv420p", {"g": "10"}, {"movflags": "+faststart"}),
    "h264-fragments.mp4": ("libx264", "yuv420p", {"g": "8"}, {"movflags": "+frag_keyframe+empty_moov"}),
    "h264.mkv": ("libx264", "yuv420p", {"g": "8", "bf": "2"}, {}),
    "h264.mov": ("libx264", "yuv420p", {"g": "24", "bf": "0"}, {}),
    "h264.ts": ("libx264", "yuv420p", {"g": "8"}, {}),
    "h264.flv": ("libx264", "yuv420p", {"g": "8"}, {}),
    "hevc.mp4": ("libx265", "yuv420p", {"x265-params": "keyint=8:log-level=none:pools=none"}, {}),
    "vp8.webm": ("libvpx", "yuv420p", {"g": "8", "b": "300k"}, {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"g": "8", "b": "300k"}, {}),
    "av1.mkv": ("libsvtav1", "yuv420p", {"preset": "12", "g": "8"}, {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "8", "b": "500k"}, {}),
    "mpeg4.mp4": ("mpeg4", "yuv420p", {"g": "8", "b": "500k"}, {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}, {}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"g": "8", "b": "500k"}, {}),
    "wmv2.wmv": ("wmv2", "yuv420p", {"g": "8", "b": "500k"}, {}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}, {}),
}
"""The videos that are damaged: codecs and containers in which people keep data sets, and a few others."""

LABELS = ("juggling", "rowing", "singing")


def render(
    path: Path, kind: str = "h264.mp4", *, frames: int = 24, seed: int = 0, width: int = 96, height: int = 64
) -> Path:
    """A video of color fields that drift and squares that jump: no two of its frames are alike."""
    import av

    encoder, pixels, options, container_options = KINDS[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames // 4 + 2, 4, 6, 3)).astype(float)
    with av.open(str(path), "w", options=container_options) as container:
        stream: Any = container.add_stream(encoder, rate=12, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.thread_type = "NONE"
        for t in range(frames):
            low, share = divmod(t / 4, 1)
            small = coarse[int(low)] * (1 - share) + coarse[int(low) + 1] * share
            picture = np.kron(small, np.ones((-(-height // 4), -(-width // 6), 1)))[:height, :width]
            picture = picture.astype(np.uint8)
            y, x = rng.integers(0, height - 16), rng.integers(0, width - 16)
            picture[y : y + 16, x : x + 16] = rng.integers(0, 256, 3)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_list(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    """A CSV list: (path, label, split)."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return path


def _encoder(frames: int) -> tuple[str, ...]:
    return ("--model", "demo", "--frames", str(frames), "--workers", "1")


@dataclass(frozen=True)
class World:
    """A few videos with labels, and what vidclip made of them: sound, and never changed again."""

    folder: Path

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    @property
    def list(self) -> Path:
        return self.folder / "list.csv"

    @property
    def encoder(self) -> tuple[str, ...]:
        return _encoder(4)

    def rows(self) -> list[tuple[str, str, str]]:
        """Path, label and split of each listed video."""
        with self.list.open(newline="") as file:
            return [(path, label, split) for path, label, split in list(csv.reader(file))[1:]]

    def copy_cache(self, name: str, to: Path) -> Path:
        """A copy that keeps times, so that nothing in it looks newer than its videos."""
        return shutil.copytree(self.folder / name, to, symlinks=True)


def render_kinds(folder: Path) -> dict[str, Path]:
    """A sound video of each of KINDS. Encoders start threads and talk: they do so in a process of their own."""

    def work() -> None:
        for number, kind in enumerate(KINDS):
            render(folder / kind, kind, seed=number)

    done = watched(work, folder=folder, limits=Limits(300))
    if done.status:
        raise RuntimeError(f"rendering: {done.status} {done.stderr}")
    return {kind: folder / kind for kind in KINDS}


def build_world(folder: Path) -> World:
    """Renders 14 videos, one of them damaged; extracts three caches and trains four heads.

    cache       12 videos in two shards, one failure, one missing video, text embeddings, attributes
    sibling     other videos, the same encoder and sampling
    stranger    the first videos under another sampling
    """
    world = World(folder)
    rows = [
        (f"{label}/clip{number:02}.mp4", label, "test" if number % 2 else "train")
        for number, label in enumerate((LABELS * 5)[:13])
    ]

    def draw() -> None:
        for number, (name, _, _) in enumerate(rows):
            render(world.videos / name, frames=14 + number, seed=number)
        for number in range(6):
            render(folder / "other" / LABELS[number % 3] / f"other{number}.mp4", frames=20, seed=100 + number)

    if (done := watched(draw, folder=folder, limits=Limits(300))).status:
        raise RuntimeError(f"rendering: {done.status} {done.stderr}")
    (world.videos / rows[12][0]).write_bytes(b"no video at all" * 50)
    rows.append(("rowing/gone.mp4", "rowing", "test"))
    write_list(world.list, rows)
    write_list(folder / "half.csv", rows[:7])

    def run(*arguments: object) -> None:
        done = vidclip(*arguments, folder=folder, limits=Limits(600))
        if done.complaint or done.status not in (0, 1):
            raise RuntimeError(f"vidclip {arguments}: {done.status} {done.stderr}")

    root = ("--root", world.videos)
    for name in ("half.csv", "list.csv"):
        run("extract", folder / name, *root, "--allow-missing", "--cache", "cache", *world.encoder)
    run("extract", folder / "other", "--cache", "sibling", *world.encoder)
    run("extract", folder / "half.csv", *root, "--cache", "stranger", *_encoder(3))
    for name in ("cache", "stranger"):
        run("eval", "--cache", name, "--pool", "vcs", "--prompt", "text4vis", "--attributes", "demo")
    for name, options in HEADS.items():
        run("fit", "--cache", "cache", "--epochs", "2", "--output", f"{name}.safetensors", *options)
    run("eval", "--cache", "cache", "--protocol", "few-shot", "--classifier", "lda", "--shots", "2",
        "--seeds", "1", "--json", "shots.json")  # fmt: skip
    return world


HEADS: dict[str, tuple[str, ...]] = {
    "text": ("--classifier", "text"),
    "linear": ("--classifier", "linear"),
    "transformer": ("--classifier", "text", "--temporal", "transformer"),
    "prompt": ("--classifier", "text", "--prompt-context", "4"),
    "attributes": ("--head", "attributes", "--attributes", "demo"),
}
"""Name -> options of `vidclip fit`."""


_OF_SOURCE = ("path", "root", "source_bytes", "source_modified_ns")


def contents(folder: Path, *, source: bool = True) -> dict[str, Any]:
    """All that a cache says, in a form that two caches can be compared in, whatever their shards.

    source  Whether it is of interest where the videos lie.
    """
    from vidclip.cache import FeatureCache

    cache = FeatureCache(folder)
    frames, indices, seconds = cache.frames(), cache.frame_indices(), cache.timestamps()
    videos = {}
    for row, video in enumerate(cache.videos):
        facts = {key: value for key, value in vars(video).items() if source or key not in _OF_SOURCE}
        sha = hashlib.sha256(frames[row].tobytes() + indices[row].tobytes() + seconds[row].tobytes())
        videos[video.id] = (sha.hexdigest(), json.dumps(facts, sort_keys=True, default=str))
    return {
        "identity": cache.identity.digest,
        "videos": videos,
        "failures": sorted((failure.id, failure.stage, failure.reason) for failure in cache.failures()),
        "missing": sorted((video.id, video.split, video.labels) for video in cache.missing()),
        "files": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted([*folder.glob("text-*"), *folder.glob("attributes-*")])
        },
    }


def difference(found: Any, expected: Any, name: str = "") -> str:
    """The first place in which two values differ, in words; empty where they are equal."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}, key=str):
            if key not in found or key not in expected:
                return f"{name}/{key}: only in the {'result' if key in found else 'unbroken run'}"
            if place := difference(found[key], expected[key], f"{name}/{key}"):
                return place
        return ""
    return "" if found == expected else f"{name}: {str(found)[:200]} instead of {str(expected)[:200]}"
