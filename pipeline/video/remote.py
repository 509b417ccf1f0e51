"""Videos in object stores and on web servers: their addresses, their stamps, and a copy to decode.

A video is copied as a whole before it is decoded: decoders want files, and read them back and forth. On Linux the copy
has no name, and is gone with the process that made it, however that ends. Credentials come from where the stores' own
libraries look for them (environment, configuration files); those that stand in an address are used, and shown nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .request import DecodeError

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp", "memory": "fsspec"}
"""Schemes of addresses that are read, and the package that does so. `memory` is fsspec's, of one process."""
SILENCE_SECONDS = 10.0
"""How long a server may say nothing before a try is given up."""
TRIES = 3
"""How often a transfer is tried whose failure may pass."""
PAUSE_SECONDS = 0.5
"""Before the second try; twice as long before the third."""
_ADDRESS = re.compile(rf"({'|'.join(PACKAGES)})://[^/]", re.IGNORECASE)
_REFUSED = {401, 403, 407}
_MISSING = {404, 410}


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is an address that is read through fsspec, such as ``s3://bucket/a.mp4``."""
    text = os.fspath(path)
    return isinstance(text, str) and _ADDRESS.match(text) is not None


@dataclass(frozen=True, slots=True, repr=False)
class RemotePath(os.PathLike[str]):
    """The address of a video. `str` gives it without credentials, for people and caches; `os.fspath` as it is, to read."""

    address: str

    def __fspath__(self) -> str:
        return self.address

    def __str__(self) -> str:
        return public_address(self.address)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"


def public_address(address: str) -> str:
    """Return an address without user, password, query and fragment: the first two and signatures open doors."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() in ("http", "https"):
        rest = re.split("[?#]", rest, maxsplit=1)[0]
    host, slash, name = rest.partition("/")
    return f"{scheme.lower()}://{host.rpartition('@')[2]}{slash}{name}"


def missing_package(address: str) -> str:
    """Return the package that is needed to read an address and is not installed; empty where it is."""
    packages = dict.fromkeys(("fsspec", PACKAGES[urlsplit(address).scheme.lower()]))
    return next((name for name in packages if importlib.util.find_spec(name) is None), "")


class RemoteStamp(NamedTuple):
    """Size of an object, and a number that its content tag or time of change makes."""

    size: int
    tag: int


def remote_stamp(address: str) -> RemoteStamp:
    """Ask the store for the size and the tag of an object, without its content.

    Raises DecodeError as `staged` does, once; FileNotFoundError where there is no such object, and ValueError where its
    store does not know how large it is.
    """
    try:
        info = _file_system(address).info(address)
    except ImportError as error:
        raise _uninstalled(address) from error
    except Exception as error:  # of three libraries
        failure = _failure(error)
        if failure.stage == "missing":
            raise FileNotFoundError(errno.ENOENT, "no such object", public_address(address)) from None
        raise failure from None
    size = info.get("size")
    if not isinstance(size, int):
        raise ValueError(f"The size of {public_address(address)} is not known")
    return RemoteStamp(size, _tag(info))


def _tag(info: Mapping[str, Any]) -> int:
    """Return a number that changes with the content of an object; 0 where its store tells nothing but the size."""
    for name in (
        "ETag",
        "etag",
        "md5Hash",
        "Content-MD5",
        "Last-Modified",
        "LastModified",
        "updated",
        "created",
    ):
        if value := info.get(name):
            digest = hashlib.sha256(str(value).encode()).digest()
            return (
                int.from_bytes(digest[:6], "big") * 1000 + 1
            )  # never a whole number of coarser units of time
    return 0


@contextlib.contextmanager
def staged(address: str) -> Iterator[str]:
    """Copy an object into a temporary file, and yield its path; the file is gone afterwards.

    It lies where `tempfile` puts files: TMPDIR says where. Raises DecodeError in the stage `missing`, `permission`, or
    `network`: what may pass was tried `TRIES` times then; and in the stage `open` where the package for its scheme is not
    installed, or the disk has no room.
    """
    linux = sys.platform == "linux"
    with tempfile.TemporaryFile() if linux else tempfile.NamedTemporaryFile(prefix="vidclip-") as file:
        path = f"/proc/self/fd/{file.fileno()}" if linux else str(file.name)
        for attempt in range(TRIES):
            try:
                _copy(address, path)
                break
            except DecodeError as error:
                if error.stage != "network":
                    raise
                if attempt == TRIES - 1:
                    raise DecodeError(error.stage, f"{error.reason} ({TRIES} tries)") from None
            time.sleep(PAUSE_SECONDS * 2**attempt)
        yield path


def _copy(address: str, path: str) -> None:
    try:
        system = _file_system(address)
        size = system.info(address).get("size")
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if size is not None and size > free:
            raise DecodeError(
                "open",
                f"has {size:,} bytes, and {tempfile.gettempdir()} has room for {free:,}; TMPDIR names another folder",
            )
        system.get_file(address, path)
    except DecodeError:
        raise
    except ImportError as error:
        raise _uninstalled(address) from error
    except Exception as error:  # of three libraries
        raise _failure(error) from None  # their texts hold addresses, with credentials
    copied = os.stat(path).st_size  # noqa: PTH116
    if size is not None and copied != size:
        raise DecodeError("network", f"the transfer broke off after {copied:,} of {size:,} bytes")


def _uninstalled(address: str) -> DecodeError:
    name = missing_package(address) or PACKAGES[urlsplit(address).scheme.lower()]
    return DecodeError("open", f"{name} is not installed: pip install 'vidclip[remote]'")


def _file_system(address: str) -> Any:
    import fsspec

    scheme = urlsplit(address).scheme.lower()
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in ("http", "https", "gs"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
        if scheme == "gs":
            options |= {"requests_timeout": timeout}
        else:
            options |= {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # proxies, .netrc
    elif scheme == "s3":
        limits = {"connect_timeout": SILENCE_SECONDS, "read_timeout": SILENCE_SECONDS}
        options |= {"config_kwargs": limits | {"retries": {"max_attempts": 1}}}
    system = fsspec.filesystem(scheme, **options)
    if hasattr(system, "retries"):
        system.retries = 1  # tries are counted here
    return system


def _failure(error: Exception) -> DecodeError:
    """Return what went wrong with a transfer, in words that hold nothing of its address."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    status = next((code for each in chain if (code := _status(each))), 0)
    if status in _MISSING:
        return DecodeError("missing", "no such object")
    if status in _REFUSED or any(isinstance(each, PermissionError) for each in chain):
        return DecodeError("permission", f"access is refused{f' (status {status})' if status else ''}")
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    if names & {
        "NoCredentialsError",
        "PartialCredentialsError",
        "DefaultCredentialsError",
        "TokenRetrievalError",
    }:
        return DecodeError("permission", "no credentials for its store were found")
    if any(each.errno in (errno.ENOSPC, errno.EDQUOT) for each in chain if isinstance(each, OSError)):
        return DecodeError("open", f"{tempfile.gettempdir()} is full; TMPDIR names another folder")
    if any("Timeout" in name for name in names):
        return DecodeError("network", f"its server said nothing for {SILENCE_SECONDS:g} s")
    if names & {"ClientPayloadError", "IncompleteReadError", "IncompleteRead", "ResponseStreamingError"}:
        return DecodeError("network", "the transfer broke off")
    if names & {"ServerDisconnectedError", "ConnectionResetError", "ConnectionClosedError"}:
        return DecodeError("network", "its server closed the connection")
    if names & {"ClientConnectorError", "EndpointConnectionError", "ConnectionRefusedError", "gaierror"}:
        return DecodeError("network", "its server cannot be reached")
    if status:
        return DecodeError(
            "network" if status >= 500 or status == 429 else "open", f"its server answers {status}"
        )
    if "FileNotFoundError" in names:  # what fsspec makes of all errors of a web server, too
        return DecodeError("missing", "no such object")
    return DecodeError("network", f"the transfer failed ({type(error).__name__})")


def _status(error: BaseException) -> int:
    """Return the HTTP status that an error of aiohttp, botocore or gcsfs holds; 0 where it holds none."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    else:
        found = getattr(error, "status", None) or getattr(error, "code", 0)
    return found if isinstance(found, int) and 300 <= found < 600 else 0
