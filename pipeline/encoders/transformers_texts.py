"""Texts through a text tower of transformers: tokens, hidden states, and which states become embeddings.

                                    hidden states of        a position becomes an embedding by       sentence
    Chinese-CLIP                    text_model              text_projection                          position 0
    AltCLIP                         text_model (its pre_LN  text_projection                          position 0
                                    and transformation too)
    CLIP, MetaCLIP 2                text_model (its final   text_projection                          end of text
                                    layer norm too)
    SigLIP, SigLIP 2                text_model              text_model.head                          last position
    VideoPrism                      text_model              L2 norm, where its config says so        behind the last
    PE-video                        text_model              text_video_head                          position 0
    Taiyi                           bert                    pooler (dense, tanh), then classifier    position 0
    any other encoder               the encoder             nothing                                  position 0

Sources: Yang et al. 2022 (Chinese-CLIP), Chen et al. 2022 (AltCLIP), Zhai et al. 2023 (SigLIP), Zhao et al. 2024
(VideoPrism), Zhang et al. 2022 (Fengshenbang 1.0: Taiyi).
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .tokens import word_positions
from .transformers_folder import FolderKind

_PADDING = -1
"""Stands for padding in the tokens that `tokens.py` sees: the padding of some towers is also their end of text."""


def unchanged(_network: Any, states: torch.Tensor) -> torch.Tensor:
    """Return the states [C, L, width] as they are: their own embeddings."""
    return states


def through(module: str) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """Return what puts states [C, L, width] through a module of the network, [C, L, D]."""
    find = operator.attrgetter(module)
    return lambda network, states: find(network)(states)


@dataclass(frozen=True)
class TextKind(FolderKind):
    """How one class of transformers embeds texts; see the table above."""

    encoder: str = ""
    """The module that gives the hidden states; empty: the network itself."""
    finish: Callable[[Any, torch.Tensor], torch.Tensor] = unchanged
    """(network, states [C, L, width]) -> embeddings [C, L, D]."""
    sentence: str = "first"
    """Which state is the sentence's: first, last, or pooled, where the module says it itself."""
    fills_context: bool = False
    """Whether texts are padded to the whole context, with a mask only where the tokenizer gives one: such towers were
    trained to read their padding. Others have it masked."""
    relation: str = "related"
    """See `TextTower.relation`."""


class TextReader:
    """Texts to embeddings by the text tower of a network; `embed` is what `embed_phrases` calls.

    Words go the way of the sentence from the state of their own position. No such tower was trained on them: its loss
    read the sentence alone, so what a word's embedding means is what attention has left at its place.
    """

    def __init__(
        self, network: Any, kind: TextKind, tokenizer: Any, limit: int, device: torch.device
    ) -> None:
        self._network, self._kind, self.tokenizer = network, kind, tokenizer
        self.limit, self._device = limit, device
        if not kind.fills_context:
            tokenizer.padding_side = "right"  # the first token is the first also in the shorter texts
        self._encoder = operator.attrgetter(kind.encoder)(network) if kind.encoder else network
        accepted = inspect.signature(self._encoder.forward).parameters
        self._inputs = [
            name for name in ("input_ids", "attention_mask", "token_type_ids") if name in accepted
        ]
        if kind.fills_context and "attention_mask" not in tokenizer.model_input_names:
            self._inputs.remove("attention_mask")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, special ones included, before anything is cut."""
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]

    def embed(
        self, texts: list[str], prompt: str, words: str
    ) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
        """Return (sentences [C, D], words of each [n, D], which texts were longer than the context)."""
        longer = [c for c, count in enumerate(self.count_tokens(texts)) if count > self.limit]
        cut: dict[str, Any] = {"truncation": True, "max_length": self.limit}
        fills, fast = self._kind.fills_context, self.tokenizer.is_fast
        tokens = self.tokenizer(
            texts,
            padding="max_length" if fills else True,
            return_tensors="pt",
            return_attention_mask=True,
            return_offsets_mapping=fast,
            **(cut if longer or fills else {}),
        )
        with torch.inference_mode():
            output = self._encoder(
                **{name: tokens[name].to(self._device) for name in self._inputs if name in tokens}
            )
            states = output.last_hidden_state
            if self._kind.sentence == "pooled":
                own = output.pooler_output[:, None]
            else:
                own = states[:, :1] if self._kind.sentence == "first" else states[:, -1:]
            sentence = _array(self._kind.finish(self._network, own)[:, 0])
            if words == "none":
                return sentence, [np.zeros((0, sentence.shape[1]), np.float32) for _ in texts], longer
            every = _array(self._kind.finish(self._network, states))
        places = self._word_positions(texts, prompt, tokens, words)
        return sentence, [every[c, row] for c, row in enumerate(places)], longer

    def _word_positions(self, texts: list[str], prompt: str, tokens: Any, words: str) -> list[list[int]]:
        """Return the positions of the words of prompted phrases, by one of WORD_MODES but none."""
        if words == "all":
            return [[i for i, own in enumerate(row) if own] for row in tokens["attention_mask"].tolist()]
        marked = _mark_padding(tokens)
        if words == "name" and self.tokenizer.is_fast:
            # A sentencepiece vocabulary writes 的视频 in another way where it begins a text: tokens of the prompt
            # alone, which `tokens.name_positions` takes off, would leave a 的 over. Places in the text do not.
            content = word_positions(_TokenReader(self.tokenizer), prompt, marked, "sentence")
            return [
                _tokens_inside(places, offsets, self.tokenizer.convert_ids_to_tokens(row), text, prompt)
                for places, offsets, row, text in zip(
                    content,
                    tokens["offset_mapping"].tolist(),
                    tokens["input_ids"].tolist(),
                    texts,
                    strict=True,
                )
            ]
        return word_positions(_TokenReader(self.tokenizer), prompt, marked, words)


class _TokenReader:
    """A tokenizer of transformers in the form of open_clip's, as `tokens.py` reads it."""

    pad_token_id = _PADDING

    def __init__(self, tokenizer: Any) -> None:
        self._own = tokenizer
        self.tokenizer = self
        self.all_special_ids = list(tokenizer.all_special_ids)
        ends = {
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
        }
        unknown = tokenizer.unk_token_id
        # An unknown word is a word; CLIP's unknown token is its end of text.
        self.unk_token_id = None if unknown in ends else unknown

    def __call__(self, texts: list[str], context_length: None = None) -> torch.Tensor:  # noqa: ARG002 (open_clip's form)
        return _mark_padding(
            self._own(texts, padding=True, return_tensors="pt", return_attention_mask=True, verbose=False)
        )


def _mark_padding(tokens: Any) -> torch.Tensor:
    return tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, _PADDING)


def _tokens_inside(
    places: list[int], offsets: list[list[int]], tokens: list[str], text: str, prompt: str
) -> list[int]:
    """Return which positions of `places` have letters of the phrase in `text`; a sentencepiece of a space alone has none."""
    start = prompt.index("{}")
    stop = start + len(text) - len(prompt) + 2
    return [i for i in places if offsets[i][0] < stop and offsets[i][1] > start and tokens[i] != "▁"]


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
