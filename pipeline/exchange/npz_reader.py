"""Reading .npz and .npy of strangers: no pickles, and no more memory than the file's own bytes justify."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from .errors import ExchangeError

LARGEST_ARRAY = 2**30
"""Bytes of an array that is read as a whole; longer ones are read row by row."""
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npy(path: Path) -> np.ndarray:
    """Return the array of a .npy file. Raises ExchangeError for pickles, damage and text."""
    try:
        # Mapped: a header that promises more than the file has is an error, and takes no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise ExchangeError(f"{path} cannot be read as .npy without pickles ({error}).") from None
    if not isinstance(array, np.ndarray):
        raise ExchangeError(f"{path} is no .npy file, whatever its name.")
    return array


class Npz:
    """An open .npz file; every failure is an ExchangeError that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise ExchangeError(f"{path} is no .npz file that can be read ({error}).") from None
        self.names = [name[:-4] for name in self._archive.namelist() if name.endswith(".npy")]

    def __enter__(self) -> Npz:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array, without reading it."""
        with self._open(name) as (_, _, shape, _):
            return shape

    def read(self, name: str) -> np.ndarray:
        """Return a whole array, of `LARGEST_ARRAY` bytes at most."""
        with self._open(name) as (stream, dtype, shape, fortran):
            n_bytes = math.prod(shape) * dtype.itemsize
            if n_bytes > LARGEST_ARRAY:
                raise self._error(name, f"it has {n_bytes:,} bytes, more than {LARGEST_ARRAY:,}")
            flat = np.frombuffer(self._take(name, stream, n_bytes), dtype)
            return flat.reshape(shape, order="F" if fortran else "C")

    def rows(self, name: str) -> Iterator[np.ndarray]:
        """Yield an array row by row; one is in memory."""
        with self._open(name) as (stream, dtype, shape, fortran):
            if fortran:
                raise self._error(name, "it is stored by columns: save it with numpy.ascontiguousarray")
            if not shape:
                raise self._error(name, "it is a single number")
            size = math.prod(shape[1:]) * dtype.itemsize
            if size > LARGEST_ARRAY:
                raise self._error(name, f"a row of it has more than {LARGEST_ARRAY:,} bytes")
            for _ in range(shape[0]):
                yield np.frombuffer(self._take(name, stream, size), dtype).reshape(shape[1:])

    def _open(self, name: str) -> _Member:
        return _Member(self, self._archive, name)

    def _take(self, name: str, stream: BinaryIO, n_bytes: int) -> bytes:
        try:
            data = stream.read(n_bytes)
        except _BROKEN as error:
            raise self._error(name, str(error)) from None
        if len(data) != n_bytes:
            raise self._error(name, "it ends too early")
        return data

    def _error(self, name: str, reason: str) -> ExchangeError:
        return ExchangeError(f"{self.path}: the array {name!r} cannot be read: {reason}.")


class _Member:
    """An array of an archive: its stream behind the header, type, shape, and whether it is stored by columns."""

    def __init__(self, npz: Npz, archive: zipfile.ZipFile, name: str) -> None:
        self._npz, self._archive, self._name = npz, archive, name

    def __enter__(self) -> tuple[Any, np.dtype[Any], tuple[int, ...], bool]:
        name = f"{self._name}.npy"
        try:
            size = self._archive.getinfo(name).file_size
            self._stream = self._archive.open(name)
            version = np.lib.format.read_magic(self._stream)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            shape, fortran, dtype = readers[version](self._stream)
        except _BROKEN as error:
            raise self._npz._error(self._name, str(error)) from None
        if any(side < 0 for side in shape):
            raise self._npz._error(self._name, f"its header says {shape}")
        if dtype.hasobject:
            raise self._npz._error(self._name, "it holds Python objects, and pickles are never loaded")
        n_bytes = math.prod(shape) * dtype.itemsize
        if math.prod(shape) and (not n_bytes or self._stream.tell() + n_bytes != size):
            raise self._npz._error(self._name, f"its header says {dtype} {shape}, which is not what follows")
        return self._stream, dtype, shape, fortran

    def __exit__(self, *_: object) -> None:
        self._stream.close()
