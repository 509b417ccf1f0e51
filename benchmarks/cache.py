"""How long it takes to read all features of a cache, against the same bytes in a plain file.

python benchmarks/cache.py                  # 13,320 videos (UCF-101) x 8 frames x 512
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vidclip.cache import CacheWriter, FeatureCache, Identity, VideoRecord


def best_of(times: int, work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=13_320)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--dimensions", type=int, default=512)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (1, arguments.frames, arguments.dimensions)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # As an extraction leaves it: shards of 1,024, videos in the order in which they were finished.
        began = time.perf_counter()
        with CacheWriter(folder / "cache", Identity({}, {}, "benchmark")) as writer:
            for number in rng.permutation(arguments.videos):
                writer.add(
                    VideoRecord(
                        id=f"class{number % 101:03}/video{number:06}.avi",
                        path=f"/data/class{number % 101:03}/video{number:06}.avi",
                        labels=(f"class{number % 101:03}",),
                        frames=rng.standard_normal(shape, np.float32),
                        frame_indices=np.arange(arguments.frames)[None],
                        timestamps=np.arange(arguments.frames)[None] / 25,
                    )
                )
        written = time.perf_counter() - began
        began = time.perf_counter()
        cache = FeatureCache(folder / "cache")
        opened = time.perf_counter() - began
        features = cache.frames()
        features.tofile(folder / "plain")
        plain = best_of(5, lambda: np.fromfile(folder / "plain", np.float16))
        read = best_of(5, cache.frames)
    print(
        f"{arguments.videos:,} x {arguments.frames} x {arguments.dimensions}: {features.nbytes / 1e6:.0f} MB"
    )
    print(
        f"write {written:.2f} s; open (ids, labels) {opened:.3f} s; read all {read:.3f} s; numpy.fromfile {plain:.3f} s"
    )
    print(f"read all / numpy.fromfile: {read / plain:.2f}")


if __name__ == "__main__":
    main()
