"""The text tower of a transformers folder: image-text models with their projection, and plain sentence encoders.

                                    hidden states of        a position becomes an embedding by       sentence
    Chinese-CLIP                    text_model              text_projection                          position 0
    AltCLIP                         text_model (its pre_LN  text_projection                          position 0
                                    and transformation too)
    CLIP                            text_model (its final   text_projection                          end of text
                                    layer norm too)
    Taiyi                           bert                    pooler (dense, tanh), then classifier    position 0
    any other encoder               the encoder             nothing                                  position 0

Sources: Yang et al. 2022 (Chinese-CLIP), Chen et al. 2022 (AltCLIP), Zhang et al. 2022 (Fengshenbang 1.0: Taiyi).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache import TextEmbeddings
from ...cache.identity import digest_of
from .identity import state_digest, tokenizer_probes, vocabulary_digest
from .phrases import embed_phrases
from .tokens import WordsUnavailable, word_positions
from .transformers_folder import FolderKind, read_folder

# What config.json says beside what shapes text embeddings: names, versions, how the file was written, the images' side.
_NOT_OF_TEXTS = {
    "_name_or_path", "_commit_hash", "architectures", "auto_map", "dtype", "id2label", "initializer_factor",
    "initializer_range", "label2id", "logit_scale_init_value", "problem_type", "torch_dtype", "transformers_version",
    "vision_config", "vision_config_dict",
}  # fmt: skip
_PADDING = -1
"""Stands for padding in the tokens that `tokens.py` sees: the padding of some towers is also their end of text."""


@dataclass(frozen=True)
class TowerKind(FolderKind):
    """How one class of transformers embeds texts; see the table above."""

    encoder: str = ""
    """The module that gives the hidden states; empty: the network itself."""
    pooled: bool = False
    """Whether that module says itself which state is the sentence's; else it is the one at position 0."""
    relation: str = "related"


SENTENCE_ENCODER = TowerKind("AutoModel", relation="foreign")
_IMAGE_TEXT_PARTS = ("text_model.", "text_projection.")
_IMAGE_TEXT = {
    "chinese_clip": TowerKind("ChineseCLIPModel", _IMAGE_TEXT_PARTS, "text_model"),
    "altclip": TowerKind("AltCLIPModel", _IMAGE_TEXT_PARTS, "text_model"),
    "clip": TowerKind("CLIPModel", _IMAGE_TEXT_PARTS, "text_model", pooled=True),
}
_CLASSIFIER = TowerKind("BertForSequenceClassification", ("bert.", "classifier."), "bert")


def sentence_encoder(config: Any) -> TowerKind:
    """Return the kind that has no projection. Raises ValueError for an image-text model."""
    if hasattr(config, "vision_config"):
        raise ValueError("it is an image-text model; save its text model by itself")
    return SENTENCE_ENCODER


def tower_kind(config: Any) -> TowerKind:
    """Return how the model with this config embeds texts. Raises ValueError for an image-text model that is not known."""
    if config.model_type in _IMAGE_TEXT:
        return _IMAGE_TEXT[config.model_type]
    if hasattr(config, "vision_config"):
        raise ValueError(
            f"it is an image-text model of the kind {config.model_type}; those of {', '.join(_IMAGE_TEXT)} can be read"
        )
    if config.model_type == "bert" and (config.architectures or [""])[0] == _CLASSIFIER.network:
        return _CLASSIFIER
    return SENTENCE_ENCODER


class TransformersTower:
    """The text tower in a folder of transformers, in float32 on the CPU; see `TextTower`.

    Words go the way of the sentence from the state of their own position. No such tower was trained on them: its loss
    read the sentence alone, so what a word's embedding means is what attention has left at its place. The classifier
    of Taiyi has seen states through the pooler's dense layer and tanh only, so its words go through these too.

    Texts of a batch are padded, and the padding masked. Taiyi's card pads without a mask, by which the embedding of a
    text depends on the longest of its batch; that form is not offered.
    """

    def __init__(self, folder: Path, kind_of: Callable[[Any], TowerKind] = tower_kind) -> None:
        read = read_folder(folder, kind_of)
        self._read, self._kind = read, read.kind
        self._digest = ""
        self._tokenizer = read.tokenizer
        self._encoder = getattr(read.network, self._kind.encoder) if self._kind.encoder else read.network
        accepted = inspect.signature(self._encoder.forward).parameters
        self._inputs = [
            name for name in ("input_ids", "attention_mask", "token_type_ids") if name in accepted
        ]
        self.name = str(folder)
        self.limit = read.limit
        """Tokens of a text, special ones included; what is longer is cut."""
        self.relation = self._kind.relation
        self.has_words = self._kind is not SENTENCE_ENCODER
        probe = self._embed(["a", "1 2"], "{}", "none")[0]
        self.dimension = int(probe.shape[1])
        self._blind = bool(np.allclose(probe[0], probe[1], rtol=0, atol=1e-6 * np.abs(probe).max()))

    def check_reads_texts(self) -> None:
        """Raise ValueError where all texts have one embedding: the first token of a causal model sees itself alone."""
        if self._blind:
            raise ValueError(
                f"the text encoder in {self.name} gives all texts the same embedding: its first token sees no other. "
                "An encoder that reads in both directions is needed, or an image-text folder."
            )

    @property
    def digest(self) -> str:
        """SHA-256 of weights, config.json as far as it shapes texts, tokenizer and kind."""
        self._digest = self._digest or self._compute_digest()
        return self._digest

    def _compute_digest(self) -> str:
        weights = self._read.network.state_dict()
        return digest_of(
            {
                "kind": self._kind.network,
                "config": _of_texts(self._read.document),
                "weights_sha256": state_digest(
                    {name: tensor for name, tensor in weights.items() if self._kind.shapes_texts(name)}
                ),
                "vocabulary_sha256": vocabulary_digest(self._tokenizer),
                "probes_sha256": tokenizer_probes(lambda texts: self._tokenizer(texts)["input_ids"]),
                "limit": self.limit,
            }
        )

    def encode_text(
        self,
        phrases: Sequence[str],
        prompts: Sequence[str] = ("{}",),
        *,
        words: str = "name",
        batch_size: int = 64,
    ) -> TextEmbeddings:
        """Return the sentence embeddings [C, D] of C phrases, and those of their words.

        prompts    each with one `{}`. Several are averaged, as `embed_phrases` says
        words      name, sentence, none; all: every token, special ones too, but no padding, whose number is chance

        Raises ValueError for no phrase, a prompt without `{}`, or an unknown mode; WordsUnavailable when words are
        asked of a sentence encoder, which has no projection that could make embeddings of them.
        """
        if words != "none" and not self.has_words:
            raise WordsUnavailable(
                f"{self.name} is a sentence encoder, and has no word embeddings. Ask it for words none."
            )
        return embed_phrases(self._embed, phrases, prompts, words, batch_size=batch_size)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, special ones included, before anything is cut."""
        return [len(ids) for ids in self._tokenizer(list(texts), verbose=False)["input_ids"]]

    def _embed(
        self, texts: list[str], prompt: str, words: str
    ) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
        """Return (sentences [C, D], words of each [n, D], which texts were longer than the context)."""
        longer = [c for c, count in enumerate(self.count_tokens(texts)) if count > self.limit]
        cut: dict[str, Any] = {"truncation": True, "max_length": self.limit} if longer else {}
        fast = self._tokenizer.is_fast
        tokens = self._tokenizer(
            texts,
            padding=True,
            return_tensors="pt",
            return_attention_mask=True,
            return_offsets_mapping=fast,
            **cut,
        )
        with torch.inference_mode():
            output = self._encoder(**{name: tokens[name] for name in self._inputs if name in tokens})
            states = output.last_hidden_state
            first = output.pooler_output[:, None] if self._kind.pooled else states[:, :1]
            sentence = self._finish(first)[:, 0].numpy()
            if words == "none":
                return sentence, [np.zeros((0, sentence.shape[1]), np.float32) for _ in texts], longer
            every = self._finish(states).numpy()
        places = self._word_positions(texts, prompt, tokens, words)
        return sentence, [every[c, row] for c, row in enumerate(places)], longer

    def _finish(self, states: torch.Tensor) -> torch.Tensor:
        """Return the embeddings [C, L, D] of hidden states [C, L, width]."""
        network = self._read.network
        if self._kind is _CLASSIFIER:
            pooled = network.bert.pooler(states.flatten(0, 1)[:, None])  # it reads position 0 of its input
            return network.classifier(pooled).unflatten(0, states.shape[:2])
        return states if self._kind is SENTENCE_ENCODER else network.text_projection(states)

    def _word_positions(self, texts: list[str], prompt: str, tokens: Any, words: str) -> list[list[int]]:
        """Return the positions of the words of prompted phrases, by one of WORD_MODES but none."""
        if words == "all":
            return [list(range(int(count))) for count in tokens["attention_mask"].sum(dim=1)]
        marked = _mark_padding(tokens)
        if words == "name" and self._tokenizer.is_fast:
            # A sentencepiece vocabulary writes 的视频 in another way where it begins a text: tokens of the prompt
            # alone, which `tokens.name_positions` takes off, would leave a 的 over. Places in the text do not.
            content = word_positions(_TokenReader(self._tokenizer), prompt, marked, "sentence")
            return [
                _tokens_inside(places, offsets, self._tokenizer.convert_ids_to_tokens(row), text, prompt)
                for places, offsets, row, text in zip(
                    content,
                    tokens["offset_mapping"].tolist(),
                    tokens["input_ids"].tolist(),
                    texts,
                    strict=True,
                )
            ]
        return word_positions(_TokenReader(self._tokenizer), prompt, marked, words)


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


def _of_texts(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a config.json says of texts."""
    return {
        key: _of_texts(value) if isinstance(value, dict) else value
        for key, value in document.items()
        if key not in _NOT_OF_TEXTS
    }
