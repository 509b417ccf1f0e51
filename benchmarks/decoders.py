"""Which frames decoders give, of every codec and container here, and what they cost.

    python benchmarks/decoders.py                        # decord, PyAV, torchcodec, and what `decode_video` chooses
    python benchmarks/decoders.py --decord FOLDER        # and another decord: pip install --target FOLDER --no-deps decord
    python benchmarks/decoders.py --speed                # CPU seconds, as ratios within one run

The clips show their own numbers. Each frame is read in order, and then each in a random order; `wrong` counts frames that
are not those asked for, `refused` clips that raise an error. decord is asked directly, without the rules of `packets`:
what it gets wrong alone is why these are there. Where torchcodec is installed, it is asked both ways.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from numbered_videos import AS_THEY_ARE, RATE, frame_numbers, render

N_FRAMES = 60
X264_OPEN = {"x264-params": "open-gop=1:b-adapt=0:scenecut=0:keyint=12:bframes=3"}
X265 = "keyint=12:min-keyint=12:bframes=3:log-level=none:open-gop="
CLIPS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    # name: codec, its options, the container's options
    **{f"h264.{suffix}": ("libx264", {}, {}) for suffix in ("mp4", "mov", "mkv", "avi", "flv", "ts")},
    "h264-open.mp4": ("libx264", X264_OPEN, {}),
    "h264-refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:bframes=0:keyint=24"}, {}),
    "h264-one-key.mp4": ("libx264", {"g": "600", "bf": "3"}, {}),
    "h264-intra.mp4": ("libx264", {"g": "1", "bf": "0"}, {}),
    "h264-fragmented.mp4": ("libx264", {}, {"movflags": "frag_keyframe+empty_moov"}),
    "h264-no-edit-list.mp4": ("libx264", {}, {"use_editlist": "0"}),
    **{
        f"hevc-closed.{suffix}": ("libx265", {"x265-params": X265 + "0"}, {})
        for suffix in ("mp4", "mkv", "ts")
    },
    **{f"hevc-open.{suffix}": ("libx265", {"x265-params": X265 + "1"}, {}) for suffix in ("mp4", "mkv")},
    "hevc-no-b.mp4": ("libx265", {"x265-params": "keyint=12:bframes=0:log-level=none"}, {}),
    **{f"mpeg4.{suffix}": ("mpeg4", {}, {}) for suffix in ("mp4", "mkv", "avi")},
    "mpeg4-no-b.mp4": ("mpeg4", {"bf": "0"}, {}),
    **{f"vp8.{suffix}": ("libvpx", {"g": "12"}, {}) for suffix in ("webm", "mkv")},
    **{f"vp9.{suffix}": ("libvpx-vp9", {"g": "12"}, {}) for suffix in ("webm", "mp4")},
    **{
        f"av1.{suffix}": ("libsvtav1", {"g": "12", "preset": "4", "crf": "5"}, {})
        for suffix in ("mp4", "webm")
    },
    **{f"mpeg2.{suffix}": ("mpeg2video", {"g": "12", "bf": "2"}, {}) for suffix in ("mpg", "ts", "mkv")},
    "ffv1.mkv": ("ffv1", {}, {}),
    "wmv2.asf": ("wmv2", {}, {}),
    "flv1.flv": ("flv", {}, {}),
}
ALONE = "torchcodec alone"
SPEED = (("libx264", 340, 256, 250), ("libx264", 1280, 720, 75), ("libvpx-vp9", 320, 240, 100))


def make_clips(folder: Path) -> None:
    for name, (codec, options, muxer) in CLIPS.items():
        try:
            render(folder / name, N_FRAMES, codec, muxer=muxer, **options)
        except (av.error.FFmpegError, ValueError):
            print(f"no encoder {codec} here")
            (folder / name).unlink(missing_ok=True)
    steps = np.cumsum([0] + [1, 5, 2] * 20)[:N_FRAMES].tolist()
    for suffix in ("mp4", "mkv"):
        render(folder / f"variable-rate.{suffix}", N_FRAMES, pts=steps)
    content = bytearray((folder / "h264.mp4").read_bytes())
    at = content.index(b"elst") + 12
    duration, media_time = struct.unpack(">II", content[at : at + 8])
    ticks = struct.unpack(">I", content[(m := content.index(b"mdhd") + 16) : m + 4])[0] // RATE
    content[at : at + 8] = struct.pack(">II", duration * 30 // 60, media_time + 20 * ticks)
    (folder / "edit-list-20-50.mp4").write_bytes(content)


def expected(name: str) -> range:
    return range(20, 50) if name.startswith("edit-list") else range(N_FRAMES)


def opener(decoder: str) -> Callable[[Path], Callable[[int], np.ndarray]]:
    """Return what opens a video: a function from the number of a frame to its pixels."""
    if decoder == "decord":
        import decord

        decord.logging.set_level(decord.logging.QUIET)

        def by_decord(path: Path) -> Callable[[int], np.ndarray]:
            reader = decord.VideoReader(str(path), num_threads=1)
            return lambda number: reader.get_batch([number]).asnumpy()[0]

        return by_decord
    if decoder == ALONE:
        from torchcodec.decoders import VideoDecoder

        def by_torchcodec(path: Path) -> Callable[[int], np.ndarray]:
            video = VideoDecoder(path, dimension_order="NHWC")
            return lambda number: video[number].numpy()

        return by_torchcodec
    from vidclip.pipeline.video import ClipSpec, Sampling, decode_video

    def by_vidclip(path: Path) -> Callable[[int], np.ndarray]:
        spec = ClipSpec(Sampling(frames=len(expected(path.name))), AS_THEY_ARE)
        pixels = decode_video(path, spec, decoder).pixels[0]
        return lambda number: pixels[number]

    return by_vidclip


def read_all(decoder: str, folder: Path) -> dict[str, int | str]:
    """Return how many frames of each clip are wrong, or the error."""
    found: dict[str, int | str] = {}
    open_with = opener(decoder)
    for path in sorted(folder.iterdir()):
        numbers = expected(path.name)
        shuffled = list(range(len(numbers)))
        random.Random(0).shuffle(shuffled)
        try:
            read = open_with(path)
            order = [*range(len(numbers)), *shuffled]
            found[path.name] = sum(int(frame_numbers(read(at))) != numbers[at] for at in order)
        except Exception as error:  # decoders have kinds of their own
            found[path.name] = type(error).__name__
    return found


def cpu_seconds(decoder: str, folder: Path) -> float:
    """CPU seconds for eight uniform frames of each video: decoded as `vidclip extract` would, or by decord alone."""
    from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling, decode_video

    paths, spec = sorted(folder.iterdir()), ClipSpec(Sampling(), Preprocess((224, 224)))
    decode_video(paths[0], spec, decoder)  # imports are not counted
    began = time.process_time()
    for _ in range(5):
        for path in paths:
            decode_video(path, spec, decoder)
    return time.process_time() - began


def in_process(task: str, decoder: str, folder: Path, first: str | None) -> Any:
    """Run a part in a process of its own, where the packages of the folder `first` come before others."""
    paths = [path for path in (first, os.environ.get("PYTHONPATH")) if path]
    done = subprocess.run(
        [sys.executable, __file__, "--part", task, decoder, str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def render_speed(folder: Path) -> None:
    from extract import render as render_clip

    for number, (codec, width, height, frames) in enumerate(SPEED):
        options = {"preset": "veryfast"} if codec == "libx264" else {"cpu-used": "8", "deadline": "realtime"}
        suffix = "mp4" if codec == "libx264" else "webm"
        render_clip(folder / f"{number}.{suffix}", codec, width, height, frames, options)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decord", metavar="FOLDER", help="where another decord is installed")
    parser.add_argument("--speed", action="store_true", help="measure CPU seconds")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        task, decoder, folder = arguments.part
        print(json.dumps((read_all if task == "frames" else cpu_seconds)(decoder, Path(folder))))
        return
    runs = [("decord", None), ("auto", None), ("pyav", None)]
    if importlib.util.find_spec("torchcodec"):
        runs += [(ALONE, None), ("torchcodec", None)]
    if arguments.decord:
        runs.insert(1, ("decord", arguments.decord))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.speed:
            render_speed(folder)
            runs = [run for run in runs if run[0] not in ("auto", ALONE)]
            seconds = {run: [in_process("speed", run[0], folder, run[1]) for _ in range(5)] for run in runs}
            base = np.array(seconds["pyav", None])
            for (decoder, first), values in seconds.items():
                ratio = base / values
                print(
                    f"{decoder + (' of ' + first if first else ''):30} {np.median(values):6.2f} CPU s, PyAV's over its "
                    f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
                )
            return
        make_clips(folder)
        tables = [in_process("frames", decoder, folder, first) for decoder, first in runs]
    heads = [decoder + (" (other)" if first else "") for decoder, first in runs]
    print(f"{'clip':24}" + "".join(f"{head:>18}" for head in heads))
    for clip in tables[0]:
        print(f"{clip:24}" + "".join(f"{table[clip]:>18}" for table in tables))
    for head, table in zip(heads, tables, strict=True):
        counts = [count for count in table.values() if isinstance(count, int)]
        print(
            f"{head}: {sum(counts)} wrong frames in {sum(map(bool, counts))} clips, {len(table) - len(counts)} refused"
        )


if __name__ == "__main__":
    main()
