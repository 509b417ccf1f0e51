"""Which tokens of a prompted phrase are its words, and the embedding of each token.

A token's embedding goes through the same final norm and projection as the sentence's (BIKE 2.3). In a
causal text tower, a word has seen only what stands before it.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer


class WordsUnavailable(Exception):
    """The text tower pools inside, and gives no embedding of a single token."""


def content_positions(tokenizer: Any, tokens: torch.Tensor) -> list[list[int]]:
    """Return the positions of the tokens that are text: neither start, end, class nor padding.

    tokens    [C, L] integers, as `tokenizer` gave them
    """
    if isinstance(tokenizer, SimpleTokenizer):
        # CLIP pads with 0, which is also its token for "!": only places tell them apart.
        ends = (tokens == tokenizer.eot_token_id).int().argmax(dim=1).tolist()
        return [list(range(1, end)) for end in ends]
    inner = tokenizer.tokenizer
    special = set(inner.all_special_ids) - {inner.unk_token_id} | {inner.pad_token_id}
    return [[i for i, token in enumerate(row) if token not in special] for row in tokens.tolist()]


def content_tokens(
    tokenizer: Any, texts: Sequence[str], context_length: int | None = None
) -> list[list[int]]:
    """Return the tokens of each text without the special ones."""
    tokens = tokenizer(list(texts), context_length=context_length)
    rows = tokens.tolist()
    positions = content_positions(tokenizer, tokens)
    return [[row[i] for i in places] for row, places in zip(rows, positions, strict=True)]


def name_positions(tokenizer: Any, prompt: str, tokens: torch.Tensor) -> list[list[int]]:
    """Return the positions of each phrase's own tokens inside its prompt.

    prompt    with one `{}`; what stands before and after it is taken off, token by token
    tokens    [C, L]: the phrases, each in `prompt`

    Where a tokenizer joins letters across the border (Chinese, or "(human)" before a full stop), the
    joined token counts as the phrase's.
    """
    before, after = prompt.split("{}")
    head, tail = content_tokens(tokenizer, [before.rstrip(), after.lstrip()])
    found = []
    for row, places in zip(tokens.tolist(), content_positions(tokenizer, tokens), strict=True):
        text = [row[i] for i in places]
        first = _common_length(text, head)
        last = len(text) - _common_length(text[first:][::-1], tail[::-1])
        found.append(places[first:last])
    return found


def word_positions(tokenizer: Any, prompt: str, tokens: torch.Tensor, words: str) -> list[list[int]]:
    """Return the positions of the words of prompted phrases, by one of `phrases.WORD_MODES` but none.

    tokens    [C, L] integers of the phrases in `prompt`, as `tokenizer` gave them
    """
    if words == "all":
        return [list(range(tokens.shape[1]))] * len(tokens)
    if words == "name":
        return name_positions(tokenizer, prompt, tokens)
    return content_positions(tokenizer, tokens)


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(itertools.takewhile(bool, map(operator.eq, left, right)))


def token_embeddings(model: torch.nn.Module, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (sentence [C, D], every position [C, L, D]) from one pass of an open_clip text tower.

    Raises WordsUnavailable for a tower that pools inside, or that this function does not know.
    """
    tower: Any = getattr(model, "text", model)
    finish = _finish_of(tower)
    seen: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        seen.append(getattr(output, "last_hidden_state", output))

    hook = tower.transformer.register_forward_hook(keep)
    try:
        sentence = model.encode_text(tokens)  # type: ignore[operator]
    finally:
        hook.remove()
    hidden = seen[0][:, : tokens.shape[1]]  # CoCa appends a class token of its own
    return sentence, finish(hidden)


def _finish_of(tower: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what the tower does to a position between its transformer and the joint space."""
    if hasattr(tower, "ln_final") and hasattr(tower, "transformer"):  # open_clip's own towers
        projection = tower.text_projection

        def finish(hidden: torch.Tensor) -> torch.Tensor:
            hidden = tower.ln_final(hidden)
            if projection is None:
                return hidden
            return projection(hidden) if isinstance(projection, torch.nn.Module) else hidden @ projection

        return finish
    if hasattr(tower, "pooler") and hasattr(tower, "proj"):  # a Hugging Face tower
        inner = getattr(tower.transformer, "pooler", None)
        if inner is not None and getattr(tower.pooler, "use_pooler_output", False):
            raise WordsUnavailable(
                "this model's text tower pools inside (its sentence embedding is not made of its tokens'), so "
                "it has no word embeddings. Use --words none, or a model of open_clip's own text tower."
            )
        return tower.proj
    raise WordsUnavailable(
        f"the text tower {type(tower).__name__} gives no embeddings of single tokens. Use --words none."
    )
