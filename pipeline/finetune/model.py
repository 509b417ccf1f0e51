"""An encoder and a head as one module whose forward is the loss: what DistributedDataParallel can wrap.

    pixels [B, T, H, W, 3] -> visual tower -> frames [B, T, D] -> (gathered from all devices) -> head -> loss

The tower runs in autocast, with its weights in fp32. Cosines, the softmaxes of concept spotting and the losses are
computed in fp32: at a temperature of 0.01 half precision rounds them badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..encoders import OpenClipEncoder, frames_and_patches, is_new
from ..heads import VideoHead, XClipHead, choose_weight, languages_loss
from .distributed import gather
from .mixing import Mixing, soft_targets
from .precision import arithmetic, longest_sequence
from .recipe import Recipe
from .text_branch import TextBranch

Encode = Callable[[torch.Tensor], torch.Tensor]
"""Clips [B, T, H, W, 3] uint8 -> what is made of them, [B, ...]."""
MAX_LOGIT_SCALE = math.log(100)
"""Bound of a trained temperature, as in CLIP and open_clip; the releases of both recipes have none."""


class FinetuneModel(nn.Module):
    """The towers of an encoder and a head over its frame embeddings.

    encoder    in fp32; its network is trained in place
    head       over the classes
    texts      where the class embeddings of a step come from, if not from the head
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        encoder: OpenClipEncoder,
        head: VideoHead | XClipHead,
        recipe: Recipe,
        texts: TextBranch | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.network: Any = encoder.network
        self.head, self.texts = head, texts
        self._mix = Mixing(recipe)
        preprocess = encoder.preprocess
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(3, 1, 1), persistent=False)
        self._size = preprocess.size
        self._freeze()

    def _freeze(self) -> None:
        recipe = self.recipe
        self.network.requires_grad_(False)
        self.network.visual.requires_grad_(recipe.trains_visual)
        if recipe.tower_config is not None:
            for name, parameter in self.network.visual.named_parameters(prefix="visual"):
                if is_new(name):
                    parameter.requires_grad_(True)
        if recipe.trains_text:
            for module in _text_parts(self.network):
                module.requires_grad_(True)
        if recipe.temperature is None and recipe.train != "head":
            self.network.logit_scale.requires_grad_(True)
        if recipe.checkpointing:
            self.network.set_grad_checkpointing(True)

    def train(self, mode: bool = True) -> FinetuneModel:
        """Train what is trained; what is frozen, and the statistics of batch norms, stay as in use."""
        super().train(mode)
        self.network.eval()
        if mode and self.recipe.trains_visual:
            self.network.visual.train()
            for module in self.network.visual.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def parts(self) -> dict[str, Iterator[tuple[str, nn.Parameter]]]:
        """Return the named parameters of the encoder, the head and the prompt context."""
        context = iter(()) if self.texts is None else self.texts.named_parameters()
        head = self.head.named_parameters()
        return {"encoder": self.network.named_parameters(), "head": head, "prompt context": context}

    @property
    def context(self) -> torch.Tensor | None:
        """[M, E] vectors of a learned prompt."""
        return getattr(self.texts, "context", None)

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

    def scores(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the scores [B, C] of the head for clips [B, T, H, W, 3] uint8."""
        return self.head(*self.inputs(pixels))

    def inputs(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the head reads of clips [B, T, H, W, 3] uint8: frame embeddings [B, T, D], not normalized, and for
        X-CLIP's head the patch tokens [B, P, d]."""
        return self._encode(self._images(pixels))

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return normalized clips [B, T, 3, H, W]."""
        frames = pixels.permute(0, 1, 4, 2, 3).to(self.mean.dtype).div(255)
        return (frames - self.mean) / self.std

    def _encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the `inputs` of normalized clips."""
        visual, dtype = self.network.visual, self.mean.dtype
        with arithmetic(self.recipe, images.device, longest_sequence(visual)):
            if isinstance(self.head, XClipHead):
                found = frames_and_patches(visual, images.flatten(0, 1), images.shape[1])
                return tuple(each.to(dtype) for each in found)
            embedded = self.network.encode_image(images.flatten(0, 1))
        return (embedded.to(dtype).unflatten(0, images.shape[:2]),)

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor, prompt: int | None = None) -> torch.Tensor:
        """Return the loss, a scalar: of the own clips or, where a contrastive loss gathers, of those of all devices.

        pixels    [B, T, H, W, 3] uint8; none where none of a device's clips could be read
        labels    [B] int64
        prompt    which of several; None: all, averaged
        """
        n_own = len(labels)
        if not n_own:  # every parameter takes part in every step of every process
            pixels = pixels.new_zeros(1, self.recipe.frames, *self._size, 3)
        images, targets = self._images(pixels), labels
        if n_own and self.recipe.softens:
            soft = soft_targets(labels, len(self.head.class_embeddings), self.recipe.label_smoothing)
            images, targets = self._mix(images, soft.to(images.dtype))
        through_tower = any(parameter.requires_grad for parameter in self.network.visual.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and through_tower):
            embedded = inputs = self._encode(images)
        if self.gathers:
            inputs, targets = tuple(gather(each[:n_own]) for each in inputs), gather(labels)
        empty = not len(targets)
        if empty:
            inputs, targets = embedded, labels.new_zeros(1)
        class_embeddings, queries = self.texts(self.network, prompt) if self.texts else (None, None)
        if isinstance(self.head, XClipHead):
            scores = (self.head(*inputs, class_embeddings),)
        else:
            scores = self.head.language_scores(inputs[0], class_embeddings, queries=queries)
        loss = languages_loss(
            scores,
            targets,
            second_weight=self.recipe.second_loss_weight,
            temperature=self.temperature,
            form=self.recipe.loss,
        )
        return loss * 0 if empty else loss

    def weigh_languages(
        self, embed: Callable[[Encode, tuple[int, ...]], tuple[np.ndarray, np.ndarray]], labels: np.ndarray
    ) -> float | None:
        """Choose the weight of the first language of a head that has none, and return it; None where nothing is to choose.

        embed     returns (positions [m] of the held-out videos that can be read, what a function makes of their pixels,
                  [m, *shape]) for the function and its shape
        labels    [n] of the held-out videos
        """
        head = self.head
        if not isinstance(head, VideoHead) or head.second is None or head.config.second_weight is not None:
            return None
        self.eval()
        self.sync_text()

        def in_each(pixels: torch.Tensor) -> torch.Tensor:
            return torch.stack(head.language_scores(self.inputs(pixels)[0]), dim=1)

        with torch.no_grad():
            kept, scores = embed(in_each, (2, len(head.class_embeddings)))
        weight = choose_weight(scores[:, 0], scores[:, 1], labels[kept], head.config.second_form)
        head.config = replace(head.config, second_weight=weight)
        return weight

    @property
    def gathers(self) -> bool:
        """Whether the loss is one over the clips of all devices."""
        return self.recipe.gather and self.recipe.loss != "cross-entropy"

    @torch.no_grad()
    def sync_text(self) -> None:
        """Give the head the class embeddings as they are now, of all prompts together."""
        if self.texts is not None:
            class_embeddings, queries = self.texts(self.network)
            self.head.class_embeddings.copy_(class_embeddings)
            if queries is not None:
                self.head.get_buffer("queries").copy_(queries)


def _text_parts(network: Any) -> list[Any]:
    """Return what `encode_text` runs through, modules and parameters."""
    if hasattr(network, "text"):
        return [network.text]
    names = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    parts = [getattr(network, name, None) for name in names]
    return [part for part in parts if part is not None]
