"""A worker of an extraction on a Ray cluster: it decodes, encodes, and writes one shard for each lease.

It holds no lock and never opens the cache; `ray` gives out the leases, and keeps the accounts. Pixels stay on the machine
where they are decoded. This module imports no Ray: `ray` makes an actor of `Worker`; and no torch before a
worker loads its encoder: the process that gives out the leases needs none.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import Failure, VideoRecord
from ...cache.leased import write_shard
from ..encoders import Encoder, EncoderError, EncoderRequest
from ..video import DAMAGED, ClipSpec, DecodeWorkerError, Preprocess
from .accounts import cache_identity, created_by
from .leases import Lease
from .settings import ExtractSettings

if TYPE_CHECKING:
    from .extractor import Extractor


@dataclass(frozen=True)
class LoadedEncoder:
    """What a worker says of the encoder that it has loaded; see `encoders.Encoder`."""

    model: str
    pretrained: str
    name: str
    preprocess: Preprocess
    precision: str
    identity: dict[str, Any]
    frames_per_sample: int
    embeddings_per_sample: int
    patch_shape: tuple[int, int] | None
    warnings: tuple[str, ...]
    program: str
    """Name and version of the program."""
    node: str
    """The machine that the worker is on."""


@dataclass(frozen=True)
class WorkerTask:
    """What all leases of a run have in common."""

    folder: Path
    token_file: str
    token: str
    """What stands in that file of the folder as long as the run goes on: a worker that finds something else has been
    given up, and must not write."""
    clip: ClipSpec
    settings: ExtractSettings
    patches: bool
    identity: str
    """Digest of the cache's identity."""
    request: EncoderRequest
    remember: bool
    """Whether this worker keeps with the cache which files its encoder was loaded from."""


@dataclass(frozen=True)
class Done:
    """What a worker has done with a lease."""

    videos: int = 0
    """How many were encoded, and stand in the shard."""
    frames: int = 0
    damaged: int = 0
    failures: list[Failure] = field(default_factory=list)
    waited_seconds: dict[str, float] = field(default_factory=dict)
    """How long the encoder has waited, as in `Progress`."""
    stopped: bool = False
    """Whether the worker was told to stop before the lease was done."""


@dataclass(frozen=True)
class Trouble:
    """Why a worker cannot go on, though none of its videos is to blame."""

    node: str
    error: EncoderError | OSError | DecodeWorkerError


class Worker:
    """An encoder on one accelerator with the processes that decode for it."""

    def __init__(self) -> None:
        self._node = socket.gethostname()
        self._stopped = threading.Event()
        self._encoder: Encoder | None = None
        self._extractor: Extractor | None = None
        self._task: WorkerTask | None = None
        self._began_ns = 0

    def load(
        self, request: EncoderRequest, precision: str, frames: int, accelerated: bool
    ) -> LoadedEncoder | Trouble:
        """Load the encoder, and say what it is.

        frames         of a clip
        accelerated    whether it must run on an accelerator: this worker has been given one
        """
        os.environ.setdefault(
            "OMP_WAIT_POLICY", "PASSIVE"
        )  # before torch is imported, as `vidclip extract` does
        from ..encoders import load_encoder

        self._began_ns = time.time_ns()
        try:
            encoder = load_encoder(
                request.model,
                request.pretrained,
                device="auto" if accelerated else "cpu",
                precision=precision,
                image_size=request.image_size,
                frames=frames,
            )
        except (EncoderError, OSError) as error:
            return Trouble(self._node, error)
        if accelerated and encoder.device.type == "cpu":
            text = (
                "Ray has given it a GPU, and torch finds none. Is torch installed there with support for it?"
            )
            return Trouble(self._node, EncoderError(f"{text} Use --gpus-per-worker 0 to compute on CPUs."))
        self._encoder = encoder
        return LoadedEncoder(
            model=encoder.model,
            pretrained=encoder.pretrained,
            name=encoder.name,
            preprocess=encoder.preprocess,
            precision=encoder.precision,
            identity=encoder.identity,
            frames_per_sample=encoder.frames_per_sample,
            embeddings_per_sample=encoder.embeddings_per_sample,
            patch_shape=encoder.patch_shape,
            warnings=encoder.warnings,
            program=created_by(),
            node=self._node,
        )

    def begin(self, task: WorkerTask) -> Trouble | None:
        """Get ready for leases of a run."""
        from ..encoders import files_of, remember_encoder
        from .extractor import Extractor

        encoder = self._loaded()
        if not _stands(task):
            error = EncoderError(
                f"{task.folder} is not the folder there that it is here. The cache must be on a file system that all "
                "machines share, under the same path."
            )
            return Trouble(self._node, error)
        self._task = task
        self._extractor = Extractor(
            encoder, task.clip, task.settings, patches=task.patches, most=task.settings.workers
        )
        if task.remember:
            identity = cache_identity(encoder, task.clip)
            try:
                remember_encoder(task.folder, identity, task.request, files_of(encoder), self._began_ns)
            except OSError as error:
                return Trouble(self._node, error)
        return None

    def encode(self, lease: Lease) -> Done | Trouble:
        """Read the videos of a lease, and write its shard."""
        task, extractor = self._task, self._extractor
        if task is None or extractor is None:
            raise RuntimeError("begin comes first")
        if self._stopped.is_set():
            return Done(stopped=True)
        records: list[VideoRecord] = []
        failures: list[Failure] = []
        waited = extractor.waited_seconds
        try:
            for item in extractor.run(lease.videos, lease.generations):
                if isinstance(item, Failure):
                    failures.append(item)
                else:
                    records.append(replace(item, frames=item.frames.astype(np.float16)))
                if self._stopped.is_set():
                    break
            waited = extractor.waited_seconds - waited
            began = time.monotonic()
            if not _stands(task):
                return Trouble(
                    self._node, EncoderError("the extraction that it belongs to has been given up.")
                )
            if records:
                path = task.folder / lease.shard_name
                write_shard(path, records, task.identity, self._loaded().precision, created_by())
        except (EncoderError, OSError, DecodeWorkerError) as error:
            return Trouble(self._node, error)
        return Done(
            len(records),
            len(records) * math.prod(task.clip.shape[:2]),
            sum(record.note.startswith(DAMAGED) for record in records),
            failures,
            {"decode": waited, "write": time.monotonic() - began},
            self._stopped.is_set(),
        )

    def stop(self) -> None:
        """Have the lease that is read end with the video that is finished next, and those behind it not begin."""
        self._stopped.set()

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            raise RuntimeError("load comes first")
        return self._encoder


def _stands(task: WorkerTask) -> bool:
    """Return whether the run that a worker belongs to still stands."""
    try:
        return (task.folder / task.token_file).read_text() == task.token
    except OSError:
        return False
