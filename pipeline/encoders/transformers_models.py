"""The models of transformers that can be encoders: which pixels they take, what they give, how they embed texts.

n frames are a sample, n' embeddings are made of it, D dimensions each.

                              n                    n'          embeddings                              texts
    CLIP, MetaCLIP 2,         1                    1           get_image_features                      yes
    Chinese-CLIP, AltCLIP,
    SigLIP, SigLIP 2
    VideoPrism (LVT)          its own, 16 or 8     1           get_video_features                      yes
    PE-video                  any                  1           video_head of the video_encoder         yes
    V-JEPA 2                  any, whole tubelets  n / tubelet mean over the patches of each tubelet   no

What the authors of V-JEPA 2 train on its states is an attentive pooler; the mean needs no training, and a head of the
cache's own is trained on it.

Sources: Radford et al. 2021 (CLIP), Chuang et al. 2025 (MetaCLIP 2), Yang et al. 2022 (Chinese-CLIP), Chen et al. 2022
(AltCLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Zhao et al. 2024 (VideoPrism), Bolya et al. 2025
(Perception Encoder), Assran et al. 2025 (V-JEPA 2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .transformers_folder import FolderKind
from .transformers_texts import TextKind, through
from .transformers_tower import IMAGE_TEXT

Embed = Callable[[Any, torch.Tensor], torch.Tensor]
"""(network, images [B, n, 3, height, width]) -> embeddings [B, n', D]."""
_USUAL_CLIP = 16
"""Frames of a clip where a model says no number, as PE-video's checkpoints of a fixed number have."""
_MOST_FRAMES = 4096


@dataclass(frozen=True)
class EncoderKind(FolderKind):
    """How one class of transformers is an encoder; see the table above."""

    embed: Embed = lambda _network, images: images
    text: TextKind | None = None
    processors: tuple[str, ...] = ()
    """Classes of processors whose settings say which pixels it sees; a VideoProcessor for clips."""
    sample: Callable[[Any, int | None], tuple[int, int]] = lambda _config, _frames: (1, 1)
    """(config, frames of a clip, where a user says it) -> (n, n'). Raises ValueError for frames that cannot be."""
    size: Callable[[Any], int | None] = lambda _config: None
    """config -> the side of the square that it sees, where the network does not check it itself."""
    pixels: Mapping[str, Any] | None = None
    """Settings of the processor that its class has whatever the folder says."""
    drops: tuple[str, ...] = ()
    """Modules that have no part in embeddings."""

    @property
    def reads_texts(self) -> bool:
        """Whether it has a text tower."""
        return self.text is not None

    @property
    def reads_clips(self) -> bool:
        """Whether its frames see each other."""
        return self.processors[0].endswith("VideoProcessor")


def _features(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _image(network: Any, images: torch.Tensor) -> torch.Tensor:
    return _features(network.get_image_features(pixel_values=images.flatten(0, 1)))[:, None]


def _videoprism(network: Any, images: torch.Tensor) -> torch.Tensor:
    return _features(network.get_video_features(pixel_values_videos=images)).reshape(len(images), 1, -1)


def _pe_video(network: Any, images: torch.Tensor) -> torch.Tensor:
    return network.video_head(network.video_encoder(pixel_values_videos=images).pooler_output)[:, None]


def _vjepa2(network: Any, images: torch.Tensor) -> torch.Tensor:
    states = network.get_vision_features(images)
    return states.unflatten(1, (images.shape[1] // network.config.tubelet_size, -1)).mean(dim=2)


def _own_clip(config: Any, frames: int | None) -> tuple[int, int]:  # noqa: ARG001 (extraction checks --frames)
    return int(config.vision_config.num_frames), 1


def _any_clip(config: Any, frames: int | None) -> tuple[int, int]:  # noqa: ARG001
    return frames or _USUAL_CLIP, 1


def _tubelets(config: Any, frames: int | None) -> tuple[int, int]:
    n, each = frames or int(config.frames_per_clip), int(config.tubelet_size)
    if n % each:
        raise ValueError(f"it embeds {each} frames at a time, and {n} are no multiple of these")
    return n, n // each


def _normalized(network: Any, states: torch.Tensor) -> torch.Tensor:
    """As `VideoPrismTextModel` ends: L2-normalized, with 1e-6 below the root, where its config says so."""
    if not network.config.text_config.apply_l2norm:
        return states
    return states * torch.rsqrt(states.square().sum(dim=-1, keepdim=True) + 1e-6)


def _clip_like(network: str, text: TextKind, *processors: str) -> EncoderKind:
    return EncoderKind(network, embed=_image, text=text, processors=processors or ("CLIPImageProcessor",))


_SIGLIP_TEXT = TextKind("SiglipModel", (), "text_model", through("text_model.head"), "last", True)
ENCODERS: dict[str, EncoderKind] = {
    "clip": _clip_like("CLIPModel", IMAGE_TEXT["clip"]),
    "metaclip_2": _clip_like(
        "MetaClip2Model",
        TextKind("MetaClip2Model", (), "text_model", through("text_projection"), "pooled"),
    ),
    "chinese_clip": _clip_like(
        "ChineseCLIPModel", IMAGE_TEXT["chinese_clip"], "ChineseCLIPImageProcessor", "CLIPImageProcessor"
    ),
    "altclip": _clip_like("AltCLIPModel", IMAGE_TEXT["altclip"]),
    "siglip": _clip_like("SiglipModel", _SIGLIP_TEXT, "SiglipImageProcessor"),
    "videoprism": EncoderKind(
        "VideoPrismClipModel",
        embed=_videoprism,
        text=TextKind("VideoPrismClipModel", (), "text_model", _normalized, "last", True),
        processors=("LlavaOnevisionVideoProcessor", "VideoPrismVideoProcessor"),
        sample=_own_clip,
        size=lambda config: config.vision_config.image_size,
        pixels={"do_normalize": False},
    ),
    "pe_video": EncoderKind(
        "PeVideoModel",
        embed=_pe_video,
        text=TextKind("PeVideoModel", (), "text_model", through("text_video_head")),
        processors=("PeVideoVideoProcessor",),
        sample=_any_clip,
    ),
    "vjepa2": EncoderKind(
        "VJEPA2Model",
        ("encoder.",),
        embed=_vjepa2,
        processors=("VJEPA2VideoProcessor",),
        sample=_tubelets,
        size=lambda config: config.crop_size,
        drops=("predictor",),
    ),
}
"""By the `model_type` of config.json. SigLIP 2 of a fixed resolution is `siglip`."""
_REFUSED = {
    "siglip2": "this is SigLIP 2 of the NaFlex kind, which sees each image in its own proportions, where all frames of a "
    "cache have one size; the checkpoints of a fixed resolution, such as google/siglip2-base-patch16-224, can be used",
    "xclip": "its text embeddings look at the video, and stand in no cache; `vidclip import-model` reads the checkpoints "
    "that X-CLIP's authors released",
    "pe_audio_video": "it joins sound and video; PE-video, its `video` part, can be used",
    "videoprism_vision_model": "it is VideoPrism without its text tower and pooling; the LVT checkpoints, such as "
    "google/videoprism-lvt-base-f16r288, can be used",
}
_TIMM_NAME = re.compile(r"[a-z0-9_]{1,100}")


def encoder_kind(document: Mapping[str, Any]) -> EncoderKind:
    """Return how the model with this config.json is an encoder. Raises ValueError for one that is none, or not safe."""
    name = document.get("model_type")
    if name not in ENCODERS:
        known = f"models of the kinds {', '.join(ENCODERS)} can be used"
        reason = _REFUSED.get(str(name), known)
        if "auto_map" in document:
            reason += "; code that a folder brings along (auto_map) is never run"
        raise ValueError(f"it is a model of the kind {name!r}: {reason}")
    if name == "pe_video":
        _check_parts_of_pe(document)
    return ENCODERS[str(name)]


def _check_parts_of_pe(document: Mapping[str, Any]) -> None:
    """Raise ValueError where a PE-video folder chooses its parts: transformers and timm would look them up by name."""
    text, video = document.get("text_config") or {}, document.get("video_config") or {}
    vision = video.get("vision_config") or {}
    if text.get("model_type", "modernbert") != "modernbert":
        raise ValueError(f"text_config.model_type is {text['model_type']!r}, where PE-video has modernbert")
    if vision.get("model_type", "timm_wrapper") != "timm_wrapper":
        raise ValueError(
            f"video_config.vision_config.model_type is {vision['model_type']!r}, where PE-video has timm_wrapper"
        )
    name = vision.get("architecture", "vit_pe_core_large_patch14_336")
    if not isinstance(name, str) or not _TIMM_NAME.fullmatch(name):
        raise ValueError(f"video_config.vision_config.architecture is {name!r}, which is no model of timm")
    arguments = vision.get("model_args") or {}
    for key, value in arguments.items():
        plain = isinstance(value, bool | int | float) or (
            isinstance(value, list) and all(isinstance(each, bool | int | float) for each in value)
        )
        if key.startswith(("pretrained", "checkpoint", "cache", "features_only")) or not plain:
            raise ValueError(
                f"video_config.vision_config.model_args.{key} is {value!r}, which it may not say"
            )
