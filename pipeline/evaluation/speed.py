"""How fast a model is on this device, and what memory it takes; weights do not matter to either, and are random."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..datasets import VideoList
from ..encoders import OpenClipEncoder, PromptConfig, TowerConfig, load_open_clip
from ..extraction import ExtractSettings, extract
from ..video import Sampling

_BATCH = {"cpu": 4}
"""Clips at once; elsewhere 16, as in Table 12 of Text4Vis."""
_WARM_UP, _ROUNDS, _AT_LEAST = 10, 30, 3
_SECONDS = 20.0
"""Fewer rounds are timed, but _AT_LEAST, where they take longer together."""


@dataclass(frozen=True)
class Speed:
    """Clips of one view a second, without a head."""

    device: str
    precision: str
    batch: int
    """Clips that are encoded at once."""
    encode_clips_per_second: float
    """Median over batches of pixels that are ready."""
    extract_clips_per_second: float | None
    """With reading, decoding and writing, the start of the workers included; None where no videos were given."""
    memory_bytes: int
    """On an accelerator the most that was allocated there while pixels were encoded; on a CPU the largest size of the
    process, with all that Python and torch take."""


def measure_speed(
    model: str,
    *,
    frames: int = 8,
    image_size: int | None = None,
    tower: str = "none",
    prompts: PromptConfig | None = None,
    device: str = "auto",
    precision: str = "auto",
    videos: VideoList | None = None,
) -> Speed:
    """Measure a model, as `model_cost` takes it, in a process of its own.

    Raises EncoderError for a model that cannot be built, and ValueError as `model_cost` does.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        inside = TowerConfig(tower, frames, prompts=prompts) if tower != "none" else None
        return pool.submit(_measure, model, frames, image_size, inside, device, precision, videos).result()


def _measure(
    model: str,
    frames: int,
    image_size: int | None,
    tower: TowerConfig | None,
    device: str,
    precision: str,
    videos: VideoList | None,
) -> Speed:
    encoder = load_open_clip(model, device=device, precision=precision, image_size=image_size, weights=False)
    if tower is not None:
        encoder.change_tower(tower)
    batch = _BATCH.get(encoder.device.type, 16)
    seconds = _seconds(encoder, batch * frames)
    memory = _peak_memory(encoder.device)
    rate = None
    if videos is not None:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            summary = extract(videos, encoder, Path(folder) / "cache", Sampling(frames), ExtractSettings())
            rate = summary.progress.encoded / (time.perf_counter() - began)
    return Speed(str(encoder.device), encoder.precision, batch, batch / seconds, rate, memory)


def _seconds(encoder: OpenClipEncoder, n_frames: int) -> float:
    """Return the median time of a batch of frames that lie on the device."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (n_frames, *encoder.preprocess.size, 3), np.uint8))
    pixels = pixels.to(encoder.device)
    taken: list[float] = []
    began = time.perf_counter()
    for number in range(_WARM_UP + _ROUNDS):
        start = time.perf_counter()
        encoder.encode_frames(pixels)[:1].cpu()  # which waits for the device
        taken.append(time.perf_counter() - start)
        if number >= _AT_LEAST and time.perf_counter() - began > _SECONDS:
            break
    warm_up = min(_WARM_UP, len(taken) - _AT_LEAST)
    return float(np.median(taken[warm_up:]))


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
