"""How cost grows with the videos: `vidclip eval`, and opening a cache from its index.

    python benchmarks/scale.py                                       # 10,000 and 100,000 videos x 8 x 512: 0.8 GB of disk
    python benchmarks/scale.py --videos 10000 100000 1000000         # 8.3 GB
    python benchmarks/scale.py --videos --rows 10000000              # opening alone, 10 M rows of 1 x 1: 3 GB

Videos are stored in a random order of their ids, 1,024 a shard. `eval` is `full-classes` with mean pooling and concept spotting
on stored texts, in a process of its own, on one thread. Beside it stands a plain loop that reads the same bytes, compares their
checksums, converts them to float32, and multiplies the means with the sentences and the frames with sentences and words. CPU
time is printed without that of the imports, and memory above theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vidclip.cache import Identity, TextEmbeddings, text_path, write_texts, write_whole
from vidclip.cache.columns import TextColumn
from vidclip.cache.hdf5 import file_parts
from vidclip.cache.layout import FRAMES_FORMAT
from vidclip.lexicons import load_lexicon

SHARD = 1024
PROMPT = "This is a video about {}"
IDENTITY = Identity({"architecture": {}}, {}, "benchmark")
IMPORTS = """
import numpy, torch, vidclip.cli.main, vidclip.cache.features
from vidclip.pipeline.evaluation import build_scorers, evaluate, select_videos
from vidclip.pipeline.scoring import ConceptSpotter
torch.softmax(torch.rand(64, 64) @ torch.rand(64, 64), dim=1)
"""
PLAIN = """
import sys, zlib
import numpy as np
from vidclip.cache import read_texts
from vidclip.cache.open_file import describe
from pathlib import Path
folder, words = Path(sys.argv[1]), Path(sys.argv[2])
texts = read_texts(words, sys.argv[3])
sentences, queries = texts.sentence.T.copy(), np.concatenate([texts.sentence, texts.words]).T.copy()
best = 0
for path in sorted(folder.glob("frames-*.h5")):
    column = describe(path).columns["frames"]
    with path.open("rb") as file:
        file.seek(column.offset)
        data = memoryview(file.read(column.nbytes))
    for number, start in enumerate(range(0, len(data), 1 << 14)):
        if zlib.crc32(data[start : start + (1 << 14)]) != column.checksums[number]:
            raise SystemExit("damaged")
    frames = np.frombuffer(data, np.float16).reshape(column.shape).astype(np.float32)
    best += (frames.mean(axis=(1, 2)) @ sentences).argmax(axis=1).sum()
    flat = frames.reshape(-1, frames.shape[-1])
    for start in range(0, len(flat), 2048):
        best += (flat[start : start + 2048] @ queries)[0].argmax()
"""


def make_cache(folder: Path, n: int, frames: int, dimensions: int, labels: tuple[str, ...]) -> None:
    """Write n videos in a random order of their ids, and the index."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    write_whole(
        folder / "cache.json",
        json.dumps({"format": "vidclip-features", "version": 1, **IDENTITY.to_dict()}).encode(),
    )
    noise = rng.standard_normal((SHARD, 1, frames, dimensions)).astype(np.float16)
    attributes = {
        "format": FRAMES_FORMAT,
        "identity": IDENTITY.digest,
        "precision": "fp32",
        "created_by": "benchmark",
    }
    order = rng.permutation(n)
    for number, start in enumerate(range(0, n, SHARD)):
        own = order[start : start + SHARD]
        m = len(own)
        columns = {
            "id": TextColumn.of([f"{i % len(labels):03}/{i:09}.mp4" for i in own.tolist()]),
            "path": TextColumn.of([f"/videos/{i % len(labels):03}/{i:09}.mp4" for i in own.tolist()]),
            **{name: TextColumn.of([text] * m) for name, text in (("split", "test"), ("decoder", "decord"))},
            **{name: TextColumn.of([""] * m) for name in ("note", "root")},
            "labels": TextColumn.of([labels[i % len(labels)] for i in own.tolist()]),
            "label_offsets": np.arange(m + 1),
            "frames": np.roll(noise[:m], number, axis=3),
            "frame_indices": np.tile(np.arange(frames), (m, 1, 1)),
            "timestamps": np.tile(np.arange(frames) / 25, (m, 1, 1)),
            "duration_seconds": np.full(m, 10.0),
            "repeated": np.zeros(m, bool),
            **{
                name: np.full(m, 250)
                for name in ("n_frames", "readable_frames", "source_bytes", "source_modified_ns")
            },
            "generation": np.zeros(m, np.int64),
        }
        write_whole(folder / f"frames-{number:05d}.h5", *file_parts(columns, attributes))


def store_texts(folder: Path, dimensions: int) -> Path:
    """Store random texts of Kinetics-400's classes and of their words, and return their file."""
    lexicon, rng = load_lexicon("k400"), np.random.default_rng(1)
    counts = np.array([len(phrase.split()) for phrase in lexicon.phrases])
    texts = TextEmbeddings(
        lexicon.phrases,
        (PROMPT,),
        "name",
        rng.standard_normal((len(counts), dimensions)).astype(np.float32),
        rng.standard_normal((int(counts.sum()), dimensions)).astype(np.float32),
        np.concatenate([[0], np.cumsum(counts)]),
    )
    digest = IDENTITY.encoder_digest
    path = text_path(folder, lexicon.name, lexicon.phrases, (PROMPT,), "name", digest)
    write_texts(path, texts, lexicon=lexicon.name, encoder_digest=digest)
    return path


def measured(*command: object) -> tuple[float, float, float]:
    """Run a command on one thread; return its CPU seconds, its wall seconds and its largest memory in MiB."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.DEVNULL, env={**os.environ, **one}
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:3]} failed")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss / 1024


def median_of(rounds: int, *command: object) -> tuple[float, float, float]:
    """Run a command some times; return the median of each figure of `measured`."""
    cpu, wall, memory = np.median([measured(*command) for _ in range(rounds)], axis=0).tolist()
    return cpu, wall, memory


def report_opening(folder: Path, n: int) -> None:
    libraries = measured("-c", "import numpy, vidclip.cache.features")
    opening = f"from vidclip.cache import FeatureCache; c = FeatureCache({str(folder)!r}); c.ids[len(c) // 2]"
    without = None
    if not (folder / "cache.index").exists():
        without = measured("-c", opening)
        measured("-c", f"from vidclip.cache import FeatureCache; FeatureCache({str(folder)!r}).store_index()")
    with_index = measured("-c", opening)
    for name, found in (("the shards", without), ("the index", with_index)):
        if found:
            print(
                f"  open from {name}: {found[0]:.2f} s CPU, {found[2]:.0f} MiB "
                f"(imports: {libraries[0]:.2f} s, {libraries[2]:.0f} MiB)"
            )
    print(f"  index: {(folder / 'cache.index').stat().st_size / 1e6:,.0f} MB for {n:,} rows", flush=True)


def report_eval(folder: Path, n: int, dimensions: int) -> float:
    words = store_texts(folder, dimensions)
    rounds = max(
        1, min(5, 200_000 // n)
    )  # short runs by the median: the imports, which are taken off, vary by tenths of a second
    libraries = median_of(5, "-c", IMPORTS)
    plain = median_of(rounds, "-c", PLAIN, folder, words, IDENTITY.encoder_digest)
    of_plain = median_of(5, "-c", "import numpy, vidclip.cache.features")
    pools = ("--pool", "mean", "--pool", "vcs")
    command = ("eval", "--cache", folder, "--split", "test", "--lexicon", "k400", *pools)
    found = median_of(rounds, "-m", "vidclip.cli.main", *command)
    work, loop = found[0] - libraries[0], plain[0] - of_plain[0]
    print(f"  eval, mean and vcs: {work:.1f} s CPU, {found[2] - libraries[2]:.0f} MiB above the libraries'")
    print(f"  plain loop: {loop:.1f} s CPU; eval / plain loop: {work / loop:.2f}", flush=True)
    return work


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--rows", type=int, default=0, help="Rows of 1 x 1 that are opened.")
    parser.add_argument("--work", type=Path, help="Where caches are made, and deleted.")
    given = parser.parse_args()
    labels = load_lexicon("k400").labels
    seconds = []
    for n in given.videos:
        with tempfile.TemporaryDirectory(dir=given.work) as name:
            folder = Path(name) / "features"
            make_cache(folder, n, given.frames, given.dimensions, labels)
            print(f"{n:,} videos x {given.frames} x {given.dimensions}, 400 classes", flush=True)
            report_opening(folder, n)
            seconds.append(report_eval(folder, n, given.dimensions))
    if len(seconds) > 1:
        slope = np.polyfit(np.log(given.videos), np.log(seconds), 1)[0]
        print(f"log of the CPU seconds of eval against log of the videos: slope {slope:.2f}")
    if given.rows:
        with tempfile.TemporaryDirectory(dir=given.work) as name:
            folder = Path(name) / "features"
            make_cache(folder, given.rows, 1, 1, labels)
            print(f"{given.rows:,} rows x 1 x 1", flush=True)
            report_opening(folder, given.rows)


if __name__ == "__main__":
    main()
