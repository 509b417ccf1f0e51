"""What bf16 changes: extraction in bf16 against fp32, on every split of the demo, video by video.

    python benchmarks/precision.py [FOLDER]      # about three minutes; renders into FOLDER, which can be used again

Prints the least and the mean cosine between the two embeddings of a frame, and for every split the difference
in top-1 with its 95 % bootstrap interval, paired by video. `--precision auto` takes bf16 on a CPU that has it
as long as all these intervals include 0.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from vidclip.cache import FeatureCache
from vidclip.demo.measure import PROMPT, spotting_scorer
from vidclip.demo.report import COUNTS
from vidclip.demo.videos import LIST_FILE, list_clips, write_world
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import load_encoder, text_embeddings
from vidclip.pipeline.evaluation import evaluate, select_videos
from vidclip.pipeline.extraction import ExtractSettings, extract
from vidclip.pipeline.scoring import MeanScorer
from vidclip.pipeline.video import Sampling


def measure(folder: Path) -> None:
    counts = {kind: {name: n for name, n in of.items() if name != "train"} for kind, of in COUNTS.items()}
    for _ in write_world(folder, list_clips(counts)):
        pass
    videos = read_videos(folder / LIST_FILE)
    caches = {}
    for precision in ("fp32", "bf16"):
        encoder = load_encoder("demo", device="cpu", precision=precision)
        extract(
            videos, encoder, folder / precision, Sampling(8), ExtractSettings(workers=os.cpu_count() or 1)
        )
        caches[precision] = FeatureCache(folder / precision)
    fp32, bf16 = caches["fp32"], caches["bf16"]

    place = {id: index for index, id in enumerate(bf16.ids)}
    full, half = (
        array.astype(np.float32) for array in (fp32.frames(), bf16.frames([place[id] for id in fp32.ids]))
    )
    norms = np.linalg.norm(full, axis=-1) * np.linalg.norm(half, axis=-1)
    cosines = (full * half).sum(axis=-1) / norms
    print(
        f"{cosines.size:,} frames: cosine of bf16 to fp32 least {cosines.min():.5f}, mean {cosines.mean():.6f}, "
        f"{100 * (cosines >= 0.9999).mean():.2f} % at least 0.9999"
    )
    print(f"\n{'split':24}{'pool':8}{'videos':>8}{'fp32':>8}{'bf16':>8}   difference [95 % interval]")
    for split in sorted(set(fp32.splits)):
        hits = {name: by_video(cache, split) for name, cache in caches.items()}
        for pool, before in hits["fp32"].items():
            after = hits["bf16"][pool]
            right = np.array([(before[id], after[id]) for id in sorted(before)], float)
            differences = 100 * (right[:, 1] - right[:, 0])
            rng = np.random.default_rng(0)
            means = [differences[rng.integers(0, len(right), len(right))].mean() for _ in range(10_000)]
            low, high = np.quantile(means, [0.025, 0.975])
            print(
                f"{split:24}{pool:8}{len(right):8}{100 * right[:, 0].mean():8.2f}{100 * right[:, 1].mean():8.2f}   "
                f"{differences.mean():+.2f} [{low:+.2f}, {high:+.2f}]{'' if low <= 0 <= high else '  0 is outside'}"
            )


def by_video(cache: FeatureCache, split: str) -> dict[str, dict[str, bool]]:
    """{pool: {video id: whether its top-1 class is right}}."""
    classes = load_lexicon("demo-order" if split.endswith("-order") else "demo-classes")
    test = select_videos(cache, classes, split)
    texts = text_embeddings(cache, classes, [PROMPT])
    scorers = [MeanScorer(texts.sentence, name="mean"), spotting_scorer(texts, name="vcs")]
    found = {}
    for result in evaluate(cache, test, scorers, "full-classes", len(classes)):
        ((positions, right),) = result.hits
        ids = [cache.ids[index] for index in test.indices[positions]]
        found[result.scorer] = dict(zip(ids, right.tolist(), strict=True))
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            measure(Path(temporary))
