"""How fast extraction is, against what its parts could do alone, and what it costs in memory.

    python benchmarks/extract.py                     # rendered clips, ViT-B-32 with random weights
    python benchmarks/extract.py --videos FOLDER --model ViT-B-16 --pretrained openai
    python benchmarks/extract.py --against-loop      # times faster than a plain loop, and than a DataLoader
    python benchmarks/extract.py --memory            # peak memory with 200 and with 2,000 videos
    python benchmarks/extract.py --views             # what decoding 4 clips x 3 crops costs
    python benchmarks/extract.py --help-time         # CPU seconds and memory of `vidclip --help`

Efficiency on a CPU: CPU seconds of decode-only plus encode-only, over cores x wall seconds of the pipeline.
On a GPU: the pipeline's rate over that of the slower of decode-only and encode-only, and the share of the
time in which the GPU computed. Figures are ratios within one run; machines are noisy.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

if TYPE_CHECKING:
    from vidclip.pipeline.datasets import Video, VideoList
    from vidclip.pipeline.encoders import OpenClipEncoder
    from vidclip.pipeline.extraction import ExtractSettings, Summary
    from vidclip.pipeline.video import ClipSpec, Sampling

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `vidclip extract` does; the loops gain by it as well

CLIPS = (
    # name, codec, width, height, frames, options
    ("h264-340x256.mp4", "libx264", 340, 256, 300, {"preset": "veryfast"}),
    ("h264-426x240.mkv", "libx264", 426, 240, 250, {"preset": "veryfast"}),
    ("h264-1280x720.mp4", "libx264", 1280, 720, 120, {"preset": "veryfast"}),
    ("mpeg4-320x240.avi", "mpeg4", 320, 240, 200, {}),
    ("vp9-320x240.webm", "libvpx-vp9", 320, 240, 100, {"cpu-used": "8", "deadline": "realtime"}),
)


def render(path: Path, codec: str, width: int, height: int, frames: int, options: dict[str, str]) -> None:
    """A clip of drifting colors and noise: about as hard to decode as a real one."""
    rng = np.random.default_rng(len(path.name))
    y, x = np.mgrid[:height, :width]
    noise = rng.normal(0, 6, (height, width, 1))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            wave = [128 + 90 * np.sin((x * a + y * b) / 40 + t / 9) for a, b in ((1, 2), (2, 1), (1, -1))]
            picture = (np.stack(wave, axis=-1) + np.roll(noise, 3 * t, axis=1)).clip(0, 255).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def rendered_videos(folder: Path, count: int, clips: Sequence[Any] = CLIPS) -> Path:
    """`count` files: the clips above, copied."""
    videos = folder / "videos"
    videos.mkdir()
    originals = []
    for name, *settings in clips:
        render(folder / name, *settings)
        originals.append(folder / name)
    for number in range(count):
        original = originals[number % len(originals)]
        shutil.copy(original, videos / f"{number:05}{original.suffix}")
    return videos


def random_checkpoint(folder: Path, model: str) -> Path:
    """A checkpoint of `model` with random weights: as much work as a real one."""
    import open_clip
    import torch

    torch.manual_seed(0)
    path = folder / "random.pt"
    torch.save(open_clip.create_model(model).state_dict(), path)
    return path


@dataclass
class Measured:
    wall: float
    cpu: float
    """CPU seconds of this process and its children."""


class Clock:
    def __enter__(self) -> Clock:
        self._began = (time.perf_counter(), _cpu_seconds())
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._began
        self.measured = Measured(time.perf_counter() - wall, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def decode_only(videos: Iterable[Video], spec: ClipSpec, workers: int) -> tuple[Measured, int]:
    """Read and decode every video; and how many could not be."""
    from vidclip.pipeline.video import DecodeFailure, DecodePool

    failed = 0
    with Clock() as clock, DecodePool(spec, workers=workers) as pool:
        for _, result in pool.decode((video.path for video in videos), ordered=False):
            failed += isinstance(result, DecodeFailure)
            result.release()
    return clock.measured, failed


def encode_only(encoder: OpenClipEncoder, n_frames: int, batch: int) -> Measured:
    """Encode so many frames from one buffer that is ready; as in `extract`, one batch is computed while the next is asked for."""
    import torch

    pixels = torch.randint(0, 256, (batch, *encoder.preprocess.size, 3), dtype=torch.uint8)
    pixels = pixels.pin_memory() if encoder.device.type == "cuda" else pixels
    encoder.encode_frames(pixels).cpu()  # warm
    with Clock() as clock:
        running = None
        for _ in range(0, n_frames, batch):
            following = encoder.encode_frames(pixels)
            if running is not None:
                running.cpu()
            running = following
        if running is not None:
            running.cpu()
    return clock.measured


@dataclass
class Extracted(Measured):
    """What a whole extraction took."""

    summary: Summary
    busy: float | None
    """On a GPU the share of the wall seconds in which it had a batch: copied it in, and encoded it."""


def whole_extraction(
    videos: VideoList, encoder: OpenClipEncoder, cache: Path, sampling: Sampling, settings: ExtractSettings
) -> Extracted:
    """Extract into a new cache, the start of the workers included."""
    from vidclip.pipeline.extraction import extract

    with _watched_gpu(encoder) as busy:
        with Clock() as clock:
            summary = extract(videos, encoder, cache, sampling, settings)
        measured = clock.measured
        share = busy() / measured.wall if busy else None
    return Extracted(measured.wall, measured.cpu, summary, share)


def measure_rates(arguments: argparse.Namespace, folder: Path) -> None:
    from vidclip.pipeline.datasets import read_videos
    from vidclip.pipeline.encoders import load_open_clip
    from vidclip.pipeline.extraction import ExtractSettings
    from vidclip.pipeline.video import ClipSpec, Sampling

    videos = read_videos(arguments.videos or rendered_videos(folder, arguments.count))
    encoder = load_open_clip(
        arguments.model, arguments.pretrained or "", device=arguments.device, precision=arguments.precision,
        weights=bool(arguments.pretrained),
    )  # fmt: skip
    accelerated = encoder.device.type != "cpu"
    sampling = Sampling(frames=arguments.frames)
    batch = arguments.batch_size or (256 if accelerated else 32)
    workers = arguments.workers or cores()

    decode, failed = decode_only(videos, ClipSpec(sampling, encoder.preprocess), workers)
    n_videos = len(videos) - failed
    n_frames = n_videos * sampling.frames
    encode = encode_only(encoder, n_frames, batch)
    settings = ExtractSettings(workers, batch_size=batch)
    pipeline = whole_extraction(videos, encoder, folder / "cache", sampling, settings)

    print(
        f"{len(videos)} videos, {failed} unreadable; {encoder.name.split(' ')[0]} on {encoder.device}, {encoder.precision}"
    )
    print(f"{sampling.frames} frames a video, {workers} workers, batches of {batch}, {cores()} cores")
    print(f"{'':12}{'videos/s':>10}{'frames/s':>10}{'wall s':>10}{'CPU s':>10}")
    for name, measured in (("decode only", decode), ("encode only", encode), ("pipeline", pipeline)):
        rates = (n_videos / measured.wall, n_frames / measured.wall, measured.wall, measured.cpu)
        print(f"{name:12}" + "".join(f"{value:10.1f}" for value in rates))
    print(f"bottleneck: {pipeline.summary.progress.bottleneck}")
    if accelerated:
        slower = max(decode.wall, encode.wall)
        print(f"pipeline rate / slower of decode only and encode only: {slower / pipeline.wall:.2f}")
        if pipeline.busy is not None:
            print(f"GPU busy: {pipeline.busy:.2f} of the time")
    else:
        efficiency = (decode.cpu + encode.cpu) / (cores() * pipeline.wall)
        print(f"efficiency ((decode CPU s + encode CPU s) / (cores x pipeline wall s)): {efficiency:.2f}")


def measure_against_loop(arguments: argparse.Namespace, folder: Path) -> None:
    """Times faster than what one would write by hand, on the same clips, by turns in one run.

    plain loop     decord's uniform frames, open_clip's transform frame by frame, one `encode_image` a video
    DataLoader     the same decoding and transform in two worker processes, `encode_image` of four videos at once
    vidclip        `extract`, in fp32 and in bf16
    """
    import open_clip
    import torch
    from torch.utils.data import DataLoader

    from vidclip.pipeline.datasets import read_videos
    from vidclip.pipeline.encoders import cpu_has_bf16, load_encoder
    from vidclip.pipeline.extraction import ExtractSettings, extract
    from vidclip.pipeline.video import Sampling

    videos = read_videos(arguments.videos or rendered_videos(folder, arguments.count))
    pretrained = arguments.pretrained or str(random_checkpoint(folder, arguments.model))
    encoders = {
        precision: load_encoder(arguments.model, pretrained, device="cpu", precision=precision)
        for precision in ("fp32", "bf16")
    }
    network, _, transform = open_clip.create_model_and_transforms(arguments.model, pretrained)
    network.eval()
    clips = Clips([str(video.path) for video in videos], arguments.frames, transform)
    workers = arguments.workers or cores()

    def loop() -> None:
        for n in range(len(clips)):
            network.encode_image(clips[n])

    def loader() -> None:
        for batch in DataLoader(clips, batch_size=4, num_workers=2):
            network.encode_image(batch.flatten(0, 1))

    def pipeline(precision: str) -> None:
        cache = folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        sampling = Sampling(frames=arguments.frames)
        batch = arguments.batch_size or 32
        summary = extract(
            videos, encoders[precision], cache, sampling, ExtractSettings(workers, batch_size=batch)
        )
        if summary.failures:
            raise SystemExit(f"{len(summary.failures)} videos could not be read")

    runs = {
        "plain loop": loop,
        "DataLoader": loader,
        "vidclip fp32": lambda: pipeline("fp32"),
        "vidclip bf16": lambda: pipeline("bf16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        network.encode_image(clips[0])  # warm
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                with Clock() as clock:
                    run()
                seconds[name].append(clock.measured.wall)
                cpu[name].append(clock.measured.cpu / len(videos))
    print(
        f"{len(videos)} videos x {arguments.frames} frames, {arguments.model}, {cores()} cores, {workers} workers; medians "
        f"of {arguments.rounds} rounds by turns [least, most]; avx512_bf16 or amx_bf16: {'yes' if cpu_has_bf16() else 'no'}"
    )
    print(f"{'':14}{'videos/s':>20}{'x plain loop':>22}{'x DataLoader':>22}{'CPU s / video':>15}")
    for name, own in seconds.items():
        rates = [len(videos) / value for value in own]
        ratios = [
            [other / value for other, value in zip(seconds[base], own, strict=True)]
            for base in ("plain loop", "DataLoader")
        ]
        print(
            f"{name:14}"
            + "".join(
                f"{_spread(values):>{width}}"
                for values, width in zip((rates, *ratios), (20, 22, 22), strict=True)
            )
            + f"{np.median(cpu[name]):15.3f}"
        )


def _spread(values: list[float]) -> str:
    return f"{np.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


@dataclass
class Clips:
    """What a DataLoader reads: the uniform frames of a video, by decord and open_clip's own transform."""

    paths: list[str]
    frames: int
    transform: Any

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, n: int) -> Any:
        import decord
        import torch
        from PIL import Image

        reader = decord.VideoReader(self.paths[n])
        indices = [i * len(reader) // self.frames for i in range(self.frames)]
        return torch.stack(
            [self.transform(Image.fromarray(frame)) for frame in reader.get_batch(indices).asnumpy()]
        )


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _watched_gpu(encoder: OpenClipEncoder) -> Iterator[Callable[[], float] | None]:
    """Time every pass of the encoder on the GPU itself; what is given returns the sum in seconds. None elsewhere."""
    if encoder.device.type != "cuda":
        yield None
        return
    import torch

    events: list[tuple[Any, Any]] = []
    encode = encoder.encode_frames

    def timed(pixels: Any) -> Any:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        found = encode(pixels)
        stop.record()
        events.append((start, stop))
        return found

    def seconds() -> float:
        torch.cuda.synchronize()
        return sum(start.elapsed_time(stop) for start, stop in events) / 1000

    encoder.encode_frames = timed
    try:
        yield seconds
    finally:
        del encoder.encode_frames  # the class's own is seen again


MEMORY = """
import resource, sys
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import ExtractSettings, extract
from vidclip.pipeline.video import Sampling
videos, cache, weights = sys.argv[1:4]
encoder = load_encoder("ViT-S-32-alt", weights, device="cpu")
summary = extract(read_videos(videos), encoder, cache, Sampling(2), ExtractSettings(batch_size=32))
print(summary.progress.encoded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure_memory(folder: Path) -> None:
    weights = random_checkpoint(folder, "ViT-S-32-alt")
    original = folder / "short.mp4"
    render(original, "libx264", 128, 96, 12, {"preset": "veryfast"})
    peaks = []
    for count in (200, 2000):
        videos = folder / f"videos{count}"
        videos.mkdir()
        for number in range(count):
            shutil.copy(original, videos / f"{number}.mp4")
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(videos), str(folder / f"cache{count}"), str(weights)],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        encoded, peak = done.stdout.split()
        peaks.append(float(peak))
        print(f"{int(encoded):,} short videos: peak {float(peak):,.0f} MiB in the main process")
    print(f"ratio: {peaks[1] / peaks[0]:.2f}")


VIEWS_ROUNDS = 7


def measure_views(arguments: argparse.Namespace, folder: Path) -> None:
    """CPU seconds of decoding 4 clips x 3 crops, against the same frames in one clip of one crop.

    Each frame is to be decoded and resized once, however many views show it: what is left is two more
    crops of each. Frames stand at the middle of their parts: only there are the frames of K clips of T
    those of one clip of K x T.
    """
    from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling, decode_video

    clips, crops, length = 4, 3, arguments.frames
    many = Sampling(length, clips=clips, crops=crops, position="middle")
    single = Sampling(clips * length, position="middle")
    preprocess = Preprocess((224, 224), resize=256)
    if arguments.videos:
        paths = sorted(path for path in arguments.videos.iterdir() if not path.name.startswith("."))
    else:
        paths = []
        for name, *settings in CLIPS:
            render(folder / name, *settings)
            paths.append(folder / name)
        paths.append(images_of(paths[0], folder / "jpg-340x256"))
    print(
        f"{clips} clips x {crops} crops x {length} frames, and the same frames in one view; best of {VIEWS_ROUNDS}"
    )
    print(f"{'':22}{'decoder':24}{'frames':>8}{'views CPU s':>13}{'one CPU s':>11}{'ratio':>7}")
    totals = np.zeros(2)
    for path in paths:
        views, one = (
            decode_video(path, ClipSpec(many, preprocess)),
            decode_video(path, ClipSpec(single, preprocess)),
        )
        if not np.array_equal(np.unique(views.frame_indices), np.unique(one.frame_indices)):
            raise SystemExit(f"{path}: the two samplings choose other frames")
        best = np.full(2, np.inf)
        for _ in range(VIEWS_ROUNDS):  # by turns: whatever slows the machine slows both
            for which, sampling in enumerate((many, single)):
                with Clock() as clock:
                    decode_video(path, ClipSpec(sampling, preprocess))
                best[which] = min(best[which], clock.measured.cpu)
        totals += best
        distinct = len(np.unique(views.frame_indices))
        print(
            f"{path.name:22}{views.decoder:24}{distinct:8}{best[0]:13.3f}{best[1]:11.3f}{best[0] / best[1]:7.2f}"
        )
    print(f"{'all':54}{totals[0]:13.3f}{totals[1]:11.3f}{totals[0] / totals[1]:7.2f}")


def images_of(video: Path, folder: Path) -> Path:
    """The frames of a video as JPEG images."""
    folder.mkdir()
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0), start=1):
            frame.to_image().save(folder / f"img_{number:05}.jpg", quality=90)
    return folder


def measure_help() -> None:
    best = Measured(float("inf"), float("inf"))
    for _ in range(5):
        with Clock() as clock:
            subprocess.run(
                [sys.executable, "-m", "vidclip.cli.main", "--help"], stdout=subprocess.DEVNULL, check=True
            )
        best = min(best, clock.measured, key=lambda measured: measured.cpu)
    code = "import resource, runpy, sys; sys.argv = ['vidclip', '--help']\ntry: runpy.run_module('vidclip.cli.main', run_name='__main__')\nexcept SystemExit: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    peak = float(done.stdout.split()[-1])
    print(f"vidclip --help: {best.cpu:.2f} s of CPU time, {best.wall:.2f} s wall, {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="a folder of videos; default: rendered clips")
    parser.add_argument("--count", type=int, default=200, help="rendered clips")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--pretrained", help="default: random weights, made on the spot")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--against-loop", action="store_true")
    parser.add_argument("--rounds", type=int, default=5, help="with --against-loop")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--views", action="store_true")
    parser.add_argument("--help-time", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.against_loop:
            measure_against_loop(arguments, Path(folder))
        elif arguments.memory:
            measure_memory(Path(folder))
        elif arguments.views:
            measure_views(arguments, Path(folder))
        elif arguments.help_time:
            measure_help()
        else:
            measure_rates(arguments, Path(folder))


if __name__ == "__main__":
    main()
