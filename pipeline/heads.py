"""Light heads, and the file that one is kept in.

A trained head is one safetensors file: its weights, and as metadata its kind, settings, the digest of its
encoder and its class names. It is refused for features of another encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..cache import write_whole

HEAD_FORMAT = "vidclip-head"
HEAD_VERSION = "1"


class HeadError(Exception):
    """A head that cannot be read, or that belongs to another encoder."""


class AttributesHead(nn.Module):
    """The trained attributes branch of released BIKE: one small MLP for the attributes sentence, another for the
    class sentence, on unit embeddings of the frozen text tower; the cosine of their outputs is the score.

    Each is Linear D-D, ReLU, Linear D-D. Source: Wu et al. 2023 (BIKE), released code.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.sentence = nn.Sequential(
            nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension)
        )
        self.classes = nn.Sequential(
            nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension)
        )

    def embed_sentences(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[N, D] of attributes sentences -> [N, D], unit rows."""
        return F.normalize(self.sentence(F.normalize(embeddings, dim=-1)), dim=-1)

    def embed_classes(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[C, D] of class sentences -> [C, D], unit rows."""
        return F.normalize(self.classes(F.normalize(embeddings, dim=-1)), dim=-1)

    @torch.inference_mode()
    def apply_to(self, sentences: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both embeddings as arrays: their cosines are the scores."""
        pair = (
            self.embed_sentences(torch.from_numpy(sentences)),
            self.embed_classes(torch.from_numpy(classes)),
        )
        return pair[0].numpy(), pair[1].numpy()


@dataclass(frozen=True)
class StoredHead:
    """A head as its file has it."""

    kind: str
    module: AttributesHead
    encoder: str
    """Digest of the encoder whose embeddings it was trained on."""
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    """What trained it; JSON-able."""

    def check_encoder(self, digest: str, what: str) -> None:
        """Raises HeadError when the embeddings of `what` are another encoder's."""
        if digest != self.encoder:
            raise HeadError(
                f"the head was trained on another encoder than that of {what}. Train one with `vidclip fit`, or "
                "name the cache it belongs to."
            )


def save_head(path: Path, head: StoredHead) -> None:
    """Writes the file, whole or not at all; the same head is the same file. Raises OSError."""
    metadata = {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "kind": head.kind,
        "encoder": head.encoder,
        "classes": json.dumps(head.classes),
        "settings": json.dumps(dict(head.settings), sort_keys=True),
    }
    # One key: with several, safetensors writes them in an order of its own in every process.
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in head.module.state_dict().items()}
    write_whole(path, save(weights, {"vidclip": json.dumps(metadata, sort_keys=True)}))


def load_head(path: Path) -> StoredHead:
    """Raises HeadError where the file is missing, damaged, foreign or of a newer version."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("vidclip", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except FileNotFoundError:
        raise HeadError(f"{path} does not exist; `vidclip fit` makes such a file.") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise HeadError(f"{path} is no head of vidclip, or is damaged ({error}).") from None
    if metadata.get("format") != HEAD_FORMAT:
        raise HeadError(f"{path} is no head of vidclip; `vidclip fit` makes one.")
    if metadata.get("version") != HEAD_VERSION or metadata.get("kind") != "attributes":
        raise HeadError(
            f"{path} is a head {metadata.get('kind')!r} of version {metadata.get('version')}; this vidclip reads "
            f"'attributes' of version {HEAD_VERSION}."
        )
    try:
        module = AttributesHead(weights["sentence.0.weight"].shape[1])
        module.load_state_dict(weights)
        classes, settings = json.loads(metadata["classes"]), json.loads(metadata["settings"])
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise HeadError(f"{path} is damaged: {error}") from None
    return StoredHead("attributes", module.eval(), metadata["encoder"], tuple(classes), settings)
