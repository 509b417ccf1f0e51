"""Folders of encoders as `save_pretrained` of transformers writes them, with small random networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from text_towers import _save_byte_pairs, _save_sentencepieces, _save_word_pieces

NETWORKS = {
    "clip": "CLIPModel",
    "metaclip-2": "MetaClip2Model",
    "chinese-clip": "ChineseCLIPModel",
    "altclip": "AltCLIPModel",
    "siglip": "SiglipModel",
    "videoprism": "VideoPrismClipModel",
    "pe-video": "PeVideoModel",
    "vjepa2": "VJEPA2Model",
}
FRAME_KINDS = ("clip", "metaclip-2", "chinese-clip", "altclip", "siglip")
CLIP_KINDS = ("videoprism", "pe-video", "vjepa2")
_SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_CONTEXT = 20


def save_encoder(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """A folder of an encoder of 16 dimensions (24 of siglip, videoprism, pe-video and vjepa2) for images of 32 x 32."""
    hf: Any = pytest.importorskip("transformers")
    if not hasattr(hf, NETWORKS[kind]):
        pytest.skip(f"transformers {hf.__version__} has no {NETWORKS[kind]}")
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _NETWORK[kind](hf, folder)
        for weights in network.parameters():  # as they are drawn, all inputs have nearly one embedding
            weights.data += 0.1 * torch.randn(weights.shape)
    network.save_pretrained(folder)
    return folder


def _vision(**more: Any) -> dict[str, Any]:
    return {**_SIZES, "image_size": 32, "patch_size": 16, **more}


def _text(vocabulary: int, **more: Any) -> dict[str, Any]:
    return {**_SIZES, "max_position_embeddings": _CONTEXT, "vocab_size": vocabulary, **more}


def _ends(bos: int, eos: int, pad: int) -> dict[str, int]:
    return {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}


def _clip(hf: Any, folder: Path) -> Any:
    hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    text = _text(_save_byte_pairs(folder), projection_dim=16, **_ends(0, 1, 1))
    return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=_vision(), projection_dim=16))


def _metaclip_2(hf: Any, folder: Path) -> Any:
    hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    text = _text(_save_sentencepieces(folder), projection_dim=16, **_ends(0, 2, 1))
    vision = _vision(projection_dim=16)
    return hf.MetaClip2Model(hf.MetaClip2Config(text_config=text, vision_config=vision, projection_dim=16))


def _chinese_clip(hf: Any, folder: Path) -> Any:
    square = {"height": 32, "width": 32}
    hf.ChineseCLIPImageProcessor(size=square, do_center_crop=False).save_pretrained(folder)
    text = _text(_save_word_pieces(folder))
    return hf.ChineseCLIPModel(
        hf.ChineseCLIPConfig(text_config=text, vision_config=_vision(), projection_dim=16)
    )


def _altclip(hf: Any, folder: Path) -> Any:
    hf.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    text = _text(_save_sentencepieces(folder), project_dim=20)
    return hf.AltCLIPModel(hf.AltCLIPConfig(text_config=text, vision_config=_vision(), projection_dim=16))


def _siglip(hf: Any, folder: Path) -> Any:
    """As the published ones: no mask, padded to the context, the end of a text also pads."""
    hf.SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2).save_pretrained(folder)
    vocabulary = _save_sentencepieces(folder)
    _change(folder / "tokenizer_config.json", model_input_names=["input_ids"], model_max_length=_CONTEXT)
    text = _text(vocabulary, projection_size=24, **_ends(0, 2, 1))
    return hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=_vision()))


def _videoprism(hf: Any, folder: Path) -> Any:
    square = {"height": 32, "width": 32}
    hf.LlavaOnevisionVideoProcessor(size=square, do_normalize=False).save_pretrained(folder)
    vocabulary = _save_sentencepieces(folder)
    _change(folder / "tokenizer_config.json", model_max_length=_CONTEXT)
    vision = {
        **{key: value for key, value in _SIZES.items() if key != "num_hidden_layers"},
        "image_size": 32, "num_frames": 4, "tubelet_size": [1, 16, 16],
        "num_spatial_layers": 1, "num_temporal_layers": 1, "num_auxiliary_layers": 1,
    }  # fmt: skip
    text = _text(vocabulary, **_ends(0, 2, 1))
    return hf.VideoPrismClipModel(hf.VideoPrismConfig(text_config=text, vision_config=vision))


def _pe_video(hf: Any, folder: Path) -> Any:
    square = {"height": 32, "width": 32}
    mean = [0.5, 0.5, 0.5]
    steps = {"do_resize": True, "do_rescale": True, "do_normalize": True}
    hf.PeVideoVideoProcessor(size=square, image_mean=mean, image_std=mean, **steps).save_pretrained(folder)
    text = _text(_save_word_pieces(folder), model_type="modernbert", pad_token_id=0, bos_token_id=2, eos_token_id=3,
                 cls_token_id=2, sep_token_id=3, local_attention=8, global_attn_every_n_layers=1)  # fmt: skip
    vision = {
        "model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384", "num_classes": 12,
        "model_args": {"img_size": [32, 32], "embed_dim": 24, "depth": 1, "num_heads": 2}, "global_pool": "map",
    }  # fmt: skip
    video = {**_SIZES, "head_dim": 12, "num_key_value_heads": 2, "vision_config": vision}
    return hf.PeVideoModel(hf.PeVideoConfig(text_config=text, video_config=video))


def _vjepa2(hf: Any, folder: Path) -> Any:
    hf.VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder)
    config = hf.VJEPA2Config(
        **{key: value for key, value in _SIZES.items() if key != "intermediate_size"},
        crop_size=32, patch_size=16, frames_per_clip=4, tubelet_size=2, mlp_ratio=2,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1, num_pooler_layers=1,
    )  # fmt: skip
    return hf.VJEPA2Model(config)


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


_NETWORK = {
    "clip": _clip,
    "metaclip-2": _metaclip_2,
    "chinese-clip": _chinese_clip,
    "altclip": _altclip,
    "siglip": _siglip,
    "videoprism": _videoprism,
    "pe-video": _pe_video,
    "vjepa2": _vjepa2,
}
