"""Files that are whole or absent: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import CacheBusy

TEMPORARY_SUFFIX = ".tmp"


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Puts `parts`, one after the other, at `path` so that a reader, or a crash, sees all of it or nothing.

    Raises OSError (disk full, no permission) with nothing left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Appends one line, synced. A half line that a crash left behind is closed first."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` outlive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporary_files(folder: Path) -> None:
    """Clears what killed writers left. Only for the one who holds the folder's lock alone."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def writer_lock(folder: Path, part: tuple[int, int] | None = None) -> Iterator[None]:
    """Holds the right to write to a cache; the kernel gives it back if the process dies.

    part    (i, n): a job that takes every n-th video shares the cache with its siblings of the same
            n, and with nobody else. None: alone.
    Raises CacheBusy when another extraction holds it.
    """
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context((folder / ".lock").open("a"))
        _lock(whole.fileno(), folder, shared=part is not None)
        if part is None:
            remove_temporary_files(folder)
        else:
            index, count = part
            for other in folder.glob(".lock-*-of-*"):
                if not other.name.endswith(f"-of-{count}"):
                    # Jobs of another n would take some of the same videos.
                    with other.open("a") as file:
                        _lock(file.fileno(), folder, shared=False)
            own = stack.enter_context((folder / f".lock-{index}-of-{count}").open("a"))
            _lock(own.fileno(), folder, shared=False)
        yield


def _lock(descriptor: int, folder: Path, *, shared: bool) -> None:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CacheBusy(
            f"another extraction is writing to {folder}. Wait for it to end; or extract parts side by side "
            "with --shard 0/2, --shard 1/2, ...; or give this run another --cache and join the two with "
            "`vidclip merge`."
        ) from None


@contextlib.contextmanager
def folder_turn(folder: Path) -> Iterator[None]:
    """Waits for the right to read a small file of a cache and to write it anew: jobs that share a cache take turns.

    Held for moments, unlike `writer_lock`; the kernel gives it back if the process dies.
    """
    with (folder / ".lock-small-files").open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield
