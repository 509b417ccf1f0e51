"""How long heads take on cached features.

    python benchmarks/heads.py           # few-shot: 101 classes, K = 1, 2, 4, 8, 16, three seeds, three heads
    python benchmarks/heads.py --lda     # LDA on 24,000 x 512 of 400 classes: time and memory
    python benchmarks/heads.py --temporal    # one training of each temporal module on 16 videos a class

Features are synthetic, of UCF-101's size: 9,537 training and 3,783 test videos of 8 x 512. Every few-shot run has
as many iterations as ten epochs of the full training set.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vidclip.cache import (
    CacheWriter,
    FeatureCache,
    Identity,
    TextEmbeddings,
    VideoRecord,
    text_path,
    write_texts,
)
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.heads import LDAClassifier

PROMPT = "This is a video about {}"
TRAIN, TEST, FRAMES, DIMENSIONS = 9_537, 3_783, 8, 512


def make_cache(folder: Path) -> None:
    """Videos around their class's sentence, noisy enough that shots matter."""
    rng = np.random.default_rng(0)
    classes = load_lexicon("ucf101")
    sentence = rng.standard_normal((101, DIMENSIONS)).astype(np.float32)
    # What videos of a class look like is not quite what its name says.
    seen = sentence + 2.0 * rng.standard_normal(sentence.shape).astype(np.float32)
    with CacheWriter(folder, Identity({"architecture": {}}, {}, "benchmark")) as writer:
        for number in range(TRAIN + TEST):
            own = seen[number % 101] + 6 * rng.standard_normal(DIMENSIONS)
            writer.add(
                VideoRecord(
                    id=f"{number:06}",
                    path=f"{number:06}",
                    labels=(classes.labels[number % 101],),
                    split="train" if number < TRAIN else "test",
                    frames=(own + 2 * rng.standard_normal((1, FRAMES, DIMENSIONS))).astype(np.float32),
                    frame_indices=np.arange(FRAMES)[None],
                    timestamps=np.arange(FRAMES)[None] / 25,
                )
            )
    cache = FeatureCache(folder)
    digest = cache.identity.encoder_digest
    none = np.zeros((0, DIMENSIONS), np.float32)
    texts = TextEmbeddings(classes.phrases, (PROMPT,), "none", sentence, none, np.zeros(102, np.int64))
    write_texts(
        text_path(folder, classes.name, classes.phrases, (PROMPT,), "none", digest),
        texts,
        lexicon=classes.name,
        encoder_digest=digest,
    )


def run(*arguments: object) -> float:
    command = [sys.executable, "-m", "vidclip.cli.main", *map(str, arguments)]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def few_shot(folder: Path) -> None:
    seconds = run(
        "eval", "--cache", folder, "--lexicon", "ucf101", "--protocol", "few-shot",
        *(word for kind in ("text", "linear", "lda") for word in ("--classifier", kind)),
        *(word for k in (1, 2, 4, 8, 16) for word in ("--shots", k)),
    )  # fmt: skip
    print(
        f"few-shot, 101 classes x 5 values of K x 3 seeds x 3 heads, {TRAIN:,} + {TEST:,} videos, start-up included: "
        f"{seconds:.0f} s (aim: below 120 on two cores; {os.cpu_count()} here)"
    )


def temporal(folder: Path) -> None:
    for module in ("conv", "mit", "transformer"):
        seconds = run(
            "fit", "--cache", folder, "--lexicon", "ucf101", "--temporal", module, "--shots", 16, "--epochs", 1,
            "--output", folder / "head.safetensors",
        )  # fmt: skip
        print(f"{module}: one epoch of as many iterations as the full set, and the test: {seconds:.0f} s")


def lda() -> None:
    rng = np.random.default_rng(0)
    classes = rng.standard_normal((400, DIMENSIONS)).astype(np.float32)
    labels = np.arange(24_000) % 400
    videos = classes[labels] + 3 * rng.standard_normal((24_000, DIMENSIONS)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    model = LDAClassifier(max_per_class=60).fit(videos, labels)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"LDA on 24,000 x {DIMENSIONS}, 400 classes: {seconds:.1f} s, {peak / 1024:.0f} MiB above the "
        f"{videos.nbytes / 2**20:.0f} MiB of features; training accuracy {100 * model.score(videos, labels):.1f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lda", action="store_true")
    parser.add_argument("--temporal", action="store_true")
    arguments = parser.parse_args()
    if arguments.lda:
        lda()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "features"
        make_cache(folder)
        (temporal if arguments.temporal else few_shot)(folder)


if __name__ == "__main__":
    main()
