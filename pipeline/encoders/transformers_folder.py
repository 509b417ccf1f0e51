"""A folder that `save_pretrained` of transformers wrote, read as data: its tokenizer, its network, nothing of it run."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from .safety import without_code, without_kernels

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""What transformers is told whenever it reads a folder: nothing is downloaded, no code of the folder is run."""

# A folder needs a file of each kind: patterns of file names, and what to call them.
_CONFIG = (("config.json",), "config.json")
_WEIGHTS = (
    ("*.safetensors", "pytorch_model*.bin"),
    "weights (model.safetensors or pytorch_model.bin)",
)
_TOKENIZER = (
    ("tokenizer.json", "vocab.txt", "vocab.json", "*.model"),
    "a tokenizer (tokenizer.json, vocab.txt, vocab.json or a sentencepiece .model)",
)
# What config.json says beside what shapes embeddings: names, versions, how the file was written, how training began.
_NOT_OF_EMBEDDINGS = {
    "_name_or_path", "_commit_hash", "architectures", "auto_map", "dtype", "id2label", "initializer_factor",
    "initializer_range", "label2id", "label_names", "logit_scale_init_value", "problem_type", "torch_dtype",
    "transformers_version",
}  # fmt: skip


@dataclass(frozen=True)
class FolderKind:
    """What is read of a folder: one class of transformers, and which of its tensors shape embeddings."""

    network: str
    """Name of the class; AutoModel chooses it by the folder's config.json."""
    parts: tuple[str, ...] = ()
    """The tensors that shape embeddings have names that begin so; empty: all but those of a pooler, which sits
    on top of the states and is not used. Masked-language checkpoints come without one."""

    @property
    def reads_texts(self) -> bool:
        """Whether a tokenizer belongs to it."""
        return True

    def shapes_embeddings(self, tensor: str) -> bool:
        """Return whether the tensor of this name has a part in embeddings."""
        return tensor.startswith(self.parts) if self.parts else "pooler" not in tensor


Kind = TypeVar("Kind", bound=FolderKind)


@dataclass(frozen=True)
class TransformersFolder(Generic[Kind]):
    """What `read_folder` gives."""

    kind: Kind
    document: dict[str, Any]
    """config.json, as it is written."""
    config: Any
    tokenizer: Any
    """As the folder has it; None for a kind that reads no texts."""
    network: Any
    """In float32, for inference; of an encoder-decoder, the encoder."""
    limit: int
    """How many tokens a text may have, special ones included; 0 without tokenizer."""


def read_folder(
    folder: Path, kind_of: Callable[[Any], Kind], what: str = "text encoder"
) -> TransformersFolder[Kind]:
    """Read the tokenizer and network of a folder; nothing is downloaded, and no code of the folder is run.

    kind_of    says what to read of a folder with this config. Raises ValueError for one that has no such thing
    what       what the folder holds, for messages

    Raises ImportError without transformers, FileNotFoundError where the folder lacks a file, ValueError for one that
    cannot be read, or whose weights lack a tensor that shapes embeddings.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"a {what} of Hugging Face needs transformers: pip install 'vidclip[hf]'"
        ) from error
    import torch

    check_folder(folder, what)
    tokenizer = None
    try:
        with quiet(transformers):
            document = read_document(folder)
            with without_code():
                config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
                for each in configs_inside(config):
                    without_kernels(each)
                if getattr(config, "quantization_config", None):
                    raise ValueError("its weights are quantized; save it in float32 or float16")
                kind = kind_of(config)
                if kind.reads_texts:
                    _check_has(folder, *_TOKENIZER)
                    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
            with (
                without_code(),
                torch.random.fork_rng(devices=[]),
            ):  # weights that a file lacks would be drawn
                # Of a pickle transformers reads tensors alone (weights_only): by default in every version, and 4.45
                # knows no such argument.
                network, info = class_of(kind.network).from_pretrained(
                    folder, config=config, output_loading_info=True, **LOCAL
                )
    except FileNotFoundError:
        raise
    except Exception as error:  # transformers, torch, safetensors and tokenizers each throw their own
        raise ValueError(f"the {what} in {folder} cannot be read: {error}") from error
    missing = sorted(name for name in info["missing_keys"] if kind.shapes_embeddings(name))
    if missing:
        raise ValueError(
            f"the weights in {folder} lack {len(missing)} of the encoder's tensors, {missing[0]} the first: they are "
            f"not those of the model that its config.json describes ({config.model_type})"
        )
    if getattr(config, "is_encoder_decoder", False):
        network = network.get_encoder()
    network = network.float().eval().requires_grad_(False)
    limit = 0
    if tokenizer is not None:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token  # any token will do: padding is masked
        limit = _token_limit(config, network, tokenizer)
    return TransformersFolder(kind, document, config, tokenizer, network, limit)


def class_of(name: str) -> Any:
    """Return a class of transformers. Raises ValueError where the installed version has none of this name."""
    import transformers

    try:
        return getattr(transformers, name)
    except AttributeError:
        raise ValueError(
            f"transformers {transformers.__version__} has no {name}: a newer version is needed (pip install -U transformers)"
        ) from None


def read_document(folder: Path) -> dict[str, Any]:
    """Return config.json of a folder. Raises ValueError where it is none, OSError."""
    document = json.loads((folder / "config.json").read_text("utf-8"))
    if not isinstance(document, dict):
        raise ValueError("config.json is no table")
    return document


def described(document: dict[str, Any], without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what a config.json says of embeddings, for a digest.

    without    keys that have no part in them either
    """
    return {
        key: described(value, without) if isinstance(value, dict) else value
        for key, value in document.items()
        if key not in _NOT_OF_EMBEDDINGS and key not in without
    }


def configs_inside(config: Any) -> Iterator[Any]:
    """Yield a config of transformers and all that are inside it."""
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            yield from configs_inside(value)


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without a bar of a few files, and a thread of tqdm's that never ends; without remarks on tensors, which are compared
    here, and without what some classes print on standard output when they are made."""
    logs = transformers.utils.logging
    bars, level = logs.is_progress_bar_enabled(), logs.get_verbosity()
    logs.disable_progress_bar()
    logs.set_verbosity(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()


def check_folder(folder: Path, what: str, *, weights: bool = True) -> None:
    """Raise FileNotFoundError where a folder lacks what every model of transformers has, ValueError for an adapter."""
    if not folder.is_dir():
        with_tokenizer = " with its tokenizer" if what == "text encoder" else ""
        raise FileNotFoundError(
            f"{folder} is no folder. Download a {what}{with_tokenizer} first, and name its folder."
        )
    _check_has(folder, *_CONFIG)
    if weights:
        _check_has(folder, *_WEIGHTS)
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder} is an adapter of another model; merge it into that model, and save the whole."
        )


def _check_has(folder: Path, patterns: tuple[str, ...], what: str) -> None:
    if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
        raise FileNotFoundError(f"{folder} lacks {what}; `save_pretrained` of transformers writes it.")


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
