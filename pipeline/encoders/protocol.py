"""What an encoder is to the rest of the pipeline, and how it fails. Imports neither torch nor open_clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ...cache import Identity, TextEmbeddings
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


class TextUnavailable(EncoderError):
    """Texts are asked of an encoder that has no text tower."""

    def __init__(self, encoder: str) -> None:
        super().__init__(
            f"{encoder} embeds no texts: it has no text tower. What reads class names or phrases cannot be done with its "
            "features; heads with --classifier linear, lda, random or orthogonal can, and search with --like."
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
    """n: how many neighbors in a batch see each other, 1 where frames are embedded one by one."""
    embeddings_per_sample: int
    """n': how many embeddings these give: n, or fewer of a clip encoder, each of n / n' neighbors."""
    warnings: tuple[str, ...]
    """What a user should know before trusting the features."""

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
        [B, T, height, width, 3] uint8. Asked of an encoder with `patch_shape` alone."""
        ...

    def encode_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return embeddings [B n' / n, D] float32 on the device, not normalized, of pixels [B, height, width, 3] uint8."""
        ...

    def encode_text(
        self, phrases: Sequence[str], prompts: Sequence[str] = ("{}",), *, words: str = "name"
    ) -> TextEmbeddings:
        """Return sentence embeddings of phrases, and those of their words. Raises TextUnavailable without text tower."""
        ...


class SampleSizes(Protocol):
    """Of an encoder, how many frames it reads together, and what it makes of them; see `Encoder`."""

    @property
    def name(self) -> str: ...
    @property
    def frames_per_sample(self) -> int: ...
    @property
    def embeddings_per_sample(self) -> int: ...


def embeddings_of_view(encoder: SampleSizes, frames: int) -> int:
    """Return T': how many embeddings a view of T frames has. Raises EncoderError for a T that the encoder cannot read."""
    size, given = encoder.frames_per_sample, encoder.embeddings_per_sample
    if size == given:
        if size not in (1, frames):
            raise EncoderError(
                f"the frames of a clip see each other in {encoder.name}, which reads clips of {size} frames, not of "
                f"{frames}. Use --frames {size}."
            )
        return frames
    if frames % size:
        raise EncoderError(
            f"{encoder.name} embeds clips of {size} frames, and {frames} frames are no whole number of these. Use "
            f"--frames {size}, or a multiple of it."
        )
    return frames // size * given


def has_text(identity: Identity) -> bool:
    """Return whether the encoder of an identity has a text tower, without loading it."""
    return identity.encoder.get("tokenizer", "unknown") is not None


def check_has_text(identity: Identity) -> None:
    """Raise TextUnavailable where the encoder of an identity has no text tower."""
    if not has_text(identity):
        raise TextUnavailable(identity.encoder_name)


def check_has_time(identity: Identity, embeddings: int, what: str) -> None:
    """Raise EncoderError where a clip encoder gives each view a single embedding, in which nothing is at any time.

    embeddings    T' of the features
    what          what is asked for, as the beginning of a sentence
    """
    sample = identity.encoder.get("sample")
    if embeddings == 1 and isinstance(sample, Mapping):
        size = sample.get("frames", "?")
        raise EncoderError(
            f"{what} needs several embeddings of each video, and {identity.encoder_name} gives one for a clip of {size} "
            f"frames. Extract with a multiple of --frames {size}, or use the pool mean."
        )
