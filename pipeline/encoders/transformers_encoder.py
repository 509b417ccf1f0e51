"""A model of transformers as vidclip uses it: frames or clips, sentences and words to embeddings."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...cache import TextEmbeddings
from ..choices import PRECISIONS, check_choice
from ..devices import DeviceError, choose_device
from .encoder import DTYPES
from .files import remembered
from .hub import fetch_transformers, first_line
from .identity import state_digest, tokenizer_probes, vocabulary_digest
from .load import automatic_precision
from .phrases import embed_phrases
from .protocol import EncoderError, TextUnavailable
from .transformers_folder import (
    TransformersFolder,
    check_folder,
    class_of,
    configs_inside,
    described,
    read_document,
    read_folder,
)
from .transformers_images import preprocess_of_folder
from .transformers_models import EncoderKind, encoder_kind
from .transformers_texts import TextReader


def load_transformers(
    model: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    image_size: int | None = None,
    frames: int | None = None,
) -> TransformersEncoder:
    """Load a model of transformers: tensors and settings of its folder, no code.

    model     `hf:FOLDER`, as `save_pretrained` writes it, or `hf:OWNER/NAME` of the hub, which is fetched
    frames    of a clip, for clip encoders that read any number; None: their own
    The others are those of `load_encoder`.

    Raises EncoderError for a model that cannot be had, is of no kind that can be an encoder, or damaged.
    """
    check_choice("precision", precision, PRECISIONS)
    place = model.partition(":")[2]
    try:
        chosen = choose_device(device)
    except DeviceError as error:
        raise EncoderError(str(error)) from error
    if image_size is not None:
        raise EncoderError(f"{model} sees images of its own size; leave --size out.")
    try:
        folder = Path(place) if Path(place).is_dir() else fetch_transformers(place, encoder_kind)
        check_folder(folder, "model")
        kind = encoder_kind(read_document(folder))
        with contextlib.suppress(ImportError):  # which `read_folder` explains
            class_of(kind.network)
        read = read_folder(folder, lambda _config: kind, "model")
        return TransformersEncoder(
            read,
            folder,
            model=remembered(model),
            device=chosen,
            precision=automatic_precision(chosen) if precision == "auto" else precision,
            frames=frames,
        )
    except (ImportError, OSError, ValueError) as error:
        raise EncoderError(f"{model} cannot be used as an encoder: {first_line(error)}") from error


class TransformersEncoder:
    """A model of transformers on a device; see `Encoder`. `load_transformers` makes one.

    Raises ValueError for a model whose processor, tokenizer or clips do not fit it.
    """

    def __init__(
        self,
        read: TransformersFolder[EncoderKind],
        folder: Path,
        *,
        model: str,
        device: torch.device,
        precision: str,
        frames: int | None = None,
    ) -> None:
        self.model, self.pretrained, self.device, self.precision = model, "", device, precision
        self.warnings: tuple[str, ...] = ()
        self.patch_shape = None
        self._kind = read.kind
        self.preprocess = preprocess_of_folder(folder, read.kind, read.config)
        self.frames_per_sample, self.embeddings_per_sample = read.kind.sample(read.config, frames)
        for name in read.kind.drops:
            setattr(read.network, name, None)
        digest = state_digest(read.network.state_dict())  # before precision or device change a single bit
        self.network = _hold_in(read.network, DTYPES[precision]).to(device)
        self._mean = torch.tensor(self.preprocess.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(self.preprocess.std, device=device).view(1, 3, 1, 1)
        self._texts = None
        if read.kind.text is not None:
            self._texts = TextReader(self.network, read.kind.text, read.tokenizer, read.limit, device)
        self.dimension = self._probe()
        self.identity: dict[str, Any] = {
            "architecture": {"transformers": read.kind.network, "config": described(read.document)},
            "weights_sha256": digest,
            "activation": _activations(read.config),
            "preprocess": self.preprocess.to_identity(),
            "tokenizer": _tokenizer_identity(self._texts),
            "dimension": self.dimension,
        }
        if read.kind.reads_clips:
            self.identity["sample"] = {
                "frames": self.frames_per_sample,
                "embeddings": self.embeddings_per_sample,
            }

    @property
    def name(self) -> str:
        """Name in messages."""
        return self.model

    def encode_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return embeddings [B n' / n, D] float32 on the device, as the model projects them, not normalized.

        pixels    [B, height, width, 3] uint8, as `preprocess.pixels` gives them, on any device; B a multiple of n

        Raises ValueError for another B.
        """
        n = self.frames_per_sample
        if len(pixels) % n:
            raise ValueError(f"{self.name} embeds clips of {n} frames, and {len(pixels)} are not whole ones")
        with torch.inference_mode():
            images = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
            images = images.div_(255).sub_(self._mean).div_(self._std).to(DTYPES[self.precision])
            return self._kind.embed(self.network, images.unflatten(0, (-1, n))).flatten(0, 1).float()

    def encode_clips(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ARG002
        """Raise ValueError: models of transformers give no patch tokens as X-CLIP reads them."""
        raise ValueError(f"{self.name} has no patch tokens as X-CLIP reads them")

    def encode_text(
        self,
        phrases: Sequence[str],
        prompts: Sequence[str] = ("{}",),
        *,
        words: str = "name",
        batch_size: int = 64,
    ) -> TextEmbeddings:
        """Return the sentence and word embeddings of C phrases.

        prompts    each with one `{}`. Several are averaged, as `embed_phrases` says
        words      name, sentence, none; all: every token, special ones too, but no padding

        Raises ValueError for no phrase, a prompt without `{}`, or an unknown mode; TextUnavailable without a text tower.
        """
        if self._texts is None:
            raise TextUnavailable(self.name)
        return embed_phrases(self._texts.embed, phrases, prompts, words, batch_size=batch_size)

    def _probe(self) -> int:
        """Return D. Raises ValueError where the network cannot embed what its settings say, or texts have another D."""
        pixels = torch.zeros(self.frames_per_sample, *self.preprocess.size, 3, dtype=torch.uint8)
        try:
            found = self.encode_frames(pixels)
            texts = self._texts.embed(["a"], "{}", "none")[0] if self._texts else None
        except Exception as error:  # whatever a network may throw
            raise ValueError(
                f"its network does not fit its settings ({type(error).__name__}: {first_line(error)})"
            ) from error
        if len(found) != self.embeddings_per_sample:
            raise ValueError(
                f"{self.frames_per_sample} frames give {len(found)} embeddings, not {self.embeddings_per_sample}"
            )
        if texts is not None and texts.shape[1] != found.shape[1]:
            raise ValueError(f"its texts have {texts.shape[1]} dimensions, and its frames {found.shape[1]}")
        return int(found.shape[1])


def _hold_in(network: Any, dtype: torch.dtype) -> Any:
    """Return the network in `dtype`, but for the frequencies of rotary positions, which half precision would blur."""
    kept = {name: value.clone() for name, value in network.named_buffers() if name.endswith("inv_freq")}
    network.to(dtype)
    for name, value in kept.items():
        module, _, own = name.rpartition(".")
        setattr(network.get_submodule(module), own, value)
    return network


def _activations(config: Any) -> str:
    found = {str(each.hidden_act) for each in configs_inside(config) if hasattr(each, "hidden_act")}
    return "+".join(sorted(found)) or "unknown"


def _tokenizer_identity(texts: TextReader | None) -> dict[str, Any] | None:
    if texts is None:
        return None
    tokenizer = texts.tokenizer
    return {
        "kind": "transformers",
        "context_length": texts.limit,
        "vocabulary_sha256": vocabulary_digest(tokenizer),
        "probes_sha256": tokenizer_probes(lambda phrases: tokenizer(phrases)["input_ids"]),
        "padding": [tokenizer.padding_side, sorted(tokenizer.model_input_names)],
    }
