"""A second text tower beside the encoder of a cache: for phrases of another language, or another text encoder.

Three kinds: the text side of an image-text folder of transformers (Chinese-CLIP, AltCLIP, Taiyi, CLIP), any sentence
encoder of transformers, and the text tower of an open_clip model. Nothing heavy is imported before a tower is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ...cache import FeatureCache, Identity, TextEmbeddings, text_path, where_writable, write_texts
from ...lexicons import Lexicon
from .files import DEMO_CHINESE, PACKAGED, chinese_of_demo
from .text_cache import PRECISION, image_size_of, read_own_texts


class TextTower(Protocol):
    """Phrases to embeddings with D dimensions, of a space that need not be that of the frames."""

    @property
    def name(self) -> str:
        """How it was asked for, for messages."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of all that shapes its embeddings: weights, projection, architecture, activation, tokenizer.

        Neither the folder that it lies in nor a visual tower beside it has a part. A folder that another version of
        transformers saved anew, with other keys in its config.json, may be another tower.
        """
        ...

    @property
    def dimension(self) -> int:
        """D of its sentence and word embeddings, after its own projection."""
        ...

    @property
    def relation(self) -> str:
        """What kind of space it is from, as far as its files say.

        same       the encoder of the cache itself (see `load_text_tower`)
        related    of an image-text model: trained against images, by whatever visual tower
        foreign    a sentence encoder, which has seen no image

        Whether it shares the space of a certain visual tower cannot be read from any file: Chinese-CLIP was tuned
        with a visual tower of its own, Taiyi against OpenAI's, which stayed frozen, and both are `related`.
        """
        ...

    @property
    def has_words(self) -> bool:
        """Whether it embeds single tokens; else `words` must be none.

        Towers of transformers were trained on sentences alone: their words are untrained as words.
        """
        ...

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
                      run. Or, as text, an open_clip model, as `load_open_clip` takes it: `local-dir:FOLDER`, `demo`, a name
    pretrained        weights of an open_clip model, where it does not bring its own
    cache_identity    that of the cache beside whose encoder the tower stands: an open_clip model of the same identity
                      is `same`, every other one `related`

    Raises ImportError without transformers, FileNotFoundError where the folder lacks a file, ValueError for a folder
    that holds no text tower or does not fit its weights, EncoderError for an open_clip model that cannot be had.
    """
    name, folder = str(reference), Path(reference)
    if name == DEMO_CHINESE:
        return _demo_in_chinese()
    if isinstance(reference, Path) or not _is_of_open_clip(name):
        if pretrained:
            raise ValueError(f"{name} is a folder, which brings its weights; leave {pretrained} out.")
        if (folder / "open_clip_config.json").is_file() and not (folder / "config.json").is_file():
            raise ValueError(f"{name} is a folder of open_clip; it is given as local-dir:{name}.")
        return _of_folder(folder)
    return _of_open_clip(name, pretrained, cache_identity)


def _is_of_open_clip(name: str) -> bool:
    """Return whether a text is the name of an open_clip model; a folder with such a name is given as ./NAME."""
    import open_clip

    known = name in PACKAGED or name.replace("/", "-") in open_clip.list_models()
    return known or name.partition(":")[0] in ("local-dir", "hf-hub")


def _of_folder(folder: Path) -> TextTower:
    from .transformers_tower import TransformersTower

    tower = TransformersTower(folder)
    tower.check_reads_texts()
    return tower


def _of_open_clip(name: str, pretrained: str, cache_identity: Identity | None) -> TextTower:
    from .load import load_open_clip
    from .open_clip_tower import OpenClipTextTower

    size = image_size_of(cache_identity) if cache_identity else None
    encoder = load_open_clip(name, pretrained, device="cpu", precision=PRECISION, image_size=size)
    digest = Identity(encoder.identity, {}, "").encoder_digest
    same = cache_identity is not None and digest == cache_identity.encoder_digest
    return OpenClipTextTower(encoder, "same" if same else "related")


def _demo_in_chinese() -> TextTower:
    """Return the packaged text tower with rows for the tokens of Chinese, which are zero in its own table."""
    import torch
    from safetensors.torch import load_file

    from .load import load_open_clip
    from .open_clip_tower import OpenClipTextTower

    encoder = load_open_clip("demo", device="cpu", precision=PRECISION)
    extra = load_file(chinese_of_demo())
    with torch.no_grad():
        encoder.network.token_embedding.weight[extra["tokens"]] = extra["rows"].float()
    tower = OpenClipTextTower(encoder, "related")
    tower.name = DEMO_CHINESE
    return tower


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
