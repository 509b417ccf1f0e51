"""Search in a large cache: time and memory of exact search, of the index, and of near-duplicates by features.

    python benchmarks/search.py --videos 20000              # 20,000 videos x 8 frames x 512
    python benchmarks/search.py --videos 1000000 --folder F --keep

The cache is synthetic, with the spread of the demo's features: many centers, videos around them (cosine 0.74), frames around
their video (0.96), all with variances that fall as 1 / i over the axes, as many as count in the demo (28); queries as far from
the nearest video as its texts (0.55), in any direction. Machines are noisy: read ratios within one run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported

from vidclip.cache import CacheWriter, FeatureCache, Identity, VideoRecord
from vidclip.pipeline.scoring import l2_normalize
from vidclip.pipeline.search import (
    THRESHOLD,
    CompressedIndex,
    Query,
    SearchSettings,
    build_index,
    candidates_threshold,
    find_duplicates,
    find_results,
    index_path,
)

FRAME_COSINE, VIDEO_COSINE, QUERY_COSINE = 0.96, 0.74, 0.55
POOL = 1 << 15
DUPLICATES_AMONG = 100_000


def near(
    directions: np.ndarray, cosine: float, rng: np.random.Generator, spread: np.ndarray | float = 1.0
) -> np.ndarray:
    """Directions [n, D] at this cosine from others [n, D], L2-normalized; `spread` [D] of the axes on which they differ."""
    noise = rng.standard_normal(directions.shape, np.float32) * np.asarray(spread, np.float32)
    noise -= (noise * directions).sum(axis=-1, keepdims=True) * directions
    return cosine * directions + np.float32(np.sqrt(1 - cosine**2)) * l2_normalize(noise)


def write(folder: Path, videos: int, times: int, dimension: int, centers: int, seed: int) -> None:
    """Write the cache. What frames differ in is drawn from a pool: that is most of the random numbers."""
    rng = np.random.default_rng(seed)
    spread = (1 / np.sqrt(np.arange(1, dimension + 1))).astype(np.float32)
    middles = l2_normalize(rng.standard_normal((centers, dimension), np.float32) * spread)
    pool = l2_normalize(rng.standard_normal((POOL, dimension), np.float32) * spread)
    pool *= np.float32(np.sqrt(1 - FRAME_COSINE**2))
    identity = Identity(
        {"architecture": {"embed_dim": dimension}, "weights_sha256": "00" * 32, "activation": "gelu"},
        {"frames": times, "clips": 1, "crops": 1}, "synthetic", "",
    )  # fmt: skip
    indices, seconds = np.arange(times)[None] * 10, np.arange(times)[None] * 1.0
    with CacheWriter(folder, identity, shard_videos=8192) as writer:
        for start in range(0, videos, 1024):
            n = min(1024, videos - start)
            own = near(middles[rng.integers(centers, size=n)], VIDEO_COSINE, rng, spread)
            frames = pool[rng.integers(POOL, size=n * times)].reshape(n, 1, times, dimension)
            frames += np.float32(FRAME_COSINE) * own[:, None, None]
            for i in range(n):
                writer.add(
                    VideoRecord(
                        id=f"{start + i:08}.mp4", path=f"/{start + i:08}.mp4", duration_seconds=float(times),
                        frames=frames[i], frame_indices=indices, timestamps=seconds,
                    )
                )  # fmt: skip


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Clock:
    """How long a step took: `seconds`, and `cpu` seconds of all threads."""

    def __enter__(self) -> Clock:
        self._began, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._began, time.process_time() - self._cpu

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.cpu:.2f} s CPU)"


def forget(folder: Path) -> None:
    """Let the system forget what it has read of these files, as in the morning."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder: Path, queries: int, seed: int) -> None:
    rng = np.random.default_rng(seed + 1)
    print(f"the program alone: {peak_mib():,.0f} MiB")
    with Clock() as opening:
        cache = FeatureCache(folder)
    print(f"opening the cache: {opening}, {peak_mib():,.0f} MiB")
    for state in ("from the disk", "again"):
        if state != "again":
            forget(folder)
        with Clock() as reading:
            for _ in cache.batches(2048):
                pass
        print(f"reading it once, checked, {state}: {reading}, {peak_mib():,.0f} MiB")
    # The index is measured on others than those that are searched for, on 64 at least, as in the program.
    n_asked = queries + max(64, 2 * queries)
    some = cache.frames(np.sort(rng.choice(len(cache), n_asked, replace=False))).astype(np.float32)
    asked = near(l2_normalize(some.mean(axis=(1, 2))), QUERY_COSINE, rng)
    rng.shuffle(asked)
    for pool in ("mean", "max"):
        measure_pool(cache, pool, asked[:queries], asked[queries:])
    measure_duplicates(cache, seed)


def measure_duplicates(cache: FeatureCache, seed: int) -> None:
    """Print what near-duplicates cost by features alone, among DUPLICATES_AMONG videos at most."""
    among = np.random.default_rng(seed + 2).permutation(len(cache))[:DUPLICATES_AMONG]
    for threshold in (THRESHOLD, candidates_threshold(len(among))):
        with Clock() as clock:
            pairs = find_duplicates(cache, threshold, indices=among)
        print(
            f"near-duplicates by features among {len(among):,} videos, at {threshold:g}: {clock}, {len(pairs):,} pairs, "
            f"{peak_mib():,.0f} MiB"
        )


def measure_pool(cache: FeatureCache, pool: str, asked: np.ndarray, sample: np.ndarray) -> None:
    """Print what videos (`mean`) or moments (`max`) cost: queries [q, D], and those that an index is measured on."""
    settings = SearchSettings(10, pool, moments=pool == "max")
    what = "moments" if settings.moments else "videos"
    tried = [Query(f"q{i}", "text", vector) for i, vector in enumerate(asked)]
    for state in ("from the disk", "again"):
        if state != "again":
            forget(cache.folder)
        with Clock() as first:
            find_results(cache, tried[:1], settings)
        print(f"{what}, exact, one query, {state}: {first}, {peak_mib():,.0f} MiB")
    with Clock() as all_at_once:
        exact = find_results(cache, tried, settings)
    print(f"{what}, exact, {len(tried)} queries in one pass: {all_at_once}")
    with Clock() as building:
        index = build_index(cache, pool, {"text": sample})
    size = index_path(cache.folder, index.facts.kind).stat().st_size / 2**20
    print(
        f"{what}, index built: {building}, {size:,.0f} MiB on disk, {peak_mib():,.0f} MiB; the best "
        f"{index.facts.depth} compared exactly, recall on its sample {dict(index.facts.recall)}"
    )
    index.close()
    forget(cache.folder)
    with Clock() as first:
        index = CompressedIndex(cache, pool)
        found = find_results(cache, tried[:1], settings, index=index)
    clocks = []
    for query in tried[1:]:
        with Clock() as each:
            found += find_results(cache, [query], settings, index=index)
        clocks.append(each)
    hits = [
        len({each.video for each in one} & {each.video for each in other}) / len({each.video for each in one})
        for one, other in zip(exact, found, strict=True)
    ]
    seconds = [clock.seconds for clock in clocks]
    print(
        f"{what}, compressed: first query, from the disk, index opened: {first}; others {np.median(seconds):.3f} s "
        f"({np.median([clock.cpu for clock in clocks]):.3f} s CPU; median), {max(seconds):.3f} s (slowest); recall at "
        f"10 {np.mean(hits):.3f}; {peak_mib():,.0f} MiB"
    )
    index.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--centers", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument(
        "--folder", type=Path, help="Where the cache is written; one that is there is used again."
    )
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="vidclip-search-"))
    try:
        if not (folder / "cache.json").exists():
            sizes = (given.videos, given.frames, given.dimension, given.centers, given.seed)
            with Clock() as writing:  # in a process of its own: its memory is not that of a search
                writer = multiprocessing.get_context("spawn").Process(target=write, args=(folder, *sizes))
                writer.start()
                writer.join()
            if writer.exitcode:
                raise SystemExit(f"{folder} could not be written")
            print(f"{given.videos:,} x {given.frames} x {given.dimension} written in {writing.seconds:.1f} s")
        measure(folder, given.queries, given.seed)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
