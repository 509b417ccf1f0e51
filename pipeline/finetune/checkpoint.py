"""`checkpoint.pt`: where a training stands at the end of an epoch. It is whole or absent, and read as data alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...cache import write_whole
from .errors import FinetuneError

CHECKPOINT_FILE = "checkpoint.pt"
FORMAT = "vidclip-finetune"
VERSION = 1


def save_checkpoint(path: Path, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a checkpoint; where that fails (OSError), the one before it stays.

    settings    plain values: another training has others
    state       tensors and plain values
    """
    buffer = io.BytesIO()
    document = {"format": FORMAT, "version": VERSION, "settings": dict(settings), "state": dict(state)}
    torch.save(document, buffer)
    write_whole(path, buffer.getbuffer())


def load_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a training with these settings. Raises FinetuneError where the file is damaged, or where its
    settings are others, by their names."""
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"it is a {document['format']!r} of version {document['version']!r}")
        stored, state = dict(document["settings"]), dict(document["state"])
    except Exception as error:  # torch, zipfile and pickle have a dozen kinds
        raise FinetuneError(
            f"{path} is no checkpoint of a fine-tuning, or is damaged ({str(error).splitlines()[0]}). Delete it to "
            "begin anew."
        ) from error
    different = [
        f"{name} {stored.get(name)!r} there, {settings.get(name)!r} here"
        for name in dict.fromkeys([*settings, *stored])
        if stored.get(name) != settings.get(name)
    ]
    if different:
        raise FinetuneError(
            f"{path} is of another training: {'; '.join(different)}. Go on with its settings, or use another --output."
        )
    return state
