"""The hub of models, where it can be reached, and what to say where it cannot."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import huggingface_hub

from .protocol import EncoderError

_SETTINGS = ["*.json", "*.txt", "*.model"]
"""Patterns of the files that say what a model is, and of its tokenizer."""
_ELSEWHERE = ["*/*", "open_clip*", "*.onnx*"]
"""What other programs read, and other precisions and adapters in folders of their own."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*/[A-Za-z0-9][A-Za-z0-9_.\-]*")

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


def fetch_transformers(name: str, check: Callable[[dict[str, Any]], object]) -> Path:
    """Return the folder of a model of the hub, fetched where it has not been before: its settings, and then its weights.

    check    is given config.json before the weights are fetched, and raises ValueError for a model that is of no use

    Raises ValueError for what is no name, EncoderError where nothing can be fetched, and what `check` raises.
    """
    if not _HUB_NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is neither a folder that is there nor OWNER/NAME of the hub")

    def fetch(*patterns: str) -> Path:
        try:
            with hub_client(True), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Path(
                    huggingface_hub.snapshot_download(
                        name, allow_patterns=[*_SETTINGS, *patterns], ignore_patterns=_ELSEWHERE
                    )
                )
        except Exception as error:  # the client of the hub and its parts throw their own
            raise EncoderError(
                f"{name} cannot be fetched from the hub: {first_line(error)}\nWhere there is no network, download the model "
                "elsewhere, and give its folder (--model hf:FOLDER)."
            ) from error

    folder = fetch()
    check(dict(json.loads((folder / "config.json").read_text("utf-8"))))
    folder = fetch("*.safetensors")
    if not list(folder.glob("*.safetensors")):
        folder = fetch("pytorch_model*.bin", "*.bin.index.json")
    return folder


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
