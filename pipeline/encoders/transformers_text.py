"""Text encoders that are not CLIP's own: class names to embeddings, by any Hugging Face model in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .prompts import check_prompt


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
    from .transformers_tower import TransformersTower, sentence_encoder

    check_prompt(prompt)
    tower = TransformersTower(Path(folder), sentence_encoder)
    texts = [prompt.replace("{}", name) for name in names]
    for text, count in zip(texts, tower.count_tokens(texts), strict=True):
        if count > tower.limit:
            raise ValueError(
                f"{text!r} makes {count} tokens, and the encoder in {folder} reads at most {tower.limit}. Use a "
                "shorter name or prompt."
            )
    return tower.encode_text(names, (prompt,), words="none", batch_size=batch_size).sentence
