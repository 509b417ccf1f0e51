"""Text embeddings for a cache: read where they are kept, computed once where they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..cache import FeatureCache, Identity, TextEmbeddings, read_texts, text_path, where_writable, write_texts
from ..lexicons import Lexicon

if TYPE_CHECKING:  # torch is for those who compute
    from .encoder import Encoder


def text_embeddings(
    cache: FeatureCache,
    lexicon: Lexicon,
    prompts: Sequence[str] = ("{}",),
    *,
    words: str = "name",
    load: Callable[[Identity], Encoder] | None = None,
) -> TextEmbeddings:
    """The embeddings of a lexicon's phrases by the encoder of `cache`, kept there from then on.

    words    name, sentence, all or none (see `words.WORD_MODES`)
    load     how to get the encoder when it is needed; default `EncoderLoader()`

    Raises EncoderError where the encoder cannot be had, CacheError for a damaged file.
    """
    digest = cache.identity.encoder_digest
    path = text_path(cache.folder, lexicon.name, lexicon.phrases, prompts, words, digest)
    if path.exists():
        return read_texts(path, digest)
    encoder = (load or EncoderLoader())(cache.identity)
    texts = encoder.encode_text(lexicon.phrases, prompts, words=words)
    with where_writable(path):
        write_texts(path, texts, lexicon=lexicon.name, encoder_digest=digest)
    return texts


class EncoderLoader:
    """Loads the encoder of an identity, each once. See `load_encoder_of`."""

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._loaded: dict[str, Encoder] = {}

    def __call__(self, identity: Identity) -> Encoder:
        key = identity.encoder_digest
        if key not in self._loaded:
            self._loaded[key] = load_encoder_of(identity, self._device)
        return self._loaded[key]


def load_encoder_of(identity: Identity, device: str = "auto") -> Encoder:
    """The encoder that made a cache, from where it was then.

    Raises EncoderError where it is gone, or is another by now.
    """
    from .encoder import EncoderError, load_encoder

    size = identity.encoder.get("preprocess", {}).get("size", [None])[0]
    natural = identity.encoder.get("architecture", {}).get("vision_cfg", {}).get("image_size", size)
    try:
        encoder = load_encoder(
            identity.model,
            identity.pretrained,
            device=device,
            image_size=size if size != natural else None,
        )
    except EncoderError as error:
        raise EncoderError(
            f"the encoder of this cache, {identity.encoder_name}, is needed: {error}"
        ) from error
    if Identity(encoder.identity, {}, "").encoder_digest != identity.encoder_digest:
        raise EncoderError(
            f"{identity.encoder_name} has changed since the cache was made: its weights or settings are others "
            "now. Put the old weights back, or extract again into another --cache."
        )
    return encoder
