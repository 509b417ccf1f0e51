"""Makes what tests need: records that were never computed, checkpoints small enough for a test, and the program
run in this process."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import struct
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
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


def save_text_encoder(folder: Path, words: list[str]) -> Path:
    """A DistilBERT of 24 dimensions and 40 positions with random weights, and a tokenizer that knows these words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = DistilBertConfig(
        vocab_size=len(vocabulary), dim=24, n_heads=2, n_layers=2, hidden_dim=32, max_position_embeddings=40
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        DistilBertModel(config).save_pretrained(folder)
    return folder


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
    """A small H.264 file of smooth moving colors; `widths` times as wide as it is high."""
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


def save_copy(path: Path, to: Path, number: int) -> Path:
    """The same frames in another file: behind them an unused box, with a number."""
    to.write_bytes(path.read_bytes() + struct.pack(">I4sI", 12, b"free", number))
    return to


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


# --- files of a cache, from the side of HDF5


def read_with_hdf5(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns (arrays, or lists of str) and attributes of a file, as a program reads them that knows HDF5 alone."""
    import h5py

    columns: dict[str, Any] = {}
    with h5py.File(path) as file:
        for name, item in file.items():
            if isinstance(item, h5py.Group):
                raw, cuts = item["bytes"][:].tobytes(), item["offsets"][:].tolist()
                columns[name] = [
                    raw[a:b].decode("utf-8", "surrogateescape") for a, b in itertools.pairwise(cuts)
                ]
            elif h5py.check_string_dtype(item.dtype):
                columns[name] = [raw.decode("utf-8", "surrogateescape") for raw in item[:]]
            else:
                columns[name] = item[:]
        return columns, dict(file.attrs)


def change_file(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Writes a file anew after `change(columns, attributes)`, with all its checksums right: it is what it says."""
    from vidclip.cache.hdf5 import file_parts

    columns, attributes = read_with_hdf5(path)
    change(columns, attributes)
    path.write_bytes(b"".join(file_parts(columns, attributes)))


def as_version1(path: Path) -> None:
    """Writes a file anew in format version 1: HDF5 alone, with text of variable length and a digest over all columns."""
    import h5py

    columns, attributes = read_with_hdf5(path)
    sha = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name]
        if isinstance(column, list):
            sha.update(f"{name}|text|{len(column)}|".encode())
            for text in column:
                raw = text.encode("utf-8", "surrogateescape")
                sha.update(len(raw).to_bytes(8, "little") + raw)
        else:
            sha.update(f"{name}|{column.dtype.str}|{column.shape}|".encode() + column.tobytes())
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            if isinstance(column, list):
                text = file.create_dataset(name, shape=(len(column),), dtype=h5py.string_dtype())
                if column:
                    raw = [value.encode("utf-8", "surrogateescape") for value in column]
                    text[:] = np.array(raw, dtype=object)
            else:
                file.create_dataset(name, data=column)
        for name, value in {**attributes, "version": 1, "sha256": sha.hexdigest()}.items():
            file.attrs[name] = value


# --- a cache in which zero-shot recognition works, more or less


def write_noisy_world(
    folder: Path, videos: list[tuple[str, str, str]], *, noise: float = 0.5, views: int = 1, seed: int = 0
) -> Path:
    """A cache of the demo's encoder, of (id, label, split): the embedding of each label's sentence, and noise as long as
    `noise` times its length."""
    from vidclip.cache import CacheWriter
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    encoder, rng = load_encoder("demo", device="cpu"), np.random.default_rng(seed)
    labels = sorted({label for _, label, _ in videos})
    sentences = encoder.encode_text(labels, ["This is a video about {}"]).sentence
    sentences = sentences / np.linalg.norm(sentences, axis=1, keepdims=True)
    with CacheWriter(folder, cache_identity(encoder, Sampling(4, clips=views))) as writer:
        for id, label, split in videos:
            scatter = rng.standard_normal((views, 4, sentences.shape[1]))
            scatter /= np.linalg.norm(scatter.mean(axis=1), axis=1)[:, None, None]
            record = a_record(id, rng, views=views, labels=(label,) if label else (), split=split)
            frames = (sentences[labels.index(label)] + noise * scatter).astype(np.float32)
            writer.add(replace(record, frames=frames))
    return folder
