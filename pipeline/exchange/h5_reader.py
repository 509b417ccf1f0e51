"""Reading HDF5 files of strangers: numbers that lie in the file itself, and nothing that it refers to elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import ExchangeError
from .npz_reader import LARGEST_ARRAY

_DEEPEST = 32


def h5_arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, array) of each dataset of a file, groups below groups, with `/` between their names.

    Raises ExchangeError for a damaged file; for soft and external links, external storage and virtual datasets, which
    lead to other places or files; and for datasets without numbers, or of more than 1 GiB.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield from _walk(path, file, "", set())
    except ExchangeError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise ExchangeError(f"{path} cannot be read as HDF5 ({str(error)[:200]}).") from None


def _walk(path: Path, group: Any, prefix: str, above: set[int]) -> Iterator[tuple[str, np.ndarray]]:
    place = h5py.h5o.get_info(group.id).addr  # pyright: ignore[reportAttributeAccessIssue]
    if place in above or len(above) > _DEEPEST:
        raise ExchangeError(f"{path}: the group {prefix or '/'!r} leads back to itself, or lies too deep.")
    for name in group:
        full = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ExchangeError(
                f"{path}: {full!r} is a link, and links are not followed: copy what it leads to."
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _walk(path, item, f"{full}/", above | {place})
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ExchangeError(f"{path}: the data of {full!r} lie in another file, which is not opened.")
            if item.dtype.kind != "f":
                continue  # frame rates, names
            if item.nbytes > LARGEST_ARRAY:
                raise ExchangeError(
                    f"{path}: {full!r} has {item.nbytes:,} bytes, more than {LARGEST_ARRAY:,}."
                )
            yield full, np.asarray(item[()])
