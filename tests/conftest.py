"""Fixtures: caches, and real encoders small enough for a test."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # before numpy and torch: the workers share the cores
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import tqdm

from helpers import TINY_CONFIG, an_identity, save_model_folder
from vidclip.cache import CacheWriter, Identity, VideoRecord

# A bar of transformers' would leave a thread behind that no test has asked for: DecodePool counts threads.
tqdm.tqdm.monitor_interval = 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`--model` of a CLIP with random weights that encodes a frame in a millisecond."""
    return f"local-dir:{save_model_folder(tmp_path_factory.mktemp('tiny'), TINY_CONFIG)}"


@pytest.fixture(scope="session")
def other_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same architecture under other weights."""
    return f"local-dir:{save_model_folder(tmp_path_factory.mktemp('other'), TINY_CONFIG, seed=1)}"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_cache(tmp_path: Path) -> Callable[..., Path]:
    """Makes a cache of records; `shards` says how many videos each file gets."""

    def write(
        records: Sequence[VideoRecord],
        name: str = "features",
        identity: Identity | None = None,
        shards: Sequence[int] = (),
    ) -> Path:
        folder = tmp_path / name
        sizes = list(shards) or [len(records)]
        start = 0
        with CacheWriter(folder, identity or an_identity()) as writer:
            for size in sizes:
                for record in records[start : start + size]:
                    writer.add(record)
                writer.flush()
                start += size
        return folder

    return write
