"""The client of the hub of datasets: there or not, quiet, and its errors in words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from .errors import ExchangeError

_NETWORK = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet", "ssl", "socket"}
"""Packages whose errors are those of a connection."""


class HubError(ExchangeError):
    """What the hub refuses, or does not have; or that it cannot be reached."""


def hub() -> Any:
    """Return the package huggingface_hub. Raises HubError where it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise HubError(
            "this needs a package that is not installed: pip install 'vidclip[hf]' brings huggingface_hub."
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def hub_errors(repo: str, doing: str) -> Iterator[None]:
    """Raise HubError for what goes wrong with the hub; progress is shown on a terminal alone.

    doing    what is being done, such as `reading`
    """
    package = hub()
    errors, utils = package.errors, package.utils
    shown = sys.stderr.isatty()
    if not shown:
        utils.disable_progress_bars()
    try:
        yield
    except errors.HFValidationError as error:
        raise HubError(f"{repo!r} is no name of a dataset: use OWNER/NAME. ({_first(error)})") from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"{repo} asks for terms to be accepted: do so on its page, with the account of your token (`hf auth login`)."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{repo} has no such revision.") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"there is no dataset {repo} on {package.constants.ENDPOINT}, or your token does not show it: check the name, and "
            "`hf auth login` or HF_TOKEN."
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(
            f"{doing} {repo} needs the hub, and HF_HUB_OFFLINE says that it is not to be asked."
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise HubError(f"{doing} {repo} needs a token: `hf auth login`, or HF_TOKEN.") from error
    except errors.HfHubHTTPError as error:
        raise HubError(_status(error, repo, doing, package.constants.ENDPOINT)) from error
    except Exception as error:
        if isinstance(error, ExchangeError) or not _of_network(error):
            raise
        raise HubError(
            f"{doing} {repo}: {package.constants.ENDPOINT} could not be reached, or broke off ({_first(error)}). The same command "
            "goes on where this one ended."
        ) from error
    finally:
        if not shown:
            utils.enable_progress_bars()


def status_of(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _status(error: BaseException, repo: str, doing: str, endpoint: str) -> str:
    status = status_of(error)
    said = _first(error)
    if status == 401:
        return f"{endpoint} does not accept the token: `hf auth login` again, or another HF_TOKEN. ({said})"
    if status == 403:
        return f"the token may not do that, {doing} {repo}: it needs the right to write there. ({said})"
    if status in (409, 412):
        return f"{repo} has changed while it was written to: look at its page, and run the command again. ({said})"
    return f"{doing} {repo}: the hub answers {status or 'nothing'} ({said}). The same command goes on where this one ended."


def _of_network(error: BaseException) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if type(chain).__module__.partition(".")[0] in _NETWORK or isinstance(chain, ConnectionError):
            return True
        if type(chain).__module__.startswith("huggingface_hub"):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3]) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
