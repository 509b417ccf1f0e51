"""An open_clip model as vidclip uses it: frames, sentences and words to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch.nn.modules.batchnorm import _BatchNorm

from ...cache import TextEmbeddings
from ..video import Preprocess
from .identity import activation_of, tokenizer_identity, weights_digest
from .phrases import embed_phrases
from .protocol import full_name
from .tokens import content_positions, token_embeddings, word_positions
from .towers.build import change_tower
from .towers.config import TowerConfig

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colors of ImageNet, in 0..1."""


class OpenClipEncoder:
    """An open_clip model on a device, with its preprocessing, tokenizer and identity; `load_open_clip` makes one."""

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        model: str,
        pretrained: str,
        architecture: dict[str, Any],
        preprocess: Preprocess,
        device: torch.device,
        precision: str,
        tower: TowerConfig | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.pretrained = pretrained
        self.preprocess = preprocess
        self.device = device
        self.precision = precision
        self.warnings = tuple(warnings)
        """What a user should know before trusting the features; empty where nothing is suspicious."""
        self.tower = tower
        """What is inside the visual tower of `network`, where its frames see each other."""
        self.frames_per_sample = self.embeddings_per_sample = tower.frames if tower else 1
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        digest = weights_digest(self.network)  # before precision or device change a single bit
        self.network = hold_in(self.network, DTYPES[precision]).to(device)
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)
        with torch.inference_mode():
            probe = torch.zeros(self.frames_per_sample, *preprocess.size, 3, dtype=torch.uint8, device=device)
            self.dimension = int(self._embed(probe).shape[1])
        self.identity: dict[str, Any] = {
            "architecture": {**architecture, **({"tower": tower.to_dict()} if tower else {})},
            "weights_sha256": digest,
            "activation": activation_of(self.network),
            "preprocess": preprocess.to_identity(),
            "tokenizer": tokenizer_identity(self.tokenizer),
            "dimension": self.dimension,
        }

    def change_tower(self, config: TowerConfig, seed: int = 0) -> None:
        """Put inside the visual tower what `config` says, to be trained: the identity is that of the weights as they
        were loaded. Raises ValueError for a tower that cannot take it, or has something else inside."""
        if self.tower not in (None, config):
            raise ValueError(f"the tower has {self.tower.kind} of {self.tower.frames} frames inside already")
        if self.tower is None:
            change_tower(self.network.visual, config, seed)
            self.network.to(self.device).eval()
            self.tower = config
            self.frames_per_sample = self.embeddings_per_sample = config.frames

    def change_normalization(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        """Read colors with another mean and standard deviation, in 0..1: the identity is that of the weights as they
        were loaded."""
        self.preprocess = replace(self.preprocess, mean=mean, std=std)
        self._mean, self._std = (
            torch.tensor(each, device=self.device).view(1, 3, 1, 1) for each in (mean, std)
        )

    @property
    def patch_shape(self) -> tuple[int, int] | None:
        """(P, d) of the patch tokens of a clip, for X-CLIP's prompts; None where its attention is not in the tower."""
        if self.tower is None or self.tower.kind != "cross-frame":
            return None
        positions: torch.Tensor = self.network.visual.positional_embedding
        return positions.shape[0] - 1, positions.shape[1]

    @property
    def name(self) -> str:
        """Name in messages."""
        return full_name(self.model, self.pretrained)

    def encode_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return frame embeddings [B, D] float32 on the device, as the model projects them, not normalized.

        pixels    [B, height, width, 3] uint8, as `preprocess.pixels` gives them, on any device
        """
        with torch.inference_mode():
            return self._embed(pixels.to(self.device, non_blocking=True)).float()

    def encode_clips(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (frame embeddings [B, T, D] as `encode_frames` gives them, patch tokens [B, P, d]), float32.

        A patch token is that of the last block, shifted and scaled to mean 0 and variance 1; its mean over the frames
        of a clip is all that X-CLIP's prompts read.

        pixels    [B, T, height, width, 3] uint8

        Raises ValueError for a visual tower without patch tokens, and for another T than its frames see.
        """
        visual = self.network.visual
        if type(visual) is not VisionTransformer or visual.attn_pool is not None:
            raise ValueError(f"a {type(visual).__name__} has no patch tokens as X-CLIP reads them")
        if self.frames_per_sample not in (1, pixels.shape[1]):
            raise ValueError(
                f"the tower reads clips of {self.frames_per_sample} frames, got {pixels.shape[1]}"
            )
        with torch.inference_mode():
            images = self._images(pixels.to(self.device).flatten(0, 1))
            return frames_and_patches(visual, images, pixels.shape[1])

    def encode_text(
        self,
        phrases: Sequence[str],
        prompts: Sequence[str] = ("{}",),
        *,
        words: str = "name",
        batch_size: int = 256,
    ) -> TextEmbeddings:
        """Return the sentence and word embeddings of C phrases.

        prompts    each with one `{}`. Several are averaged by `average_prompts`; their words stand one prompt's
                   after the other's
        words      name, sentence, all, or none: see `WORD_MODES`

        Raises ValueError for no phrase, a prompt without `{}`, or an unknown mode; WordsUnavailable
        when words are asked of a text tower that has none.
        """
        return embed_phrases(self._encode_texts, phrases, prompts, words, batch_size=batch_size)

    def _encode_texts(
        self, texts: list[str], prompt: str, words: str
    ) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
        """Return (sentences [C, D], words of each [n, D], which texts were longer than the context)."""
        tokens = self.tokenizer(texts)
        length = tokens.shape[1]
        untruncated = content_positions(self.tokenizer, self.tokenizer(texts, context_length=4 * length))
        places = content_positions(self.tokenizer, tokens)
        longer = [c for c, row in enumerate(untruncated) if len(row) > len(places[c])]
        with torch.inference_mode():
            on_device = tokens.to(self.device)
            if words == "none":
                sentence = self.network.encode_text(on_device)
                return _array(sentence), [np.zeros((0, self.dimension), np.float32) for _ in texts], longer
            sentence, embedded = token_embeddings(self.network, on_device)
        places = word_positions(self.tokenizer, prompt, tokens, words)
        every = _array(embedded)
        return _array(sentence), [every[c, row] for c, row in enumerate(places)], longer

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network.encode_image(self._images(pixels))

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what the visual tower sees, [B, 3, height, width], of pixels [B, height, width, 3]."""
        images = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
        if not isinstance(self.network.visual, ModifiedResNet):  # whose stem takes float32
            images = images.to(DTYPES[self.precision])
        return images


def hold_in(network: Any, dtype: torch.dtype) -> Any:
    """Return the network with its weights in `dtype`, to be run in it, except what needs float32.

    Batch norms keep their statistics: variances span more than half precision does, and torch applies float32
    statistics to inputs of any type. The first three convolutions of a ResNet see the pixels in float32: rounding
    these costs more than all that follows. Layer norms, softmaxes and matrix products add up in float32 whatever type
    they are given.
    """
    if dtype == torch.float32:
        return network
    kept: list[torch.nn.Module] = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    resnet: Any = getattr(network, "visual", None)
    if isinstance(resnet, ModifiedResNet):
        kept += [resnet.conv1, resnet.conv2, resnet.conv3]
        resnet.avgpool.register_forward_hook(lambda _module, _inputs, output: output.to(dtype))
    exact = [{name: value.clone() for name, value in module.state_dict().items()} for module in kept]
    network.to(dtype)
    for module, state in zip(kept, exact, strict=True):
        module.float()
        module.load_state_dict(state)
    return network


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def frames_and_patches(
    visual: Any, images: torch.Tensor, num_frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `OpenClipEncoder.encode_clips` does, of normalized images [B T, 3, height, width], with gradients."""
    tokens = visual.transformer(visual._embeds(images))
    frames = visual._pool(tokens)[0] @ visual.proj
    patches = F.layer_norm(tokens[:, 1:].float(), tokens.shape[-1:])
    clips = frames.float().unflatten(0, (-1, num_frames))
    return clips, patches.unflatten(0, (-1, num_frames)).mean(dim=1)
