"""Which videos were recognized, by run, seed and kind of video; figures and their intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...pipeline.evaluation import bootstrap_interval

CLASS_COLUMNS = ("seen among all", "unseen among all", "unseen among unseen")
ORDER_COLUMNS = ("within pairs", "ten classes")
WITHOUT_PROMPTS = "without prompts"
"""Ends the name of a run that is scored with class embeddings which do not look at the video."""


def hits_suffix(split: str, name: str) -> str:
    """Return how the file of the hits of a run, as tables name it, ends."""
    return f".{split}.without-prompts.json" if name.endswith(WITHOUT_PROMPTS) else f".{split}.json"


@dataclass(frozen=True)
class Hits:
    """Which of the n videos of each column were recognized, for every seed."""

    by_column: dict[str, np.ndarray]
    """[seeds, n] of 0 and 100."""
    seconds: list[float]
    """Of each run."""
    peak_mib: list[float]
    """Largest memory of the process of each run, decoding processes apart; none where it was not measured."""
    scorer: str
    """What scores; of a run that chooses, that of the first seed."""


def read_hits(files: Sequence[Path]) -> Hits:
    """Read the hits of a run, one file a seed."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    columns = {
        name: np.array([[100.0 * int(digit) for digit in document["hits"][name]] for document in documents])
        for name in documents[0]["hits"]
    }
    peaks = [document["peak_mib"] for document in documents if "peak_mib" in document]
    return Hits(columns, [document["seconds"] for document in documents], peaks, documents[0]["scorer"])


def figure(values: np.ndarray) -> str:
    """Return the mean over seeds and videos, the standard deviation over seeds, the 95 % bootstrap interval over videos.

    values    [seeds, n] of 0 and 100
    """
    low, high = bootstrap_interval(values.mean(axis=0), np.random.default_rng(0))
    spread = f" ± {values.mean(axis=1).std():.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} [{low:.1f}, {high:.1f}]"


def difference(values: np.ndarray, baseline: np.ndarray) -> str:
    """Return the difference of the means, with its paired interval over videos."""
    paired = values.mean(axis=0) - baseline.mean(axis=0)
    low, high = bootstrap_interval(paired, np.random.default_rng(0))
    return f"{paired.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
