"""Captions as the tokens that the demo's encoder is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer

from .captions import Caption, fact_vector, vocabulary
from .stills import StillBatch

CONTEXT = 32
"""Tokens of a caption at most."""


class WordTokens:
    """Tokens of captions, word by word: CLIP's byte pairs never reach across words."""

    def __init__(self) -> None:
        tokenizer = SimpleTokenizer(context_length=CONTEXT)
        self.start, self.end = tokenizer.sot_token_id, tokenizer.eot_token_id
        self.of_word = {word: tokenizer.encode(word) for word in vocabulary()}
        self.used = sorted(
            {token for tokens in self.of_word.values() for token in tokens} | {self.start, self.end}
        )

    def caption(self, caption: Caption) -> tuple[list[int], list[int]]:
        """Token ids with start and end, cut to the context, and the positions at which words end."""
        tokens, ends = [self.start], []
        for word in caption.words:
            tokens += self.of_word[word]
            ends.append(len(tokens) - 1)
        return [*tokens[: CONTEXT - 1], self.end], ends


@dataclass(frozen=True)
class TokenBatch:
    """What the text tower is given for B captions, and what of it is true of B stills."""

    tokens: torch.Tensor
    """[B, L] int64; L is the longest caption's length."""
    ends: torch.Tensor
    """[B] int64: where a sentence ends."""
    words: torch.Tensor
    """[B] int64: the position of one word that asserts something."""
    said: torch.Tensor
    """[B, len(FACTS)] float32, 1 for each fact that sentence i asserts."""
    heard: torch.Tensor
    """[B, len(FACTS)] float32, 1 for each fact that sentence i has asserted up to its word."""
    sentence_true: torch.Tensor
    """[B, B] bool: whether sentence i is true of still j."""
    word_true: torch.Tensor
    """[B, B] bool: whether what sentence i has asserted up to its word is true of still j."""


def token_batch(batch: StillBatch, words: WordTokens, rng: np.random.Generator) -> TokenBatch:
    """Tokens and truth of a batch; which word of a caption is asked is drawn from rng."""
    rows, positions, said, heard = [], [], [], []
    for caption in batch.captions:
        tokens, ends = words.caption(caption)
        speaking = [
            (end, facts)
            for end, facts in zip(ends, caption.asserted, strict=True)
            if facts and end < len(tokens) - 1
        ]
        end, facts = speaking[rng.integers(len(speaking))]
        rows.append(tokens)
        positions.append(end)
        heard.append(fact_vector(facts))
        cut = [
            f for e, f in zip(ends, caption.asserted, strict=True) if f is not None and e < len(tokens) - 1
        ]
        said.append(fact_vector(cut[-1]))
    length = max(map(len, rows))
    tokens_array = np.zeros((len(rows), length), np.int64)
    for row, tokens in zip(tokens_array, rows, strict=True):
        row[: len(tokens)] = tokens
    missing = 1.0 - torch.from_numpy(batch.facts).float().T  # (facts, stills)
    said_facts = torch.from_numpy(np.stack(said)).float()
    heard_facts = torch.from_numpy(np.stack(heard)).float()
    return TokenBatch(
        tokens=torch.from_numpy(tokens_array),
        ends=torch.tensor([len(tokens) - 1 for tokens in rows]),
        words=torch.tensor(positions),
        said=said_facts,
        heard=heard_facts,
        sentence_true=said_facts @ missing == 0,
        word_true=heard_facts @ missing == 0,
    )
