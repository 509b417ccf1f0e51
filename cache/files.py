"""Files that are whole or absent: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import CacheBusy, CacheError

TEMPORARY_SUFFIX = ".tmp"
SAFE_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""For `os.open`: a pipe is not waited for, and not inherited; of those that a system has."""
_log = logging.getLogger(__name__)


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write `parts`, one after the other, to `path` so that a reader, or a crash, sees all of it or nothing.

    Raises OSError (disk full, no permission) with nothing left behind. What a killed process has left of an earlier
    attempt at the same file is removed.
    """
    with whole_file(path) as (_, file):
        for part in parts:
            file.write(part)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield (temporary path, open file) for what gets the name `path` at the end, and is removed where that fails: as
    `write_whole`, for what is too large for memory."""
    remove_abandoned_files(path.parent, _short_name(path))
    temporary, file = _open_temporary(path)
    try:
        with file:
            yield temporary, file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _flock(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file. Raises BlockingIOError where another has it, unless it waits, and CacheError on a system without
    such locks (Windows): caches can be read there, not written."""
    try:
        import fcntl
    except ImportError:
        raise CacheError(
            "This system has no locks that a killed process gives back (flock), without which caches are not written. "
            "They can be read here; write them on Linux or macOS, or in WSL."
        ) from None
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)


def _open_temporary(path: Path) -> tuple[Path, BinaryIO]:
    """Open a file beside `path`, locked as long as it is open: by that it differs from what a killed process left."""
    while True:
        temporary = path.with_name(f".{_short_name(path)}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
        file = temporary.open("x+b")
        try:
            _flock(file.fileno())
            locked = True
        except OSError as error:  # a file system without locks, or another process that is about to remove it
            locked = not isinstance(error, BlockingIOError)
        # Who clears the folder may have come between making and locking, and taken it for abandoned.
        if locked and os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()


def check_folder_writable(path: Path) -> None:
    """Raise OSError where `write_whole` could not make its file beside `path`; leaves nothing behind."""
    temporary, file = _open_temporary(path)
    with file:
        temporary.unlink()


def _short_name(path: Path) -> str:
    """Return the name, or its beginning: a name may be as long as the file system allows, and more is put around it."""
    return os.fsdecode(os.fsencode(path.name)[:150])


def remove_abandoned_files(folder: Path, name: str = "") -> None:
    """Remove the temporary files that killed writers left, of the file `name` or of all, and none that is being
    written."""
    of_name = f"{glob.escape(name)}." if name else ""
    for path in folder.glob(f".{of_name}*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):  # gone, another user's, or locked by its writer
            descriptor = os.open(path, os.O_RDWR | SAFE_FLAGS)
            try:
                _flock(descriptor)
                path.unlink()
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def where_writable(path: Path) -> Iterator[None]:
    """Log instead of failing where `path` lies in a folder or file system that is read-only: for what is worth keeping,
    but can be computed again. A full disk is an error as everywhere."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        _log.warning("%r could not be kept (%s); it will be computed again.", str(path), error.strerror)


def read_regular(path: Path, most: int = 2**32) -> bytes:
    """Return what a file of at most `most` bytes holds.

    Raises OSError for a larger one, and for what is no file: a device would be read for ever, a pipe waited for.
    FileNotFoundError where there is nothing of that name.
    """
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | SAFE_FLAGS))  # noqa: SIM115
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(errno.EINVAL, "it is a link that leads nowhere", str(path)) from None
        raise
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
        if not status.st_size:
            file.read(1)  # files of the system, such as a process's memory, call themselves empty: an OSError
        return file.read(status.st_size)


def append_line(path: Path, line: str) -> None:
    """Append one line, synced. A half line that a crash left behind is closed first."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writer_lock(folder: Path, part: tuple[int, int] | None = None) -> Iterator[bool]:
    """Hold the lock of a cache's writer; the kernel releases it if the process dies.

    Acquire it inside `folder_turn`: writers that start at one moment would take each other's trial for the lock itself.

    part    (i, n): a job that takes every n-th video shares the cache with its siblings of the same
            n, and with no other. None: alone.
    Yields whether there was no other writer when the lock was given.
    Raises CacheBusy when another extraction holds it.
    """
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context((folder / ".lock").open("a"))
        _lock(whole.fileno(), folder, shared=part is not None)
        alone = True
        if part is not None:
            index, count = part
            own_name = f".lock-{index}-of-{count}"
            own = stack.enter_context((folder / own_name).open("a"))
            _lock(own.fileno(), folder, shared=False)
            for other in folder.glob(".lock-*-of-*"):
                if other.name == own_name:
                    continue
                with other.open("a") as file:
                    try:
                        _lock(file.fileno(), folder, shared=False)
                    except CacheBusy:
                        alone = False
                        # Jobs of another n would take some of the same videos.
                        if not other.name.endswith(f"-of-{count}"):
                            raise
        yield alone


def _lock(descriptor: int, folder: Path, *, shared: bool) -> None:
    try:
        _flock(descriptor, shared=shared)
    except BlockingIOError:
        raise CacheBusy(
            f"another extraction is writing to {folder}. Wait for it to end; or extract parts side by side "
            "with --part 0/2, --part 1/2, ...; or give this run another --cache and join the two with "
            "`vidclip merge`."
        ) from None


@contextlib.contextmanager
def folder_turn(folder: Path) -> Iterator[None]:
    """Wait for the lock under which small files of a cache are read and rewritten, and `writer_lock` is acquired.

    It is held for moments; the kernel releases it if the process dies.
    """
    with (folder / ".lock-small-files").open("a") as file:
        _flock(file.fileno(), wait=True)
        yield
