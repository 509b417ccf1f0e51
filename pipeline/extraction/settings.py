"""How an extraction goes about its work: `ExtractSettings`."""

from __future__ import annotations

from dataclasses import dataclass

from ..choices import CHANGED, check_choice
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
        check_choice("changed", self.changed, CHANGED)
