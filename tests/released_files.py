"""Files in the layouts of the papers' releases, with small random weights, and what released code computes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, Transformer
from torch import nn

from vidclip.pipeline import read_videos
from vidclip.pipeline.video import ClipSpec, VideoRequest, decode_video

D, T = 64, 4
CONFIG: dict[str, Any] = {
    "embed_dim": D,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 16, "head_width": 64},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

NAMES = ("juggling balls", "rowing", "yoga")
PROMPTS = {
    "bike": "This is a video about {}",
    "text4vis": "a video of a person {}.",
    "x-clip": "{}",
}
"""Around the classes, as released."""


class TTrans(nn.Module):
    """T-Trans as the released BIKE and Text4Vis have it, under their names: heads of 64 of the text tower's width."""

    def __init__(self) -> None:
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(77, D)
        self.transformer = Transformer(D, 6, CONFIG["text_cfg"]["width"] // 64, act_layer=QuickGELU)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.transformer(frames + self.frame_position_embeddings.weight[: frames.shape[1]]) + frames


class AttributesMLPs(nn.Module):
    """The head of BIKE's attributes branch as released, under its names."""

    def __init__(self) -> None:
        super().__init__()
        self.sentence_fc, self.query_fc = (
            nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D)) for _ in range(2)
        )


def randomized(make: Callable[[], nn.Module], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = make()
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return module.eval().requires_grad_(False)


def a_clip(seed: int = 0) -> Any:
    return randomized(lambda: open_clip.CLIP(**CONFIG), seed)


def a_t_trans() -> TTrans:
    return randomized(TTrans, 5)


def attributes_mlps() -> AttributesMLPs:
    return randomized(AttributesMLPs, 6)


def bike_file(clip: Any, fusion: nn.Module | None, prefix: str = "") -> dict[str, Any]:
    fusion_state = fusion.state_dict() if fusion else {}
    return {
        "epoch": 29,
        "model_state_dict": {prefix + name: tensor for name, tensor in clip.state_dict().items()},
        "fusion_model_state_dict": {prefix + name: tensor for name, tensor in fusion_state.items()},
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 5e-5, "params": [0, 1]}]},
    }


def text4vis_file(clip: Any, fusion: nn.Module | None, prefix: str = "") -> dict[str, Any]:
    own = {k: v for k, v in clip.state_dict().items() if k.startswith("visual.") or k == "logit_scale"}
    fusion_state = fusion.state_dict() if fusion else {}
    own |= {f"fusion_model.{name}": tensor for name, tensor in fusion_state.items()}
    state = {prefix + name: tensor for name, tensor in own.items()}
    return {"epoch": 29, "model_state_dict": state, "optimizer_state_dict": {}}


def pixels_of(videos: Path, clip_spec: ClipSpec) -> torch.Tensor:
    """[N, T, H, W, 3] uint8 of the videos, in the order of their list."""
    pixels = [decode_video(VideoRequest(video.path), clip_spec).pixels[0] for video in read_videos(videos)]
    return torch.from_numpy(np.stack(pixels))


def texts_of(texts: Sequence[str]) -> torch.Tensor:
    return open_clip.SimpleTokenizer(context_length=20)(list(texts))


def tokens_of(paper: str) -> torch.Tensor:
    return texts_of([PROMPTS[paper].replace("{}", name) for name in NAMES])


def frames_of(clip: Any, pixels: torch.Tensor) -> torch.Tensor:
    """[N, T, D] of pixels [N, T, H, W, 3] uint8, rounded to float16 as a cache keeps them."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    images = ((pixels.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        frames = clip.visual(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    return frames.half().float()


def token_embeddings(clip: Any, tokens: torch.Tensor) -> torch.Tensor:
    """[C, L, D]: every position of the text tower, through its norm and projection."""
    x = clip.token_embedding(tokens) + clip.positional_embedding
    return clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask)) @ clip.text_projection


def sentence_embeddings(clip: Any, tokens: torch.Tensor) -> torch.Tensor:
    """[N, D], L2-normalized: the text tower at the end of each text."""
    words = token_embeddings(clip, tokens)
    return F.normalize(words[torch.arange(len(tokens)), tokens.argmax(dim=-1)], dim=-1)


def bike_scores(
    clip: Any, fusion: nn.Module | None, frames: torch.Tensor, tokens: torch.Tensor
) -> np.ndarray:
    """[N, C] as BIKE's test.py: concept spotting over all positions of the text tower, not renormalized."""
    words, sentences = token_embeddings(clip, tokens), sentence_embeddings(clip, tokens)
    x = F.normalize(fusion(frames) if fusion else frames, dim=-1)
    similarity = torch.einsum("ntd,cld->nctl", x, F.normalize(words, dim=-1))
    saliency = (similarity / 0.01).softmax(dim=2).mean(dim=3)
    video = torch.einsum("nct,ntd->ncd", saliency, x)
    return (video * sentences).sum(dim=-1).numpy()


def attributes_scores(
    clip: Any, mlps: AttributesMLPs, sentences: torch.Tensor, tokens: torch.Tensor
) -> np.ndarray:
    """[N, C] as BIKE's train_attributes.py: cosines of attributes sentences and classes, each through its MLP."""
    videos = F.normalize(mlps.sentence_fc(sentence_embeddings(clip, sentences)), dim=-1)
    classes = F.normalize(mlps.query_fc(sentence_embeddings(clip, tokens)), dim=-1)
    return (videos @ classes.T).numpy()


def text4vis_scores(
    clip: Any, fusion: nn.Module | None, frames: torch.Tensor, tokens: torch.Tensor
) -> np.ndarray:
    """[N, C] as Text4Vis' test.py: cosines of the mean over frames."""
    video = F.normalize((fusion(frames) if fusion else frames).mean(dim=1), dim=-1)
    return (video @ sentence_embeddings(clip, tokens).T).numpy()
