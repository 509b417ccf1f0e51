"""Text encoders that are not CLIP's own: class names to embeddings, by any Hugging Face model in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .prompts import check_prompt
from .safety import without_code, without_kernels


def transformers_sentences(
    folder: str | Path, names: Sequence[str], prompt: str = "{}", *, batch_size: int = 64
) -> NDArray[np.float32]:
    """Return embeddings [C, D'] of C class names by a Hugging Face text encoder.

    folder      where `save_pretrained` wrote the model and its tokenizer; nothing is downloaded, and no code of
                the folder is run
    prompt      sentence with {} where the class name goes
    batch_size  names encoded at once

    The embedding is the last state of the first token, which DistilBERT and BERT read a sentence's meaning from.
    Text4Vis does not say which form it used, and its released code reads DistilBERT's embeddings from a file.
    Raises ImportError without transformers (`pip install 'vidclip[hf]'`), FileNotFoundError where the folder lacks a
    file, ValueError for one that holds no text encoder, for a prompt without {} and for names that are too long.
    Source: Wu et al. 2023 (Text4Vis), section 4.3; Sanh et al. 2019 (DistilBERT).
    """
    import torch

    check_prompt(prompt)
    tokenizer, encoder = _load_text_encoder(Path(folder))
    texts = [prompt.replace("{}", name) for name in names]
    positions = getattr(encoder.config, "max_position_embeddings", None)
    limit = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    for text, ids in zip(texts, tokenizer(texts, verbose=False)["input_ids"], strict=True):
        if len(ids) > limit:
            raise ValueError(
                f"{text!r} makes {len(ids)} tokens, and the encoder in {folder} reads at most {limit}. Use a shorter "
                "name or prompt."
            )
    parts = []
    for start in range(0, len(texts), batch_size):
        tokens = tokenizer(texts[start : start + batch_size], padding=True, return_tensors="pt")
        with torch.inference_mode():
            parts.append(encoder(**tokens).last_hidden_state[:, 0].numpy())
    return np.concatenate(parts)


# A folder needs a file of each kind: patterns of file names, and what to call them.
_FOLDER_HAS = (
    (("config.json",), "config.json"),
    (("*.safetensors", "pytorch_model*.bin"), "weights (model.safetensors or pytorch_model.bin)"),
    (
        ("tokenizer.json", "vocab.txt", "vocab.json", "*.model"),
        "a tokenizer (tokenizer.json, vocab.txt, vocab.json or a sentencepiece .model)",
    ),
)


def _load_text_encoder(folder: Path) -> tuple[Any, Any]:
    """Return (tokenizer, encoder) from a folder on disk. Raises as `transformers_sentences`."""
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
