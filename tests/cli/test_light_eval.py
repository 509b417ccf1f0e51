"""`vidclip eval` from what the cache has: what it need not import, it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import a_record, an_identity
from vidclip.cache import (
    CacheWriter,
    FeatureCache,
    StoredAttributes,
    TextEmbeddings,
    attributes_path,
    text_path,
    write_attributes,
    write_texts,
)
from vidclip.lexicons import Lexicon, load_lexicon
from vidclip.pipeline.scoring import AttributeSettings

PROMPT = "This is a video about {}"
HEAVY = ("torch", "open_clip", "transformers", "torchvision", "timm")
PROGRAM = f"""
import json, sys
from vidclip.cli.main import main
try:
    main()
finally:
    print(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Videos of two classes, with the texts of their labels and their attributes stored; of no encoder that exists."""
    folder = tmp_path_factory.mktemp("light") / "features"
    rng = np.random.default_rng(0)
    with CacheWriter(folder, an_identity()) as writer:
        for i in range(8):
            writer.add(a_record(f"v{i}", rng, labels=(("jump", "run")[i % 2],)))
    features = FeatureCache(folder)
    digest = features.identity.encoder_digest
    lexicon = Lexicon("labels", ("jump", "run"), ("jump", "run"), "")
    texts = (
        TextEmbeddings(  # as an evaluation with concept spotting leaves them; the others read its sentences
            lexicon.phrases,
            (PROMPT,),
            "name",
            rng.standard_normal((2, 16)).astype(np.float32),
            rng.standard_normal((2, 16)).astype(np.float32),
            np.array([0, 1, 2]),
        )
    )
    path = text_path(folder, "labels", lexicon.phrases, (PROMPT,), "name", digest)
    write_texts(path, texts, lexicon="labels", encoder_digest=digest)
    k400 = load_lexicon("k400")
    settings = AttributeSettings().key(features, [k400], features)
    stored = StoredAttributes(
        k400.phrases,
        tuple(features.ids),
        rng.integers(400, size=(8, 5)),
        np.zeros((8, 5), np.float32),
        rng.standard_normal((8, 16)).astype(np.float32),
        settings,
    )
    write_attributes(attributes_path(folder, settings["lexicon"], settings), stored)
    return folder


def evaluate(folder: Path, *options: str) -> tuple[list[str], list[str]]:
    """Return the rows of the table, and which of the heavy packages were imported."""
    command = [sys.executable, "-c", PROGRAM, "eval", "--json", "-", *options]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [result["scorer"] for result in json.loads(done.stdout)[0]["results"]]
    return rows, json.loads(done.stderr.splitlines()[-1])


def test_pooling_and_attributes_import_neither_torch_nor_open_clip(cache):
    pools = [word for pool in ("mean", "max", "vote") for word in ("--pool", pool)]
    rows, heavy = evaluate(cache, *pools, "--attributes", "k400", "--protocol", "multi-label")
    assert rows == [
        *("mean", "max", "vote", "attributes"),
        *(f"{pool} + attributes (0.6)" for pool in ("mean", "max", "vote")),
    ]
    assert heavy == []
    rows, heavy = evaluate(cache, "--per-class", "--predictions", "p.csv")
    assert (rows, heavy) == (["mean"], [])


def test_concept_spotting_imports_torch_alone(cache):
    assert evaluate(cache, "--pool", "vcs") == (["vcs"], ["torch"])
