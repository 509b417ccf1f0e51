"""How long the zero-shot protocols take from a cache, start-up included.

    python benchmarks/protocols.py       # 13,320 videos x 8 x 512 (UCF-101's size), 101 classes

Runs `vidclip eval` as a user would, with mean pooling, concept spotting, attributes and
both fusions, on random features whose texts and attributes are in the cache already.
"""

from __future__ import annotations

import argparse
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
    StoredAttributes,
    TextEmbeddings,
    VideoRecord,
    attributes_path,
    text_path,
    write_attributes,
    write_texts,
)
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.scoring import AttributeSettings

PROMPT = "This is a video about {}"


def make_cache(folder: Path, videos: int, dimensions: int = 512, frames: int = 8) -> None:
    rng = np.random.default_rng(0)
    classes, words = load_lexicon("ucf101"), load_lexicon("k400")
    with CacheWriter(folder, Identity({"architecture": {}}, {}, "benchmark")) as writer:
        for number in range(videos):
            writer.add(
                VideoRecord(
                    id=f"{number:06}",
                    path=f"{number:06}",
                    labels=(classes.labels[number % 101],),
                    split="test1 test2 test3",  # every video is tested every time
                    frames=rng.standard_normal((1, frames, dimensions), np.float32),
                    frame_indices=np.arange(frames)[None],
                    timestamps=np.arange(frames)[None] / 25,
                )
            )
    cache = FeatureCache(folder)
    digest = cache.identity.encoder_digest
    counts = np.array([len(phrase.split()) for phrase in classes.phrases])
    texts = TextEmbeddings(
        classes.phrases,
        (PROMPT,),
        "name",
        rng.standard_normal((101, dimensions), np.float32),
        rng.standard_normal((int(counts.sum()), dimensions), np.float32),
        np.concatenate([[0], np.cumsum(counts)]),
    )
    path = text_path(folder, classes.name, classes.phrases, (PROMPT,), "name", digest)
    write_texts(path, texts, lexicon=classes.name, encoder_digest=digest)
    settings = AttributeSettings().key(cache, [words], cache)
    stored = StoredAttributes(
        words.phrases,
        tuple(cache.ids),
        rng.integers(400, size=(videos, 5)),
        np.zeros((videos, 5), np.float32),
        rng.standard_normal((videos, dimensions), np.float32),
        settings,
    )
    write_attributes(attributes_path(folder, settings["lexicon"], settings), stored)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=13_320)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_cache(Path(name), arguments.videos)
        command = [
            *(sys.executable, "-m", "vidclip.cli.main", "eval", "--cache", name, "--split", "test1"),
            *("--protocol", "full-classes", "--protocol", "half-classes", "--protocol", "splits"),
            *("--lexicon", "ucf101", "--pool", "mean", "--pool", "vcs", "--attributes", "k400"),
        ]
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - began
    print(
        f"{arguments.videos:,} videos, 101 classes; mean, vcs, attributes and both fusions, paired comparisons"
    )
    print(f"full-classes, half-classes and splits, start-up included: {seconds:.1f} s")


if __name__ == "__main__":
    main()
