"""Text encoders that are not CLIP's own: class names to vectors, by any Hugging Face model in a folder.

C class names, B of a batch, L tokens, D' dimensions.
Source: Wu et al. 2023 (Text4Vis), section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .prompts import check_prompt
from .safety import without_code, without_kernels


class TransformersEmbedder:
    """A Hugging Face text encoder as TextClassifier's `embed`; `transformers_embedder` makes one."""

    def __init__(self, folder: Path, prompt: str, batch_size: int, pooling: str) -> None:
        self.folder, self.prompt, self.batch_size, self.pooling = folder, prompt, batch_size, pooling
        self._tokenizer, self._encoder = _load_text_encoder(folder)

    def __call__(self, names: Sequence[Any]) -> NDArray[np.float32]:
        """[C, D'] of C class names. Raises ValueError for a name that is too long for the encoder."""
        import torch

        texts = [self.prompt.replace("{}", str(name)) for name in names]
        self._check_lengths(texts)
        parts = []
        for start in range(0, len(texts), self.batch_size):
            tokens = self._tokenizer(
                texts[start : start + self.batch_size],
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = self._encoder(**tokens).last_hidden_state  # [B, L, D']
            if self.pooling == "cls":
                parts.append(states[:, 0].numpy())
            else:
                mask = tokens["attention_mask"][:, :, None].to(states.dtype)
                parts.append(((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy())
        return np.concatenate(parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformersEmbedder:
        return self  # scikit-learn's clone copies settings; nothing here changes, and the weights are large

    def __repr__(self) -> str:
        return f"transformers_embedder({str(self.folder)!r}, {self.prompt!r}, pooling={self.pooling!r})"

    def _check_lengths(self, texts: Sequence[str]) -> None:
        positions = getattr(self._encoder.config, "max_position_embeddings", None)
        limit = min(self._tokenizer.model_max_length, positions or self._tokenizer.model_max_length)
        for text, ids in zip(texts, self._tokenizer(list(texts), verbose=False)["input_ids"], strict=True):
            if len(ids) > limit:
                raise ValueError(
                    f"{text!r} makes {len(ids)} tokens, and the encoder in {self.folder} reads at most {limit}. "
                    "Use a shorter name or prompt."
                )


def transformers_embedder(
    folder: str | Path, prompt: str = "{}", *, batch_size: int = 64, pooling: str = "cls"
) -> TransformersEmbedder:
    """A callable for TextClassifier's `embed`: class names -> [C, D'] float32, by a Hugging Face text encoder.

    folder      where `save_pretrained` wrote the model and its tokenizer; nothing is downloaded, and no code of
                the folder is run
    prompt      sentence with {} where the class name goes
    batch_size  names encoded at once
    pooling     cls: the last state of the first token, which DistilBERT and BERT read a sentence's meaning from;
                mean: of the last states of all tokens, padding left out

    Text4Vis says of neither form that it used it, and its released code reads DistilBERT's rows from a file: cls is
    our choice. The encoder is not the videos' own: TextClassifier needs adapt=True.
    Raises ImportError without transformers (`pip install 'vidclip[hf]'`), FileNotFoundError where the folder lacks a
    file, ValueError for one that holds no text encoder and for settings out of range.
    Source: Wu et al. 2023 (Text4Vis), section 4.3; Sanh et al. 2019 (DistilBERT).
    """
    check_prompt(prompt)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if pooling not in ("cls", "mean"):
        raise ValueError(f"pooling must be cls or mean, got {pooling!r}")
    return TransformersEmbedder(Path(folder), prompt, batch_size, pooling)


# What one of each is needed of: patterns of file names, and what to call them.
_FOLDER_HAS = (
    (("config.json",), "config.json"),
    (("*.safetensors", "pytorch_model*.bin"), "weights (model.safetensors or pytorch_model.bin)"),
    (
        ("tokenizer.json", "vocab.txt", "vocab.json", "*.model"),
        "a tokenizer (tokenizer.json, vocab.txt, vocab.json or a sentencepiece .model)",
    ),
)


def _load_text_encoder(folder: Path) -> tuple[Any, Any]:
    """(tokenizer, encoder) from a folder on disk. Raises as `transformers_embedder`."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "text encoders of Hugging Face need transformers: pip install 'vidclip[hf]'"
        ) from error
    import torch
    from safetensors import SafetensorError

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
    local = {"local_files_only": True, "trust_remote_code": False}
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # a bar of a few files, and a thread of tqdm's that never ends
    try:
        with without_code():
            config = without_kernels(transformers.AutoConfig.from_pretrained(folder, **local))
            if hasattr(config, "vision_config"):
                raise ValueError("it is an image-text model; save its text model by itself")
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        with without_code(), torch.random.fork_rng(devices=[]):  # weights that a file lacks would be drawn
            encoder, info = transformers.AutoModel.from_pretrained(
                folder, config=config, weights_only=True, output_loading_info=True, **local
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the text encoder in {folder} cannot be read: {error}") from error
    finally:
        if shown:
            bars.enable_progress_bar()
    # A pooler sits on top of the states and is not used here; masked-language checkpoints come without.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise ValueError(
            f"the weights in {folder} lack {len(missing)} of the encoder's tensors, {missing[0]} the first: they are "
            f"not those of the model that its config.json describes ({config.model_type})"
        )
    if config.is_encoder_decoder:
        encoder = encoder.get_encoder()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # any token will do: padding is masked
    tokenizer.padding_side = "right"  # the first token is the first also in the shorter texts
    return tokenizer, encoder.float().eval()
