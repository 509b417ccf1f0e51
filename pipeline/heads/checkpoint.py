"""The file of a trained head: one safetensors file with its weights and, as metadata, its kind, its settings, its
class names and the encoder whose embeddings it reads.

A digest over all of it is in the file and is checked when a head is loaded; a head is refused for features of
another encoder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...cache import Identity, write_whole
from ...cache.identity import canonical_json
from ..scoring import TEMPERATURE, check_temperature
from .attributes_head import AttributesHead
from .video_head import VideoHead
from .video_prompts import XClipHead

_log = logging.getLogger(__name__)

HEAD_FILE = "head.safetensors"
"""Its name in a model folder, beside the encoder whose embeddings it reads."""
HEAD_FORMAT = "vidclip-head"
HEAD_VERSION = "3"
"""3: with a digest of the content. Files of version 2 have none, and are read all the same."""
KINDS = ("video", "attributes", "x-clip")

_MOST_TENSORS = 1000
"""The largest head has 80."""
_STORED_NAMES = {"class_embeddings": "rows", "num_frames": "frames"}
"""Name of a tensor or setting -> its name in a file."""
_NAMES = {stored: name for name, stored in _STORED_NAMES.items()}


class HeadError(Exception):
    """A head that cannot be read, or that belongs to another encoder."""


@dataclass(frozen=True)
class StoredHead:
    """A head as its file has it."""

    module: VideoHead | XClipHead | AttributesHead
    identity: Identity
    """The identity of the features it was trained on: encoder and sampling."""
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    """What trained it, its prompts among them; JSON-able."""
    context: torch.Tensor | None = None
    """[M, D_token] vectors of a learned prompt, where there is one."""
    trained_on: np.ndarray | None = None
    """[n, 2] int64, `video_fingerprints` of the videos it was trained on; None in files of version 2."""

    @property
    def temperature(self) -> float:
        """Temperature of the softmax over classes that the head was trained with."""
        return float(self.settings.get("temperature", TEMPERATURE))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The sentences around class names that it was trained with. Raises HeadError where the file has none."""
        prompts = self.settings.get("prompts")
        if not prompts:
            raise HeadError("the head does not say which prompts it was trained with. Train it again.")
        return tuple(prompts)

    @property
    def kind(self) -> str:
        """One of KINDS."""
        kinds = {VideoHead: "video", AttributesHead: "attributes", XClipHead: "x-clip"}
        return kinds[type(self.module)]

    def check_encoder(self, digest: str, what: str) -> None:
        """Raise HeadError when the embeddings of `what` are another encoder's."""
        if digest != self.identity.encoder_digest:
            raise HeadError(
                f"the head was trained on another encoder ({self.identity.encoder_name}) than that of {what}. Train "
                "one with `vidclip fit`, or name the cache it belongs to."
            )

    def check_features(self, shape: tuple[int, ...], what: str) -> None:
        """Raise HeadError when features [N, V, T, D] have another D than the head was trained on, or another T than
        it has positions for."""
        head = self.module
        if shape[0] and shape[3] != head.dimension:
            raise HeadError(
                f"the head reads embeddings of {head.dimension} dimensions, but those of {what} have {shape[3]}. Train "
                "one here with `vidclip fit`."
            )
        if isinstance(head, AttributesHead):
            return
        if isinstance(head, VideoHead) and head.config.temporal not in ("transformer", "mit"):
            return
        if shape[2] != head.num_frames:
            raise HeadError(
                f"the head has positions for {head.num_frames} frames, but {what} has {shape[2]} a clip. Extract with "
                f"--frames {head.num_frames} into another --cache, or train a head here."
            )


def save_head(path: Path | str, head: StoredHead) -> None:
    """Write the file, whole or not at all; the same head is the same file.

    Raises OSError; HeadError for weights or settings that are not finite, with nothing written.
    """
    metadata = {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "kind": head.kind,
        "structure": {_STORED_NAMES.get(k, k): v for k, v in head.module.structure.items()},
        "identity": head.identity.to_dict(),
        "classes": head.classes,
        "settings": dict(head.settings),
    }
    weights = {f"head.{_STORED_NAMES.get(k, k)}": v for k, v in head.module.state_dict().items()}
    if head.context is not None:
        weights["prompt.context"] = head.context
    if head.trained_on is not None:
        weights["trained_on"] = torch.from_numpy(np.ascontiguousarray(head.trained_on, np.int64))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    try:
        _check_finite(weights)
        text = json.dumps(
            {**metadata, "sha256": _content_sha256(metadata, weights)}, sort_keys=True, allow_nan=False
        )
    except ValueError as error:
        raise HeadError(f"the head is not written to {path}: {error}") from error
    # One key: with several, safetensors writes them in an order of its own in every process.
    write_whole(Path(path), save(weights, {"vidclip": text}))


def load_head(path: Path | str) -> StoredHead:
    """Read a head. Raises HeadError where the file is missing, damaged, foreign or of another version.

    What the file claims is checked before it is believed: every tensor lies in the file, its shape and type are
    those of the module, numbers are finite, and the digest fits.
    """
    try:
        with safe_open(str(path), "pt") as file:
            metadata = json.loads(
                (file.metadata() or {}).get("vidclip", "{}"), parse_constant=_refuse_constant
            )
            names = list(file.keys())
            if len(names) > _MOST_TENSORS:
                raise ValueError(f"it has {len(names)} tensors")
            weights = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise HeadError(f"{path} does not exist; `vidclip fit` makes such a file.") from None
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise HeadError(f"{path} is no head of vidclip, or is damaged ({error}).") from None
    if not isinstance(metadata, dict) or metadata.get("format") != HEAD_FORMAT:
        raise HeadError(f"{path} is no head of vidclip; `vidclip fit` makes one.")
    if metadata.get("version") not in ("2", HEAD_VERSION) or metadata.get("kind") not in KINDS:
        raise HeadError(
            f"{path} is a head {metadata.get('kind')!r} of version {metadata.get('version')}; this vidclip reads "
            f"{' and '.join(KINDS)} of versions 2 and {HEAD_VERSION}. Train it again with `vidclip fit`."
        )
    stored_digest = metadata.pop("sha256", None if metadata["version"] == "2" else "")
    try:
        if stored_digest is not None and stored_digest != _content_sha256(metadata, weights):
            raise ValueError("its checksum does not fit its content. Copy it again, or train it again")
        _check_finite(weights)
        head = _stored_head(metadata, weights)
    except (
        KeyError, IndexError, AttributeError, TypeError, RuntimeError, ValueError, OverflowError
    ) as error:  # fmt: skip
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise HeadError(f"{path} is damaged: {why}") from None
    of = head.identity.encoder_name
    _log.debug("%s: a %s head of %s classes over %s", path, head.kind, len(head.classes), of)
    return head


def _stored_head(metadata: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> StoredHead:
    """Build the head. Raises one of many errors where the two do not fit."""
    state = {}
    for stored_name, tensor in weights.items():
        if stored_name.startswith("head."):
            name = stored_name.removeprefix("head.")
            expected = torch.int64 if name.rpartition(".")[2] == "owners" else torch.float32
            if tensor.dtype != expected:
                raise ValueError(f"the tensor {name!r} is {tensor.dtype}, not {expected}")
            state[_NAMES.get(name, name)] = tensor
    if metadata["kind"] == "attributes":
        with torch.device("meta"):  # sizes come from a file: the tensors it holds are all the memory it gets
            module = AttributesHead(state["sentence.0.weight"].shape[1])
        module.load_state_dict(state, assign=True)
    else:
        structure = {_NAMES.get(str(k), str(k)): v for k, v in metadata["structure"].items()}
        made = VideoHead if metadata["kind"] == "video" else XClipHead
        module = made.from_structure(structure, state)
    classes, settings = metadata["classes"], dict(metadata["settings"])
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no list of names")
    if not isinstance(module, AttributesHead) and len(classes) != len(module.class_embeddings):
        raise ValueError(f"it has {len(classes)} classes, and embeddings of {len(module.class_embeddings)}")
    check_temperature(settings.get("temperature", TEMPERATURE))
    prompts = settings.get("prompts", [])
    if not isinstance(prompts, list) or not all(isinstance(one, str) for one in prompts):
        raise ValueError("its prompts are no list of sentences")
    context = weights.get("prompt.context")
    length = module.config.prompt_context if isinstance(module, VideoHead) else 0
    if (0 if context is None else len(context)) != length or (context is not None and context.ndim != 2):
        raise ValueError(f"its learned prompt does not have {length} vectors")
    trained_on = weights.get("trained_on")
    if trained_on is not None and (trained_on.dtype != torch.int64 or trained_on.shape[1:] != (2,)):
        raise ValueError("its record of training videos has another form")
    return StoredHead(
        module.eval(),
        Identity.from_dict(metadata["identity"]),
        tuple(classes),
        settings,
        None if context is None else context.float(),
        None if trained_on is None else trained_on.numpy(),
    )


def _content_sha256(metadata: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256, hexadecimal, of the metadata and of every tensor: name, type, shape, bytes."""
    digest = hashlib.sha256(canonical_json(metadata).encode())
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if tensor.numel():
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError by the name of a tensor that holds NaN or infinity."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"the tensor {name!r} holds numbers that are not finite")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
