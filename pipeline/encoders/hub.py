"""The hub of models, where it can be reached, and what to say where it cannot."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from urllib.parse import urlparse
from urllib.request import getproxies

import huggingface_hub

OFFLINE_HELP = (
    "Give the weights as a file (--pretrained FILE) or a folder (--model local-dir:FOLDER); or try --model demo "
    "or demo-vit, which come with the package and know the demo's world."
)


@contextlib.contextmanager
def hub_client(wanted: bool) -> Iterator[None]:
    """Keep messages of the hub client off the screen and, where the name of the hub does not resolve, look only for
    files that were fetched before, instead of a minute of retries."""
    logs = [logging.getLogger(name) for name in ("root", "huggingface_hub")]
    levels = [log.level for log in logs]
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    for log in logs:
        log.setLevel(logging.CRITICAL)
    host = urlparse(huggingface_hub.constants.ENDPOINT).hostname
    if wanted and host and not getproxies():
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
