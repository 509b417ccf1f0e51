"""Text embeddings of a cache: read where they are stored, computed once where they are not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...cache import (
    CacheError,
    FeatureCache,
    Identity,
    TextEmbeddings,
    read_texts,
    text_path,
    where_writable,
    write_texts,
)
from ...lexicons import Lexicon
from .files import remembered
from .phrases import WORD_MODES
from .protocol import Encoder, EncoderError, ModelNotNamed, check_has_text, full_name

_log = logging.getLogger(__name__)

PRECISION = "fp32"
"""Precision of texts, whatever that of the frames: texts are few, and every cache then shares them."""


def text_embeddings(
    cache: FeatureCache,
    lexicon: Lexicon,
    prompts: Sequence[str] = ("{}",),
    *,
    words: str = "name",
    load: Callable[[Identity], Encoder] | None = None,
) -> TextEmbeddings:
    """Return the embeddings of a lexicon's phrases by the encoder of `cache`, which keeps them from then on.

    words    name, sentence, all or none (see `WORD_MODES`)
    load     returns the encoder when it is needed; default `EncoderLoader()`

    Where no words are asked for, a file that has words serves as well: its sentences are the same.
    A file from before precision was part of the key may hold what a GPU computed in half precision: it is used only
    where the encoder cannot be had.
    Raises EncoderError where the encoder cannot be had, or embeds no texts; CacheError for a damaged file.
    """
    check_has_text(cache.identity)
    load = load or EncoderLoader()
    digest = cache.identity.encoder_digest

    def path(precision: str, words: str = words) -> Path:
        return text_path(cache.folder, lexicon.name, lexicon.phrases, prompts, words, digest, precision)

    encoder, precision = None, PRECISION
    own = path(PRECISION)
    if words == "none":  # sentences are the same in the files that have words too
        own = next((each for mode in ("none", *WORD_MODES) if (each := path(PRECISION, mode)).exists()), own)
    if not own.exists():
        try:
            encoder = load(cache.identity)
            precision = encoder.precision
        except EncoderError:
            if not path("").exists():
                raise
            precision = ""
            _tell(load, f"{path('')} does not say in which precision it was computed; it is used as it is.")
        own = path(precision)
    if encoder is not None and not own.exists():
        texts = encoder.encode_text(lexicon.phrases, prompts, words=words)
        with where_writable(own):
            write_texts(own, texts, lexicon=lexicon.name, encoder_digest=digest, precision=precision)
    else:
        texts = read_own_texts(own, digest, lexicon, prompts)
    if words == "none":
        texts = texts.without_words()
    _log.debug(
        "%s: %s phrases of %s in %s prompts", own, len(texts.phrases), lexicon.name, len(texts.prompts)
    )
    _tell(load, collapse_note(texts))
    return texts


def read_own_texts(path: Path, digest: str, lexicon: Lexicon, prompts: Sequence[str]) -> TextEmbeddings:
    """Read the embeddings of a lexicon's phrases from the file that has their name. Raises CacheError for a damaged
    file."""
    texts = read_texts(path, digest)
    # A file from before a file knew its name may bear another's.
    if texts.phrases != tuple(lexicon.phrases) or texts.prompts != tuple(prompts):
        raise CacheError(f"{path} holds other phrases or prompts than its name says; delete it.")
    return texts


class EncoderLoader:
    """Loads the encoder of an identity, each once.

    A cache or head says by which name its encoder was loaded. It may come from elsewhere: a folder, a file or a hub
    page that it names is loaded only where the user names it too; open_clip's own models and weights always are. In
    any case, the weights must be those that the features were made with.

    models    (model, pretrained) pairs that the user names, as for `load_encoder`
    insist    whether each identity must be one of `models`, where there are any; else they are what may be loaded
    on_note   called with what the user should know
    """

    def __init__(
        self,
        device: str = "auto",
        models: Sequence[tuple[str, str]] = (),
        *,
        insist: bool = True,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self._device = device
        self._models = tuple(models)
        self._insist = insist
        self._on_note = on_note
        self._noted: set[str] = set()
        self._loaded: dict[tuple[str, str], Encoder] = {}

    def __call__(self, identity: Identity, precision: str = PRECISION) -> Encoder:
        """Return the encoder. Raises ModelNotNamed where the user has to name it, EncoderError where it cannot be had
        or has changed."""
        key = (identity.encoder_digest, precision)
        if key not in self._loaded:
            self._loaded[key] = self._load(identity, precision)
        return self._loaded[key]

    def note(self, message: str) -> None:
        """Tell the user, each message once."""
        if self._on_note and message and message not in self._noted:
            self._noted.add(message)
            self._on_note(message)

    def _load(self, identity: Identity, precision: str) -> Encoder:
        from .by_name import brings_own_files, load_encoder

        own = [named for named in self._models if _is_named(identity, named)][:1]
        from_elsewhere = brings_own_files(identity.model, identity.pretrained)
        if not own and not from_elsewhere and not (self._insist and self._models):
            own = [(identity.model, identity.pretrained)]
        size, clip = image_size_of(identity), clip_size_of(identity)
        for named in own or self._models:  # the same weights may lie elsewhere now
            try:
                encoder = load_encoder(
                    *named, device=self._device, precision=precision, image_size=size, frames=clip
                )
            except EncoderError as error:
                raise EncoderError(
                    f"the encoder of these features, {identity.encoder_name}, is needed: {error}"
                ) from error
            if Identity(encoder.identity, {}, "").encoder_digest == identity.encoder_digest:
                return encoder
        if own:
            raise EncoderError(
                f"{identity.encoder_name} has changed since the features were made: its weights or settings are "
                "others now. Put the old weights back, or extract again into another --cache."
            )
        if from_elsewhere:
            raise ModelNotNamed(
                identity.model, identity.pretrained, [full_name(*named) for named in self._models]
            )
        given = ", ".join(f"--model {full_name(*named)}" for named in self._models)
        raise EncoderError(
            f"the features were made with {identity.encoder_name}, and {given} has other weights or settings. "
            "Leave --model out, or name that one."
        )


def image_size_of(identity: Identity) -> int | None:
    """Return the side of the frames that an encoder saw, where it is not the model's own."""
    try:
        size = identity.encoder["preprocess"]["size"][0]
        natural = identity.encoder["architecture"].get("vision_cfg", {}).get("image_size", size)
    except (KeyError, TypeError, LookupError, AttributeError):
        return None
    return size if size != natural and isinstance(size, int) and 0 < size <= 4096 else None


def clip_size_of(identity: Identity) -> int | None:
    """Return how many frames a clip encoder read at once; None for other encoders."""
    sample = identity.encoder.get("sample")
    size = sample.get("frames") if isinstance(sample, Mapping) else None
    return size if isinstance(size, int) and 0 < size <= 10_000 else None


def _is_named(identity: Identity, named: tuple[str, str]) -> bool:
    """Return whether the user names the model and weights of the identity."""
    model, pretrained = named
    files = {pretrained, os.path.abspath(pretrained)} if pretrained else {""}  # noqa: PTH100 (takes .. out)
    return remembered(model) == identity.model and identity.pretrained in files


def _tell(load: object, message: str) -> None:
    if isinstance(load, EncoderLoader):
        load.note(message)


def collapse_note(texts: TextEmbeddings) -> str:
    """Return a note on phrases that share an embedding, so that nothing can tell them apart; empty where none do."""
    note = shared_embeddings_note(texts.sentence, texts.phrases, "phrases")
    return f"{note}: the text encoder does not know their words." if note else ""


def shared_embeddings_note(embeddings: np.ndarray, names: Sequence[str], what: str) -> str:
    """Return which of the embeddings [n, D] of `names` are the same, as the beginning of a sentence; empty where none
    are.

    Two are the same where their directions are: rounding differs with the batch that a text was in.
    """
    if len(names) < 2:
        return ""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
    # A few fixed projections stand for D dimensions: what differs by rounding alone agrees in all of them.
    axes = np.random.default_rng(0).standard_normal((directions.shape[1], 8)).astype(np.float32)
    _, group, sizes = np.unique(
        np.round(directions @ axes, 3), axis=0, return_inverse=True, return_counts=True
    )
    shared = sizes[group.reshape(-1)] > 1
    if not shared.any():
        return ""
    first = int(shared.argmax())
    second = int(np.flatnonzero(group.reshape(-1) == group.reshape(-1)[first])[1])
    return (
        f"{int(shared.sum()):,} of {len(names):,} {what} share their embedding with another, so nothing can "
        f"tell them apart ({names[first]!r} and {names[second]!r})"
    )
