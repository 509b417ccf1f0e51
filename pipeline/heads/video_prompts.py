"""X-CLIP's head: the multi-frame integration transformer, and class embeddings that look at the video.

    e  = mean_t( MIT(f) )                               [B, D]       f [B, T, D] frame embeddings
    v  = norm(patches)                                  [B, P, D]    patch tokens, their mean over the frames
    q  = c;  in each layer  q = q + attention(q, v);  q = q + mlp(q)
    c' = c + alpha q                                    [B, C, D]    the class embeddings differ for every video
    score[b, c] = u(e) . u(c')

with u(x) = x / |x|. Each class looks at the video alone: fewer classes give the same scores.

B videos, T frames, P patches of a frame, d width of the visual tower, D dimensions of the joint space, C classes.
Source: Ni et al. 2022 (X-CLIP), equations 6 to 10; norms and names of parameters as in its released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import nn

from .temporal import temporal_module
from .video_head import HeadConfig, VideoHead

_HEAD_WIDTH = 64
_BATCH_NUMBERS = 2**26
"""So many numbers at most in the largest tensors of a batch of scores: 256 MiB."""


class XClipHead(nn.Module):
    """Scores videos from their frame embeddings and patch tokens.

    class_embeddings    [C, D] of the text tower, not normalized
    num_frames          T: it has a position for each
    patch_width         d
    heads               attention heads of the integration transformer; None: D // 64
    prompt_heads        those of the prompts; None: D // 64
    prompt_layers       2 as released
    seed                random seed of the initial weights
    position_std        see `temporal_module`
    """

    class_embeddings: torch.Tensor

    def __init__(
        self,
        class_embeddings: np.ndarray,
        num_frames: int,
        patch_width: int,
        *,
        heads: int | None = None,
        prompt_heads: int | None = None,
        prompt_layers: int = 2,
        seed: int = 0,
        position_std: float = 0.01,
    ) -> None:
        super().__init__()
        embeddings = torch.from_numpy(np.array(class_embeddings, np.float32))
        self.dimension, self.num_frames = embeddings.shape[1], num_frames
        self.heads = heads or max(1, self.dimension // _HEAD_WIDTH)
        self.prompt_heads = prompt_heads or max(1, self.dimension // _HEAD_WIDTH)
        self.mit = temporal_module(
            "mit", self.dimension, num_frames, heads=self.heads, position_std=position_std, seed=seed
        )
        self.prompts_visual_ln = nn.LayerNorm(patch_width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.prompts_visual_proj = nn.Parameter(torch.randn(patch_width, self.dimension))
            self.prompts_generator = VideoPrompts(self.dimension, self.prompt_heads, prompt_layers)
        self.register_buffer("class_embeddings", embeddings)

    def embed_videos(self, frames: torch.Tensor) -> torch.Tensor:
        """Return [B, D], not normalized, of frame embeddings [B, T, D]. Raises ValueError for another T or D."""
        return self.mit(frames).mean(dim=1)

    def embed_classes(
        self, patches: torch.Tensor, class_embeddings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the class embeddings of every video, [B, C, D], not normalized.

        patches             [B, P, d] as `OpenClipEncoder.encode_clips` gives them
        class_embeddings    [C, D] in the place of the head's own
        """
        classes = self.class_embeddings if class_embeddings is None else class_embeddings
        norm = self.prompts_visual_ln
        tokens = (patches * norm.weight + norm.bias) @ self.prompts_visual_proj
        return classes + self.prompts_generator(classes.expand(len(patches), -1, -1), tokens)

    def forward(
        self, frames: torch.Tensor, patches: torch.Tensor, class_embeddings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the cosines [B, C] of videos with their class embeddings; see `embed_videos` and `embed_classes`."""
        videos = F.normalize(self.embed_videos(frames), dim=-1)
        classes = F.normalize(self.embed_classes(patches, class_embeddings), dim=-1)
        return torch.einsum("bd,bcd->bc", videos, classes)

    @torch.inference_mode()
    def scores(self, frames: np.ndarray, patches: np.ndarray) -> np.ndarray:
        """Return the cosines [N, C] float32 of N clips, computed in batches.

        frames     [N, T, D] of any float type
        patches    [N, P, d] likewise
        """
        device, (classes, dimension) = self.class_embeddings.device, self.class_embeddings.shape
        # What a clip needs at once: its tokens and, for each class, the embedding, the hidden layer, the attention.
        needed = patches[:1].size + classes * (8 * dimension + self.prompt_heads * patches.shape[1])
        size = max(1, _BATCH_NUMBERS // max(1, needed))
        out = np.empty((len(frames), classes), np.float32)
        for start in range(0, len(frames), size):
            own, tokens = (
                torch.as_tensor(array[start : start + size]).to(device, torch.float32)
                for array in (frames, patches)
            )
            out[start : start + size] = self(own, tokens).cpu().numpy()
        return out

    def with_classes(self, class_embeddings: np.ndarray) -> XClipHead:
        """Return the same trained parts over other classes [C, D]. Raises ValueError for another D."""
        if class_embeddings.shape[1] != self.dimension:
            raise ValueError(
                f"the classes have {class_embeddings.shape[1]} dimensions, the head's {self.dimension}"
            )
        embeddings = torch.from_numpy(np.array(class_embeddings, np.float32)).to(self.class_embeddings.device)
        return XClipHead.from_structure(self.structure, {**self.state_dict(), "class_embeddings": embeddings})

    def select(self, classes: Sequence[int]) -> XClipHead:
        """Return the same head over some of its classes, in this order."""
        return self.with_classes(self.class_embeddings[list(classes)].cpu().numpy())

    @classmethod
    def over(cls, head: VideoHead, patch_width: int, *, seed: int = 0) -> XClipHead:
        """Return an untrained head with the integration transformer and the classes of `head`, whose temporal module is
        `mit`."""
        embeddings = head.class_embeddings.detach().cpu().numpy()
        mit: Any = head.temporal
        made = cls(embeddings, head.num_frames, patch_width, heads=mit.blocks[0].heads, seed=seed)
        made.mit.load_state_dict(mit.state_dict())
        return made

    def without_prompts(self) -> VideoHead:
        """Return the integration transformer alone, over the class embeddings that no video has changed."""
        config = HeadConfig("text", "mit", projection=False, heads=self.heads)
        head = VideoHead(config, self.class_embeddings.cpu().numpy(), self.dimension, self.num_frames)
        head.temporal.load_state_dict(self.mit.state_dict())
        return head.to(self.class_embeddings.device).eval()

    @property
    def structure(self) -> dict[str, Any]:
        """What `from_structure` needs beside the state; JSON-able."""
        return {"num_frames": self.num_frames, "heads": self.heads, "prompt_heads": self.prompt_heads}

    @classmethod
    def from_structure(cls, structure: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> XClipHead:
        """Return the head of `structure` with the tensors of `state`. Raises KeyError, TypeError, ValueError or
        RuntimeError where they do not fit."""
        layers = {name.split(".")[2] for name in state if name.startswith("prompts_generator.decoder.")}
        patch_width = state["prompts_visual_proj"].shape[0]
        rows = state["class_embeddings"].cpu().numpy()
        with torch.device("meta"):  # sizes come from a file: the tensors it holds are all the memory it gets
            head = cls(rows, patch_width=patch_width, prompt_layers=len(layers), **structure)
        head.load_state_dict(state, assign=True)
        return head.eval()


class VideoPrompts(nn.Module):
    """What a video adds to class embeddings: alpha q of the formulas above."""

    def __init__(self, dimension: int, heads: int, layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)
        self.decoder = nn.ModuleList(_PromptLayer(dimension, heads) for _ in range(layers))
        self.alpha = nn.Parameter(torch.full((dimension,), 0.1))

    def forward(self, classes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Map class embeddings [B, C, D], patch tokens [B, P, D] -> [B, C, D]."""
        tokens = self.norm(tokens)
        for layer in self.decoder:
            classes = layer(classes, tokens)
        return self.alpha * classes


class _PromptLayer(nn.Module):
    """q + attention(norm(q), v), then q + MLP(norm(q))."""

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = _CrossAttention(dimension, heads)
        self.norm1 = nn.LayerNorm(dimension)
        self.norm3 = nn.LayerNorm(dimension)
        self.mlp = nn.Sequential(
            nn.Linear(dimension, 4 * dimension),
            QuickGELU(),
            nn.Identity(),  # dropout of the released code, 0: the names count it
            nn.Linear(4 * dimension, dimension),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, classes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        classes = classes + self.cross_attn(self.norm1(classes), tokens)
        return classes + self.mlp(self.norm3(classes))


class _CrossAttention(nn.Module):
    """Attention of classes to patch tokens; queries, keys and values have no bias."""

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        if dimension % heads:
            raise ValueError(f"{dimension} dimensions cannot be shared among {heads} heads of the prompts")
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(dimension, dimension, bias=False) for _ in range(3)
        )
        self.proj = nn.Linear(dimension, dimension)

    def forward(self, classes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, C or P, D / heads]
            for linear, x in ((self.q_proj, classes), (self.k_proj, tokens), (self.v_proj, tokens))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))
