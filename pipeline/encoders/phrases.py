"""Phrases under one or several prompts -> `TextEmbeddings`, whatever the text tower that embeds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...cache import TextEmbeddings
from ..choices import check_choice
from .prompts import check_prompt

WORD_MODES = ("name", "sentence", "all", "none")
"""name: the tokens of the phrase itself, inside its prompt (the N words of BIKE's paper).
sentence: all tokens but start, end and padding.
all: every context position, as released BIKE does.
none: no word embeddings."""

EmbedTexts = Callable[[list[str], str, str], tuple[np.ndarray, list[np.ndarray], list[int]]]
"""(texts, the prompt that they are in, word mode) -> (sentences [C, D], words of each [n, D], which texts were longer
than the context)."""


def embed_phrases(
    embed_texts: EmbedTexts,
    phrases: Sequence[str],
    prompts: Sequence[str],
    words: str,
    *,
    batch_size: int,
) -> TextEmbeddings:
    """Return the sentence and word embeddings of C phrases.

    prompts       each with one `{}`. Several are averaged by `average_prompts`; their words stand one prompt's
                  after the other's
    words         one of WORD_MODES
    batch_size    texts that `embed_texts` is given at once

    Raises ValueError for no phrase, a prompt without `{}`, or an unknown mode; what `embed_texts` raises.
    """
    if not phrases:
        raise ValueError("no phrases to encode")
    check_choice("words", words, WORD_MODES)
    for prompt in prompts:
        check_prompt(prompt)
    sentences: list[np.ndarray] = []
    word_embeddings: list[list[np.ndarray]] = [[] for _ in phrases]
    truncated: set[str] = set()
    for prompt in prompts:
        texts, parts = [prompt.replace("{}", phrase) for phrase in phrases], []
        for start in range(0, len(texts), batch_size):
            part, embedded, longer = embed_texts(texts[start : start + batch_size], prompt, words)
            parts.append(part)
            for c, own in enumerate(embedded, start):
                word_embeddings[c].append(own)
            truncated.update(phrases[start + c] for c in longer)
        sentences.append(np.concatenate(parts))
    flat = [own for per_phrase in word_embeddings for own in per_phrase]
    counts = [sum(len(own) for own in per_phrase) for per_phrase in word_embeddings]
    return TextEmbeddings(
        phrases=tuple(phrases),
        prompts=tuple(prompts),
        word_mode=words,
        sentence=average_prompts(np.stack(sentences)),
        words=np.concatenate(flat),
        offsets=np.cumsum([0, *counts], dtype=np.int64),
        truncated=tuple(phrase for phrase in phrases if phrase in truncated),
    )


def average_prompts(sentences: np.ndarray) -> np.ndarray:
    """Return one embedding of each phrase [C, D] from those under P prompts [P, C, D].

    Several: the mean of the L2-normalized embeddings, L2-normalized (as CLIP's authors ensemble prompts). One: as
    it is.
    """
    if len(sentences) == 1:
        return sentences[0]
    mean = (sentences / np.linalg.norm(sentences, axis=-1, keepdims=True)).mean(axis=0)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)
