"""Memory without a name, which processes share by a file descriptor."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import BinaryIO, cast

import numpy as np


def anonymous_file(name: str) -> BinaryIO:
    """Open a file without a path, unbuffered: gone with the last process that has it, also when all are killed.

    On Linux it lies in memory: not under /dev/shm, which is 64 MB in a container, nor on a disk that may be
    full. `name` is for those who look at the process.
    """
    if hasattr(os, "memfd_create"):
        return cast(BinaryIO, open(os.memfd_create(name, os.MFD_CLOEXEC), "w+b", buffering=0))  # noqa: PTH123
    return cast(BinaryIO, tempfile.TemporaryFile(buffering=0))


def map_slots(descriptor: int, n_slots: int) -> np.ndarray:
    """Map a file into memory as [n_slots, bytes of a slot] uint8; the mapping outlives the descriptor."""
    return np.frombuffer(mmap.mmap(descriptor, 0), np.uint8).reshape(n_slots, -1)
