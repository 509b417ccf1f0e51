"""Concept spotting against the direct formulation, which makes an array [N, C, D].

    python benchmarks/concept_spotting.py              # 8 x 512 features, 400 classes, 77 positions
    python benchmarks/concept_spotting.py --memory     # peak memory with 1,000 and with 10,000 videos

The direct formulation is METHODS' three lines as einsums over all 77 positions of each class, in blocks of
videos, with the same threads. Ratios are within one run; machines are noisy.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from vidclip.cache import TextEmbeddings
from vidclip.pipeline.scoring import ConceptSpotter

FRAMES, DIMENSIONS, CLASSES, POSITIONS = 8, 512, 400, 77


def some_texts(rng: np.random.Generator, counts: np.ndarray) -> TextEmbeddings:
    return TextEmbeddings(
        phrases=tuple(map(str, range(len(counts)))),
        prompts=("{}",),
        word_mode="name",
        sentence=rng.standard_normal((len(counts), DIMENSIONS), np.float32),
        words=rng.standard_normal((int(counts.sum()), DIMENSIONS), np.float32),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )


def words_of_names(rng: np.random.Generator, classes: int) -> np.ndarray:
    """How many words each of the classes has, about as in Kinetics."""
    return rng.choice([1, 2, 3, 4, 5], classes, p=[0.2, 0.4, 0.2, 0.15, 0.05])


def direct(frames: torch.Tensor, words: torch.Tensor, sentence: torch.Tensor, block: int = 4) -> torch.Tensor:
    """frames [N, T, D], words [C, K, D], sentence [C, D], unit rows -> scores [N, C]."""
    scores = []
    for part in frames.split(block):
        logits = torch.einsum("ntd,ckd->nckt", part, words) / 0.01
        saliency = logits.softmax(dim=-1).mean(dim=2)
        pooled = torch.einsum("nct,ntd->ncd", saliency, part)
        scores.append(torch.einsum("ncd,cd->nc", F.normalize(pooled, dim=-1), sentence))
    return torch.cat(scores)


def per_video(work: Callable[[], object], videos: int) -> float:
    work()
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / videos


def compare() -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((1024, FRAMES, DIMENSIONS), np.float32)
    every = some_texts(rng, np.full(CLASSES, POSITIONS))
    own = some_texts(rng, words_of_names(rng, CLASSES))
    unit = F.normalize(torch.from_numpy(frames[:64]), dim=-1)
    words = F.normalize(torch.from_numpy(every.words), dim=-1).view(CLASSES, POSITIONS, -1)
    sentence = F.normalize(torch.from_numpy(every.sentence), dim=-1)
    spotter, over_all = ConceptSpotter(own), ConceptSpotter(every)
    difference = np.abs(over_all.scores(frames[:64]) - direct(unit, words, sentence).numpy()).max()
    einsum = per_video(lambda: direct(unit, words, sentence), 64)
    fast_all = per_video(lambda: over_all.scores(frames[:256]), 256)
    fast_own = per_video(lambda: spotter.scores(frames), 1024)
    print(
        f"{FRAMES} x {DIMENSIONS} features, {CLASSES} classes, {torch.get_num_threads()} threads; largest difference {difference:.1e}"
    )
    print(f"einsum over {POSITIONS} positions: {1e3 * einsum:.3f} ms a video")
    print(
        f"vidclip over {POSITIONS} positions: {1e3 * fast_all:.3f} ms a video, {einsum / fast_all:.1f} times faster"
    )
    print(
        f"vidclip over the words of the names: {1e3 * fast_own:.3f} ms a video, {einsum / fast_own:.1f} times faster"
    )


MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from concept_spotting import some_texts, CLASSES, FRAMES, DIMENSIONS
from vidclip.pipeline.scoring import ConceptSpotter
rng = np.random.default_rng(0)
spotter = ConceptSpotter(some_texts(rng, np.full(CLASSES, 3)))
frames = rng.standard_normal((500, FRAMES, DIMENSIONS), np.float32)
for _ in range(int(sys.argv[1]) // 500):          # as they come from a cache, batch by batch
    spotter.scores(frames)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure_memory() -> None:
    from pathlib import Path

    here = str(Path(__file__).parent)
    peaks = []
    for videos in (1000, 10_000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(videos), here], stdout=subprocess.PIPE, text=True, check=True
        )
        peaks.append(float(done.stdout))
        print(f"{videos:,} videos: peak {peaks[-1]:,.0f} MiB")
    print(f"ratio: {peaks[1] / peaks[0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", action="store_true")
    if parser.parse_args().memory:
        measure_memory()
    else:
        compare()


if __name__ == "__main__":
    main()
