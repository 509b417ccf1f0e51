"""The text tower of an open_clip model, by itself: its own digest, whatever its visual tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...cache import TextEmbeddings
from ...cache.identity import digest_of
from .encoder import OpenClipEncoder
from .identity import activation_of, state_digest, tokenizer_identity, vocabulary_digest
from .tokens import WordsUnavailable

_NOT_OF_TEXTS = ("visual.", "logit_scale", "logit_bias", "text_decoder.")
"""How the names of the tensors begin that have no part in text embeddings."""
_PLACES = ("hf_model_name", "hf_tokenizer_name")
"""What the text part of an architecture says of where files lie; the weights and tokens say what is in them."""


class OpenClipTextTower:
    """The text tower of an encoder in float32; see `TextTower`."""

    def __init__(self, encoder: OpenClipEncoder, relation: str) -> None:
        self._encoder = encoder
        self.name = encoder.name
        self.dimension = encoder.dimension
        self.relation = relation
        self._digest = ""
        try:
            encoder.encode_text(["a"], words="sentence")
            self.has_words = True
        except WordsUnavailable:
            self.has_words = False

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, architecture, activation and tokenizer of the text tower alone."""
        self._digest = self._digest or self._compute_digest()
        return self._digest

    def _compute_digest(self) -> str:
        network: Any = self._encoder.network
        state = network.state_dict().items()
        weights = {name: tensor for name, tensor in state if not name.startswith(_NOT_OF_TEXTS)}
        text = self._encoder.identity["architecture"].get("text_cfg") or {}
        tokenizer = self._encoder.tokenizer
        inner = getattr(tokenizer, "tokenizer", None)
        return digest_of(
            {
                "kind": "open_clip",
                "text_cfg": {key: value for key, value in text.items() if key not in _PLACES},
                "activation": activation_of(getattr(network, "text", None) or network.transformer),
                "weights_sha256": state_digest(weights),
                "tokenizer": tokenizer_identity(tokenizer),
                "vocabulary_sha256": vocabulary_digest(inner) if hasattr(inner, "get_vocab") else "",
            }
        )

    def encode_text(
        self, phrases: Sequence[str], prompts: Sequence[str] = ("{}",), *, words: str = "name"
    ) -> TextEmbeddings:
        """Return what `OpenClipEncoder.encode_text` does."""
        return self._encoder.encode_text(phrases, prompts, words=words)
