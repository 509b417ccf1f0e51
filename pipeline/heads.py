"""The file that a trained head is kept in: one safetensors file with its weights, and as metadata its kind,
its settings, its class names and the encoder whose embeddings it reads.

A head is refused for features of another encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..cache import Identity, write_whole
from .video_head import VideoHead

HEAD_FORMAT = "vidclip-head"
HEAD_VERSION = "2"
KINDS = ("video", "attributes")


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

    structure: ClassVar[dict[str, Any]] = {}
    """Nothing but its weights is needed to build it again."""


@dataclass(frozen=True)
class StoredHead:
    """A head as its file has it."""

    module: VideoHead | AttributesHead
    identity: Identity
    """Of the features it was trained on: encoder and sampling."""
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    """What trained it, its prompts among them; JSON-able."""
    context: torch.Tensor | None = None
    """[M, D_token] learnt prompt vectors, where there are such."""

    @property
    def kind(self) -> str:
        """video or attributes."""
        return "video" if isinstance(self.module, VideoHead) else "attributes"

    def check_encoder(self, digest: str, what: str) -> None:
        """Raises HeadError when the embeddings of `what` are another encoder's."""
        if digest != self.identity.encoder_digest:
            raise HeadError(
                f"the head was trained on another encoder ({self.identity.encoder_name}) than that of {what}. Train "
                "one with `vidclip fit`, or name the cache it belongs to."
            )

    def check_features(self, shape: tuple[int, ...], what: str) -> None:
        """Raises HeadError when features [N, V, T, D] have another T than the head has positions for."""
        head = self.module
        if not isinstance(head, VideoHead) or head.design.temporal not in ("transformer", "mit"):
            return
        if shape[2] != head.frames:
            raise HeadError(
                f"the head has positions for {head.frames} frames, but {what} has {shape[2]} a clip. Extract with "
                f"--frames {head.frames} into another --cache, or train a head here."
            )


def save_head(path: Path, head: StoredHead) -> None:
    """Writes the file, whole or not at all; the same head is the same file. Raises OSError."""
    metadata = {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "kind": head.kind,
        "structure": head.module.structure,
        "identity": head.identity.to_dict(),
        "classes": head.classes,
        "settings": dict(head.settings),
    }
    weights = {f"head.{name}": tensor for name, tensor in head.module.state_dict().items()}
    if head.context is not None:
        weights["prompt.context"] = head.context
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # One key: with several, safetensors writes them in an order of its own in every process.
    write_whole(path, save(weights, {"vidclip": json.dumps(metadata, sort_keys=True)}))


def load_head(path: Path) -> StoredHead:
    """Raises HeadError where the file is missing, damaged, foreign or of another version."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("vidclip", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except FileNotFoundError:
        raise HeadError(f"{path} does not exist; `vidclip fit` makes such a file.") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise HeadError(f"{path} is no head of vidclip, or is damaged ({error}).") from None
    if not isinstance(metadata, dict) or metadata.get("format") != HEAD_FORMAT:
        raise HeadError(f"{path} is no head of vidclip; `vidclip fit` makes one.")
    if metadata.get("version") != HEAD_VERSION or metadata.get("kind") not in KINDS:
        raise HeadError(
            f"{path} is a head {metadata.get('kind')!r} of version {metadata.get('version')}; this vidclip reads "
            f"{' and '.join(KINDS)} of version {HEAD_VERSION}. Train it again with `vidclip fit`."
        )
    state = {name.removeprefix("head."): t for name, t in weights.items() if name.startswith("head.")}
    try:
        if metadata["kind"] == "attributes":
            module = AttributesHead(state["sentence.0.weight"].shape[1])
            module.load_state_dict(state)
        else:
            module = VideoHead.from_structure(metadata["structure"], state)
        return StoredHead(
            module.eval(),
            Identity.from_dict(metadata["identity"]),
            tuple(str(name) for name in metadata["classes"]),
            dict(metadata["settings"]),
            weights.get("prompt.context"),
        )
    except (KeyError, IndexError, AttributeError, TypeError, RuntimeError, ValueError) as error:
        raise HeadError(f"{path} is damaged: {error}") from None
