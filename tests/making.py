"""Makes what tests need: records that were never computed, checkpoints small enough for a test, and the program
run in this process."""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidclip.cache import Identity, VideoRecord

TINY_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS_CONFIG = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def save_model_folder(folder: Path, config: dict[str, Any], *, seed: int = 0) -> Path:
    """A checkpoint with random weights, in the form of open_clip's `local-dir:` folders."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    document = {"model_cfg": config, "preprocess_cfg": PREPROCESS_CONFIG}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    torch.manual_seed(seed)
    network = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    weights = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def save_hugging_face_model(folder: Path, pooler: str) -> str:
    """A CLIP whose text tower is a small BERT, with a tokenizer made on the spot."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "video", "of", "climbing", "wall", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    BertConfig(
        vocab_size=len(words),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
    ).save_pretrained(folder)
    config = {
        **TINY_CONFIG,
        "text_cfg": {
            "hf_model_name": str(folder),
            "hf_tokenizer_name": str(folder),
            "hf_pooler_type": pooler,
            "hf_proj_type": "mlp",
            "context_length": 16,
        },
    }
    return f"local-dir:{save_model_folder(folder, config)}"


def an_identity(**sampling: Any) -> Identity:
    encoder = {"architecture": {"embed_dim": 16}, "weights_sha256": "ab" * 32, "activation": "gelu"}
    return Identity(encoder, {"frames": 4, "clips": 1, "crops": 1, **sampling}, "ViT-B-16", "openai")


def a_record(
    id: str, rng: np.random.Generator, *, views: int = 1, frames: int = 4, **more: Any
) -> VideoRecord:
    return VideoRecord(
        id=id,
        path=f"/videos/{id}",
        frames=rng.standard_normal((views, frames, 16)).astype(np.float32),
        frame_indices=np.tile(np.arange(frames) * 7, (views, 1)),
        timestamps=np.tile(np.arange(frames) * 0.25, (views, 1)),
        **more,
    )


def save_video(
    path: Path, *, frames: int, size: int = 48, fps: int = 10, seed: int = 0, widths: int = 1
) -> Path:
    """A small H.264 file of smooth moving colours; `widths` times as wide as it is high."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames // 4 + 2, 4, 4 * widths, 3)).astype(float)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.width, stream.height = size * widths, size
        stream.pix_fmt = "yuv420p"
        for t in range(frames):
            low, share = divmod(t / 4, 1)
            tile = coarse[int(low)] * (1 - share) + coarse[int(low) + 1] * share
            picture = tile.repeat(size // 4, axis=0).repeat(size // 4, axis=1).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def vidclip(*arguments: object, cwd: Path | None = None, **environment: str) -> Done:
    """Runs the program in this process: torch is imported once for all tests."""
    from click.testing import CliRunner

    from vidclip.cli.main import main

    before = Path.cwd()
    os.chdir(cwd or before)
    try:
        result = CliRunner().invoke(main, list(map(str, arguments)), env=environment)
    finally:
        os.chdir(before)
    trace = (
        "".join(traceback.format_exception(*result.exc_info))
        if result.exit_code == 1 and result.exc_info
        else ""
    )
    return Done(result.exit_code, result.stdout, result.stderr + trace)
