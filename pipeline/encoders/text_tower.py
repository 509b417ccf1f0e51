"""A second text tower beside the encoder of a cache: for phrases of another language, or another text encoder.

Three kinds: the text side of an image-text folder of transformers (Chinese-CLIP, AltCLIP, Taiyi, CLIP), any sentence
encoder of transformers, and the text tower of an open_clip model. Nothing heavy is imported before a tower is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...cache import FeatureCache, Identity, TextEmbeddings, text_path, where_writable, write_texts
from ...lexicons import Lexicon
from .text_cache import PRECISION, read_own_texts

if TYPE_CHECKING:  # it brings torch and open_clip
    from .encoder import OpenClipEncoder


class TextTower(Protocol):
    """Phrases to embeddings with D dimensions, of a space that need not be that of the frames."""

    name: str
    """How it was asked for, for messages."""
    digest: str
    """SHA-256 of all that shapes its embeddings: weights, projection, architecture, activation, tokenizer. Neither the
    folder that it lies in nor a visual tower beside it has a part."""
    dimension: int
    """D of its sentence and word embeddings, after its own projection."""
    relation: str
    """What kind of space it is from, as far as its files say:

    same       the encoder of the cache itself (see `load_text_tower`)
    related    of an image-text model: trained against images, by whatever visual tower
    foreign    a sentence encoder, which has seen no image

    Whether it shares the space of a certain visual tower cannot be read from any file: Chinese-CLIP was tuned with a
    visual tower of its own, Taiyi against OpenAI's, which stayed frozen, and both are `related`.
    """
    has_words: bool
    """Whether it embeds single tokens; else `words` must be none."""

    def encode_text(
        self, phrases: Sequence[str], prompts: Sequence[str] = ("{}",), *, words: str = "name"
    ) -> TextEmbeddings:
        """Return sentence embeddings of phrases, and those of their words."""
        ...


def load_text_tower(
    reference: str | Path, pretrained: str = "", *, cache_identity: Identity | None = None
) -> TextTower:
    """Load a text tower, in float32 on the CPU.

    reference         folder of transformers, as `save_pretrained` writes it: nothing is downloaded, no code of it is
                      run. Or an open_clip model, as `load_encoder` takes it: `local-dir:FOLDER`, `demo`, a name
    pretrained        weights of an open_clip model, where it does not bring its own
    cache_identity    that of the cache beside whose encoder the tower stands: an open_clip model of the same identity
                      is `same`, every other one `related`

    Raises ImportError without transformers, FileNotFoundError where the folder lacks a file, ValueError for a folder
    that holds no text tower or does not fit its weights, EncoderError for an open_clip model that cannot be had.
    """
    raise NotImplementedError


def tower_texts(
    cache: FeatureCache,
    lexicon: Lexicon,
    tower: TextTower,
    prompts: Sequence[str] = ("{}",),
    *,
    words: str = "name",
) -> TextEmbeddings:
    """Return the embeddings of a lexicon's phrases by a text tower; `cache` keeps them from then on, by its digest.

    words    name, sentence, all or none (see `phrases.WORD_MODES`)

    Raises what `encode_text` raises, CacheError for a damaged file.
    """
    path = text_path(cache.folder, lexicon.name, lexicon.phrases, prompts, words, tower.digest, PRECISION)
    if path.exists():
        return read_own_texts(path, tower.digest, lexicon, prompts)
    texts = tower.encode_text(lexicon.phrases, prompts, words=words)
    with where_writable(path):
        write_texts(
            path,
            texts,
            lexicon=lexicon.name,
            encoder_digest=tower.digest,
            precision=PRECISION,
            tower=tower.name,
        )
    return texts
