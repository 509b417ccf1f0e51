"""A folder that `save_pretrained` of transformers wrote, read as data: its tokenizer, its network, nothing of it run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from .safety import without_code, without_kernels

# A folder needs a file of each kind: patterns of file names, and what to call them.
_FOLDER_HAS = (
    (("config.json",), "config.json"),
    (("*.safetensors", "pytorch_model*.bin"), "weights (model.safetensors or pytorch_model.bin)"),
    (
        ("tokenizer.json", "vocab.txt", "vocab.json", "*.model"),
        "a tokenizer (tokenizer.json, vocab.txt, vocab.json or a sentencepiece .model)",
    ),
)


@dataclass(frozen=True)
class FolderKind:
    """What is read of a folder: one class of transformers, and which of its tensors shape text embeddings."""

    network: str
    """Name of the class; AutoModel chooses it by the folder's config.json."""
    parts: tuple[str, ...] = ()
    """The tensors that shape text embeddings have names that begin so; empty: all but those of a pooler, which sits
    on top of the states and is not used. Masked-language checkpoints come without one."""

    def shapes_texts(self, tensor: str) -> bool:
        """Return whether the tensor of this name has a part in text embeddings."""
        return tensor.startswith(self.parts) if self.parts else "pooler" not in tensor


Kind = TypeVar("Kind", bound=FolderKind)


@dataclass(frozen=True)
class TransformersFolder(Generic[Kind]):
    """What `read_folder` gives."""

    kind: Kind
    document: dict[str, Any]
    """config.json, as it is written."""
    tokenizer: Any
    """Pads on the right: the first token is the first also in the shorter texts."""
    network: Any
    """In float32, for inference; of an encoder-decoder, the encoder."""
    limit: int
    """How many tokens a text may have, special ones included."""


def read_folder(folder: Path, kind_of: Callable[[Any], Kind]) -> TransformersFolder[Kind]:
    """Read the tokenizer and network of a folder; nothing is downloaded, and no code of the folder is run.

    kind_of    says what to read of a folder with this config. Raises ValueError for one that has no such thing

    Raises ImportError without transformers, FileNotFoundError where the folder lacks a file, ValueError for one that
    cannot be read, or whose weights lack a tensor that shapes text embeddings.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "text encoders of Hugging Face need transformers: pip install 'vidclip[hf]'"
        ) from error
    import torch

    _check_files(folder)
    local = {"local_files_only": True, "trust_remote_code": False}
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # a bar of a few files, and a thread of tqdm's that never ends
    try:
        document = dict(json.loads((folder / "config.json").read_text("utf-8")))
        with without_code():
            config = without_kernels(transformers.AutoConfig.from_pretrained(folder, **local))
            for inner in (getattr(config, name, None) for name in ("text_config", "vision_config")):
                without_kernels(inner)
            if getattr(config, "quantization_config", None):
                raise ValueError("its weights are quantized; save it in float32 or float16")
            kind = kind_of(config)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        with without_code(), torch.random.fork_rng(devices=[]):  # weights that a file lacks would be drawn
            # Of a pickle transformers reads tensors alone (weights_only): by default in every version, and 4.45 knows
            # no such argument.
            network, info = getattr(transformers, kind.network).from_pretrained(
                folder, config=config, output_loading_info=True, **local
            )
    except Exception as error:  # transformers, torch, safetensors and tokenizers each throw their own
        raise ValueError(f"the text encoder in {folder} cannot be read: {error}") from error
    finally:
        if shown:
            bars.enable_progress_bar()
    missing = sorted(name for name in info["missing_keys"] if kind.shapes_texts(name))
    if missing:
        raise ValueError(
            f"the weights in {folder} lack {len(missing)} of the encoder's tensors, {missing[0]} the first: they are "
            f"not those of the model that its config.json describes ({config.model_type})"
        )
    if config.is_encoder_decoder:
        network = network.get_encoder()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # any token will do: padding is masked
    tokenizer.padding_side = "right"
    if hasattr(network, "vision_model"):
        network.vision_model = None
    network = network.float().eval().requires_grad_(False)
    return TransformersFolder(kind, document, tokenizer, network, _token_limit(config, network, tokenizer))


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder. Download a text encoder with its tokenizer first, and name its folder."
        )
    for patterns, what in _FOLDER_HAS:
        if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
            raise FileNotFoundError(f"{folder} lacks {what}; `save_pretrained` of transformers writes it.")
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder} is an adapter of another model; merge it into that model, and save the whole."
        )


def _token_limit(config: Any, network: Any, tokenizer: Any) -> int:
    """Return how many tokens a text may have: RoBERTa counts its positions from behind that of the padding."""
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    limit = int(tokenizer.model_max_length)
    if not positions or positions < 0:
        return limit
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions = min(positions, module.num_embeddings - module.padding_idx - 1)
    return min(limit, positions)
