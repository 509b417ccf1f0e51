"""How an extraction goes about its work: `ExtractSettings`, and `RaySettings` where it is spread over a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from ..choices import CHANGED, DECODERS, check_choice
from ..video import WORKER_MEMORY_GIB


@dataclass(frozen=True)
class ExtractSettings:
    """Which videos of a list are read, by how many processes and within which limits.

    Which frames are embedded, and as which pixels, is not said here. Raises ValueError for values that cannot be.
    """

    workers: int = 2
    """Processes that decode, one video at a time each."""
    timeout_seconds: float = 60.0
    """How long a process may take for one video."""
    memory_gib: float | None = WORKER_MEMORY_GIB
    """How much memory a process may take for one video (see `DecodePool`). None: no limit."""
    decoder: str = "auto"
    """What decodes (see `decode_video`)."""
    batch_size: int | None = None
    """Frames in one pass of the encoder. None: 32 on a CPU, 256 elsewhere."""
    part: tuple[int, int] | None = None
    """(i, n): the i-th of n parts of the list, by the ids of the videos. None: all of it."""
    retry_failed: bool = False
    """Whether videos that an earlier run could not read are tried again; else only where their files have changed."""
    changed: str = "encode"
    """What to do with videos of the cache whose file is another one today. `encode`: read them again; but where the
    file from before is still there under another path, two videos have one name, and neither is given up for the
    other: that is an error. `replace`: read these again too. `keep`: leave the features. `error`: for any."""
    patches: bool = True
    """Whether patch tokens are kept, of an encoder whose clips have them for X-CLIP's prompts."""
    shard_seconds: float = 60.0
    """After how long at most encoded videos are written to disk."""

    def __post_init__(self) -> None:
        for name in ("workers", "timeout_seconds", "memory_gib", "batch_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.part is not None and not 0 <= self.part[0] < self.part[1]:
            raise ValueError(f"part must be (i, n) with 0 <= i < n, got {self.part}")
        check_choice("decoder", self.decoder, DECODERS)
        check_choice("changed", self.changed, CHANGED)


@dataclass(frozen=True)
class RaySettings:
    """How an extraction is spread over a Ray cluster. Raises ValueError for values that cannot be."""

    address: str | None = None
    """Of the cluster, such as `auto` for that of this machine. None: that of RAY_ADDRESS, or else one of this machine
    alone, which ends with the extraction."""
    gpus_per_worker: float = 1.0
    """GPUs of a worker, which runs one encoder; a part of one where several share it. 0: it computes on CPUs."""
    cpus_per_worker: int = 8
    """Processors of a worker: so many processes decode for its encoder, whatever `ExtractSettings.workers` says."""
    lease: int = 512
    """Videos that a worker is given at a time, at most, and writes as one shard."""
    max_workers: int | None = None
    """How many workers there are at most, and are waited for. None: as many as the cluster has room for now."""

    def __post_init__(self) -> None:
        if self.address is not None and self.address.startswith("ray://"):
            raise ValueError(
                f"{self.address} is a proxy to a cluster, and the cache is written from inside: run the command on a machine "
                "of the cluster, with the address auto"
            )
        for name in ("cpus_per_worker", "lease", "max_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        gpus = self.gpus_per_worker
        if not (0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))):
            raise ValueError(f"gpus_per_worker must be a whole number, or a part of one GPU, got {gpus}")
