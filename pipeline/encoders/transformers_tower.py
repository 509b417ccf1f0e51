"""The text tower of a transformers folder: image-text models with their projection, and plain sentence encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache import TextEmbeddings
from ...cache.identity import digest_of
from .identity import state_digest, tokenizer_probes, vocabulary_digest
from .phrases import embed_phrases
from .tokens import WordsUnavailable
from .transformers_folder import described, read_folder
from .transformers_texts import TextKind, TextReader, through

_IMAGES_SIDE = frozenset({"vision_config", "vision_config_dict"})
SENTENCE_ENCODER = TextKind("AutoModel", relation="foreign")


def _pooled_and_classified(network: Any, states: torch.Tensor) -> torch.Tensor:
    """The classifier of Taiyi has seen states through the pooler's dense layer and tanh only, so its words go through
    these too."""
    pooled = network.bert.pooler(states.flatten(0, 1)[:, None])  # it reads position 0 of its input
    return network.classifier(pooled).unflatten(0, states.shape[:2])


_PARTS = ("text_model.", "text_projection.")
_PROJECTED = through("text_projection")
IMAGE_TEXT = {
    "chinese_clip": TextKind("ChineseCLIPModel", _PARTS, "text_model", _PROJECTED),
    "altclip": TextKind("AltCLIPModel", _PARTS, "text_model", _PROJECTED),
    "clip": TextKind("CLIPModel", _PARTS, "text_model", _PROJECTED, "pooled"),
}
"""Image-text models that a text tower is read of, by the `model_type` of their config.json."""
_CLASSIFIER = TextKind(
    "BertForSequenceClassification", ("bert.", "classifier."), "bert", _pooled_and_classified
)


def sentence_encoder(config: Any) -> TextKind:
    """Return the kind that has no projection. Raises ValueError for an image-text model."""
    if hasattr(config, "vision_config"):
        raise ValueError("it is an image-text model; save its text model by itself")
    return SENTENCE_ENCODER


def tower_kind(config: Any) -> TextKind:
    """Return how the model with this config embeds texts. Raises ValueError for an image-text model that is not known."""
    if config.model_type in IMAGE_TEXT:
        return IMAGE_TEXT[config.model_type]
    if hasattr(config, "vision_config"):
        raise ValueError(
            f"it is an image-text model of the kind {config.model_type}; those of {', '.join(IMAGE_TEXT)} can be read"
        )
    if config.model_type == "bert" and (config.architectures or [""])[0] == _CLASSIFIER.network:
        return _CLASSIFIER
    return SENTENCE_ENCODER


class TransformersTower:
    """The text tower in a folder of transformers, in float32 on the CPU; see `TextTower` and `TextReader`.

    Texts of a batch are padded, and the padding masked. Taiyi's card pads without a mask, by which the embedding of a
    text depends on the longest of its batch; that form is not offered.
    """

    def __init__(self, folder: Path, kind_of: Callable[[Any], TextKind] = tower_kind) -> None:
        read = read_folder(folder, kind_of)
        if hasattr(read.network, "vision_model"):
            read.network.vision_model = None
        self._read, self._kind = read, read.kind
        self._digest = ""
        self._texts = TextReader(read.network, read.kind, read.tokenizer, read.limit, torch.device("cpu"))
        self.name = str(folder)
        self.limit = read.limit
        """Tokens of a text, special ones included; what is longer is cut."""
        self.relation = self._kind.relation
        self.has_words = self._kind is not SENTENCE_ENCODER
        probe = self._texts.embed(["a", "1 2"], "{}", "none")[0]
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
        weights, tokenizer = self._read.network.state_dict(), self._read.tokenizer
        return digest_of(
            {
                "kind": self._kind.network,
                "config": described(self._read.document, _IMAGES_SIDE),
                "weights_sha256": state_digest(
                    {name: tensor for name, tensor in weights.items() if self._kind.shapes_embeddings(name)}
                ),
                "vocabulary_sha256": vocabulary_digest(tokenizer),
                "probes_sha256": tokenizer_probes(lambda texts: tokenizer(texts)["input_ids"]),
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
        return embed_phrases(self._texts.embed, phrases, prompts, words, batch_size=batch_size)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, special ones included, before anything is cut."""
        return self._texts.count_tokens(texts)
