"""What recognizing videos by content costs: CPU seconds of the digest beside those of decoding 8 frames.

    python benchmarks/content_digest.py                    # rendered clips, and one that is a hundred times as long
    python benchmarks/content_digest.py --videos FOLDER    # your own

The files lie in the page cache. From a disk, the whole file is read: at most 64 MiB, or 16 MiB of a larger one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
from extract import CLIPS, render

from vidclip.pipeline.video import ClipSpec, Sampling, content_digest, decode_video
from vidclip.pipeline.video.preprocess import Preprocess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=Path, help="folder of videos  [default: rendered clips]")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    clip = ClipSpec(Sampling(8), Preprocess((224, 224)))
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(options.videos.rglob("*.*")) if options.videos else _rendered(Path(folder))
        print(f"{'file':30} {'MB':>8} {'decode ms':>10} {'digest ms':>10} {'share':>7}")
        for path in paths:
            decode = _cpu_ms(lambda path=path: decode_video(path, clip).release(), options.repeats)
            digest = _cpu_ms(lambda path=path: content_digest(path), options.repeats)
            size = path.stat().st_size / 1e6
            print(f"{path.name[:30]:30} {size:8.2f} {decode:10.1f} {digest:10.2f} {digest / decode:7.3f}")


def _rendered(folder: Path) -> list[Path]:
    paths = []
    for name, *settings in CLIPS:
        render(folder / name, *settings)
        paths.append(folder / name)
    return [*paths, _repeated(folder / CLIPS[2][0], folder / "h264-1280x720 x 100.mp4", 100)]


def _repeated(path: Path, to: Path, times: int) -> Path:
    """The packets of a video, one copy after the other."""
    with av.open(str(to), "w") as output:
        end = 0
        for number in range(times):
            with av.open(str(path)) as source:
                stream = source.streams.video[0]
                if not number:
                    target = output.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is not None and packet.pts is not None:
                        packet.dts, packet.pts, packet.stream = packet.dts + end, packet.pts + end, target
                        output.mux(packet)
                end += stream.duration
    return to


def _cpu_ms(step: Callable[[], object], repeats: int) -> float:
    """The median of several runs."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
