"""What an encoder is to the rest of the pipeline, and how it fails. Imports neither torch nor open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ...cache import TextEmbeddings
from ..video import Preprocess

if TYPE_CHECKING:
    import torch


class EncoderError(Exception):
    """A model or weights that cannot be had. The message says why and what else to give."""


class ModelNotNamed(EncoderError):
    """A cache or head names a folder, a file or a hub page, and the user does not.

    `options` is what to add to the command line.
    """

    def __init__(self, model: str, pretrained: str = "", given: Sequence[str] = ()) -> None:
        self.options = ("--model", model, *(("--pretrained", pretrained) if pretrained else ()))
        other = f" (and {', '.join(given)} has other weights or settings)" if given else ""
        super().__init__(
            f"the encoder {full_name(model, pretrained)} is needed{other}. A cache or head may come from elsewhere, so "
            "a folder, file or hub page that it names is loaded only where you name it too, as --model or as `model` "
            "in vidclip.toml."
        )


def full_name(model: str, pretrained: str) -> str:
    """Return `ViT-B-16 (openai)`, or the model alone where it brings its weights."""
    return f"{model} ({pretrained})" if pretrained else model


class Encoder(Protocol):
    """Pixels and phrases to embeddings of one space with D dimensions."""

    model: str
    """How it was asked for, as `load_encoder` takes it."""
    pretrained: str
    preprocess: Preprocess
    """Which pixels of a frame it sees."""
    device: torch.device
    precision: str
    """fp32, fp16 or bf16: what it computes in."""
    dimension: int
    """D."""
    identity: dict[str, Any]
    """What shapes its embeddings, JSON-able: equal identities give equal embeddings."""
    frames_per_sample: int
    """How many neighbors in a batch see each other: 1 where frames are embedded one by one."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def patch_shape(self) -> tuple[int, int] | None:
        """(P, d) of the patch tokens that `encode_clips` gives; None where no head would read them."""
        ...

    def encode_clips(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (frame embeddings [B, T, D], patch tokens [B, P, d]), float32 on the device, of pixels
        [B, T, height, width, 3] uint8."""
        ...

    def encode_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return embeddings [B, D] float32 on the device, not normalized, of pixels [B, height, width, 3] uint8."""
        ...

    def encode_text(
        self, phrases: Sequence[str], prompts: Sequence[str] = ("{}",), *, words: str = "name"
    ) -> TextEmbeddings:
        """Return sentence embeddings of phrases, and those of their words."""
        ...
