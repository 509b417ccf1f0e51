"""An encoder and a head as one module whose forward is the loss: what DistributedDataParallel can wrap.

    pixels [B, T, H, W, 3] -> visual tower -> frames [B, T, D] -> (gathered from all devices) -> head -> loss

The tower runs in autocast, with its weights in fp32. Cosines, the softmaxes of concept spotting and the losses are
computed in fp32: at a temperature of 0.01 half precision rounds them badly.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from ..encoders import OpenClipEncoder, token_embeddings, word_positions
from ..heads import VideoHead, scores_loss
from .distributed import gather
from .recipes import Recipe

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MAX_LOGIT_SCALE = math.log(100)
"""Bound of a trained temperature, as in CLIP and open_clip; the releases of both recipes have none."""

_MATH_ATTENTION_TOKENS = 192
"""Below so many tokens, the backward pass of torch's fused attention on a CPU in bf16 takes longer than all of that
which is written out: a whole block 1.1 to 2 times as long with 26 to 170 tokens, as long with 197, in fp32 with any."""


class FinetuneModel(nn.Module):
    """The towers of an encoder and a head over its frame embeddings.

    encoder    in fp32; its network is trained in place
    head       over the classes that `texts` reads
    phrases    of the classes: needed where the text tower is trained
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, encoder: OpenClipEncoder, head: VideoHead, recipe: Recipe, phrases: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.network: Any = encoder.network
        self.head = head
        preprocess = encoder.preprocess
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(3, 1, 1), persistent=False)
        self._texts = _ClassTokens(encoder, recipe, phrases) if recipe.train == "visual+text" else None
        self._size = preprocess.size
        self._freeze()

    def _freeze(self) -> None:
        recipe = self.recipe
        self.network.requires_grad_(False)
        if recipe.train == "head":
            return
        self.network.visual.requires_grad_(True)
        if self._texts is not None:
            for module in _text_parts(self.network):
                module.requires_grad_(True)
        if recipe.temperature is None:
            self.network.logit_scale.requires_grad_(True)
        if recipe.checkpointing:
            self.network.set_grad_checkpointing(True)

    def train(self, mode: bool = True) -> FinetuneModel:
        """Train what is trained; what is frozen, and the statistics of batch norms, stay as in use."""
        super().train(mode)
        self.network.eval()
        if mode and self.recipe.train != "head":
            self.network.visual.train()
            for module in self.network.visual.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def encoder_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named parameters of both towers."""
        return self.network.named_parameters()

    @property
    def temperature(self) -> torch.Tensor | float:
        """Of the loss."""
        if self.recipe.temperature is not None:
            return self.recipe.temperature
        return torch.exp(-self.network.logit_scale).reshape(())

    @torch.no_grad()
    def bound_temperature(self) -> None:
        """Keep a trained temperature at 0.01 or above: to be called after each step."""
        if self.recipe.temperature is None:
            self.network.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return frame embeddings [B, T, D], not normalized, of pixels [B, T, H, W, 3] uint8."""
        frames = pixels.flatten(0, 1).permute(0, 3, 1, 2).to(self.mean.dtype).div(255)
        frames = (frames - self.mean) / self.std
        with _arithmetic(self.recipe, pixels.device, _longest_sequence(self.network.visual)):
            embedded = self.network.encode_image(frames)
        return embedded.to(self.mean.dtype).unflatten(0, pixels.shape[:2])

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar: of the own clips or, where a contrastive loss gathers, of those of all devices.

        pixels    [B, T, H, W, 3] uint8; none where none of a device's clips could be read
        labels    [B] int64
        """
        n_own = len(labels)
        if not n_own:  # every parameter takes part in every step of every process
            pixels = pixels.new_zeros(1, self.recipe.frames, *self._size, 3)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.recipe.train != "head"):
            embedded = frames = self.embed(pixels)
        if self.gathers:
            frames, labels = gather(frames[:n_own]), gather(labels)
        empty = not len(labels)
        if empty:
            frames, labels = embedded, labels.new_zeros(1)
        class_embeddings, queries = self._texts(self.network) if self._texts else (None, None)
        scores = self.head(frames, class_embeddings, queries=queries)
        loss = scores_loss(scores, labels, temperature=self.temperature, form=self.recipe.loss)
        return loss * 0 if empty else loss

    @property
    def gathers(self) -> bool:
        """Whether the loss is one over the clips of all devices."""
        return self.recipe.gather and self.recipe.loss != "cross-entropy"

    @torch.no_grad()
    def sync_text(self) -> None:
        """Give the head the class embeddings of the text tower as it is now."""
        if self._texts is not None:
            class_embeddings, queries = self._texts(self.network)
            self.head.class_embeddings.copy_(class_embeddings)
            if queries is not None:
                self.head.get_buffer("queries").copy_(queries)


class _ClassTokens:
    """The tokens of the classes, to be encoded with gradient at every step."""

    def __init__(self, encoder: OpenClipEncoder, recipe: Recipe, phrases: tuple[str, ...]) -> None:
        texts = [recipe.prompt.replace("{}", phrase) for phrase in phrases]
        self._tokens = encoder.tokenizer(texts)
        self._recipe = recipe
        self._places: list[list[int]] | None = None
        if recipe.pool == "vcs":
            self._places = word_positions(encoder.tokenizer, recipe.prompt, self._tokens, recipe.words)

    def __call__(self, network: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (class embeddings [C, D], queries [Q, D] of concept spotting or None), as `encode_text` has them."""
        parameter = network.logit_scale
        tokens = self._tokens.to(parameter.device)
        with _arithmetic(self._recipe, tokens.device, tokens.shape[1]):
            if self._places is None:
                return network.encode_text(tokens).to(parameter.dtype), None
            sentences, words = token_embeddings(network, tokens)
        queries = torch.cat([words[c, places] for c, places in enumerate(self._places)])
        return sentences.to(parameter.dtype), queries.to(parameter.dtype)


@contextlib.contextmanager
def _arithmetic(recipe: Recipe, device: torch.device, n_tokens: int) -> Iterator[None]:
    """Compute a tower on sequences of n_tokens in the precision of the recipe, with the faster kind of attention."""
    slow = device.type == "cpu" and recipe.precision == "bf16" and n_tokens < _MATH_ATTENTION_TOKENS
    # A checkpointed block is computed again in the backward pass, where this choice no longer holds.
    written_out = slow and torch.is_grad_enabled() and not recipe.checkpointing
    with (
        torch.autocast(device.type, DTYPES[recipe.precision], enabled=recipe.precision != "fp32"),
        sdpa_kernel(SDPBackend.MATH) if written_out else contextlib.nullcontext(),
    ):
        yield


def _longest_sequence(visual: Any) -> int:
    """Return how many tokens a visual tower attends to at once, by its positional embeddings; many where it has none."""
    names = ("positional_embedding", "pos_embed")
    lengths = (p.shape[-2] for name, p in visual.named_parameters() if name.endswith(names))
    return max(lengths, default=_MATH_ATTENTION_TOKENS)


def _text_parts(network: Any) -> list[Any]:
    """Return what `encode_text` runs through, modules and parameters."""
    if hasattr(network, "text"):
        return [network.text]
    names = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    parts = [getattr(network, name, None) for name in names]
    return [part for part in parts if part is not None]


def training_precision(precision: str, device: torch.device) -> str:
    """Return what `auto` means on a device: fp32 on a CPU, bf16 on a GPU that has it, else fp16."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
