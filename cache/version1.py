"""Files of format version 1: HDF5 alone, without header and index, with text of variable length.

HDF5 parses them, in a process of its own whose time and memory are limited: a page of zeros in the wrong place
makes its parser run for ever. That process says what the files hold and where their columns lie; the numbers are then
read from their place, as in version 2. What it accepts is what vidclip wrote: contiguous columns within the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .columns import to_bytes
from .errors import CacheError
from .hdf5 import Column, Columns, Contents, damaged, wrong_version
from .open_file import stamp_of

_SECONDS = 3
"""Processor time for a file; there is one second more for every ten megabytes of it."""
_MEMORY = 256 << 20
"""Bytes of memory for a file, with eight times its size, beside what the process has before."""
_ATTRIBUTES = (
    *("format", "version", "identity", "precision", "created_by", "sha256"),
    *("encoder", "lexicon", "word_mode", "settings"),
)


def describe(paths: Sequence[Path]) -> dict[Path, Contents | CacheError]:
    """Return what each file holds, or why that cannot be said."""
    found: dict[Path, Contents | CacheError] = {}
    while len(found) < len(paths):
        waiting = paths[len(found) :]
        lines, ending = _ask(waiting)
        for path, line in zip(waiting, lines, strict=False):
            found[path] = _contents_of(path, json.loads(line))
        if len(lines) < len(waiting):  # the process died of a file: the others get another
            found[waiting[len(lines)]] = damaged(waiting[len(lines)], ending)
    return found


def content_digest(columns: Columns) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of all columns, as version 1 keeps it."""
    sha = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name]
        if isinstance(column, np.ndarray):
            little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
            sha.update(f"{name}|{little.dtype.str}|{little.shape}|".encode())
            sha.update(little.tobytes())
        else:
            sha.update(f"{name}|text|{len(column)}|".encode())
            for text in column:
                raw = to_bytes(text)
                sha.update(len(raw).to_bytes(8, "little") + raw)
    return sha.hexdigest()


def _ask(paths: Sequence[Path]) -> tuple[list[bytes], str]:
    """Return the lines that a process prints, one for each file, and how it ended if some are missing."""
    # The parent's own search path, and Ctrl-C left to the parent before anything else happens.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"from {__package__}.version1 import main; main()"
    )
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            said, _ = process.communicate(json.dumps([os.fspath(path) for path in paths]).encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 200))
        last_stderr_line = stderr.read().decode("utf-8", "replace").strip().split("\n")[-1]
    lines = said.splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if process.returncode == -signal.SIGXCPU:
        return whole, "reading it came to no end"
    ending = f"the process that read it ended with exit status {process.returncode}"
    return whole, f"{ending}: {last_stderr_line}" if last_stderr_line else ending


def _contents_of(path: Path, said: dict[str, Any]) -> Contents | CacheError:
    if "wrong_version" in said:
        return wrong_version(path, said["wrong_version"])
    if "damaged" in said:
        return damaged(path, said["damaged"])
    columns = {
        name: Column(np.dtype(kind), tuple(shape), offset, None)
        for name, (kind, shape, offset) in said["columns"].items()
    }
    stamp = bytes.fromhex(said["stamp"])
    return Contents(1, said["attributes"], columns, texts=said["texts"], stamp=stamp)


# --- in the process of its own


def main() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else is printed between the replies
    for name in json.load(sys.stdin):
        with contextlib.suppress(OSError, ImportError):
            _limit(Path(name).stat().st_size)
        replies.write(json.dumps(_describe(Path(name))).encode() + b"\n")
        replies.flush()


def _limit(size: int) -> None:
    import resource  # not on Windows, where what parses old files has no such limits

    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime) + _SECONDS + size // 10_000_000
    _lower(resource.RLIMIT_CPU, seconds)
    with contextlib.suppress(
        OSError, ValueError, IndexError
    ):  # where there is no /proc, time is limited alone
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY + 8 * size)


def _lower(limit: int, value: int) -> None:
    import resource

    soft, hard = resource.getrlimit(limit)
    del soft
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _describe(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        with h5py.File(path, "r", locking=False) as file:
            attributes = _read_attributes(file)
            version = attributes.get("version")
            if version != 1:
                # Version 2 has a header in front: without it, such a file is not whole.
                return {"damaged": "its header is missing"} if version == 2 else {"wrong_version": version}
            columns: dict[str, Any] = {}
            texts: dict[str, list[str]] = {}
            room = status.st_size
            for name in map(str, file):
                dataset = _contiguous(file, name, status.st_size)
                if h5py.check_string_dtype(dataset.dtype) is not None and dataset.ndim == 1:
                    texts[name] = _read_texts(dataset, room)
                    room -= sum(map(len, texts[name]))
                elif dataset.dtype.kind in "biuf" and dataset.ndim:
                    # h5py knows a boolean as an enumeration, which numpy spells the same.
                    place = dataset.id.get_offset() if dataset.size else 0
                    columns[name] = (np.dtype(dataset.dtype.str).str, dataset.shape, place)
                else:
                    raise ValueError(f"column {name!r} is {dataset.dtype}")
            return {
                "attributes": attributes,
                "columns": columns,
                "texts": texts,
                "stamp": stamp_of(status).hex(),
            }
    except MemoryError:
        return {"damaged": "reading it takes more memory than such a file can need"}
    except Exception as error:  # whatever a damaged file makes of h5py
        return {"damaged": f"{type(error).__name__}: {error}"[:300]}


def _read_attributes(file: h5py.File) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _ATTRIBUTES:
        if name in file.attrs and file.attrs.get_id(name).shape == ():
            value = file.attrs[name]
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            if isinstance(value, np.integer):
                value = int(value)
            if isinstance(value, int | str):
                found[name] = value
    return found


def _contiguous(file: h5py.File, name: str, size: int) -> h5py.Dataset:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"column {name!r} is a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"column {name!r} is a group")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"column {name!r} lies outside the file")
    layout = dataset.id.get_create_plist()
    if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_nfilters():
        raise ValueError(f"column {name!r} is not contiguous, as vidclip writes it")
    needed, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if needed and (stored < needed or dataset.id.get_offset() is None):
        raise ValueError(f"column {name!r} says {dataset.shape}, but {stored} bytes are there")
    if needed and dataset.id.get_offset() + needed > size:
        raise ValueError(f"column {name!r} says {dataset.shape}, which the file cannot hold")
    return dataset


def _read_texts(dataset: h5py.Dataset, room: int) -> list[str]:
    """Many texts that all refer to one large one would take far more memory than the file."""
    texts: list[str] = []
    for start in range(0, len(dataset), 64):
        piece = [raw.decode("utf-8", "surrogateescape") for raw in dataset[start : start + 64]]
        room -= sum(map(len, piece))
        if room < 0:
            raise ValueError(f"the texts of column {dataset.name!r} are larger than the file")
        texts.extend(piece)
    return texts
