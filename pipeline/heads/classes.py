"""The classes of a head: their texts, from a cache or an encoder, and a stored head over other classes.

C classes, D dimensions of the joint space, M vectors of a learned prompt, E dimensions of a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...cache import FeatureCache, TextEmbeddings
from ...lexicons import Lexicon, lexicon_of_labels
from ..encoders import (
    EncoderLoader,
    check_has_text,
    check_has_time,
    collapse_note,
    shared_embeddings_note,
    text_embeddings,
)
from .attributes_head import AttributesHead
from .checkpoint import HeadError, StoredHead
from .languages import SecondLanguage
from .video_head import HeadConfig, VideoHead, word_queries
from .video_prompts import XClipHead

if TYPE_CHECKING:  # it brings open_clip, which takes seconds to import
    from .prompt_learner import PromptLearner


@dataclass(frozen=True)
class ClassTexts:
    """What is known of the C classes, whatever their videos."""

    names: tuple[str, ...]
    texts: TextEmbeddings | None = None
    """Their sentences, for the text classifier, and words, for concept spotting."""
    prompt: PromptLearner | None = field(default=None, repr=False)
    """Embeds the names behind context vectors, where such are trained."""
    seconds: Mapping[str, SecondLanguage] = field(default_factory=dict)
    """Second languages, by the name that `HeadConfig.second` gives."""

    def class_embeddings(self, context: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sentence embeddings [C, D] float32, not normalized.

        context    [M, E] vectors of the prompt learner, with gradient to them; None: the prompts as they stand

        Raises ValueError where the texts, or for a context the prompt learner, are not there.
        """
        if context is None and self.texts is not None:
            return torch.from_numpy(self.texts.sentence)
        if context is None or self.prompt is None:
            raise ValueError("class embeddings need texts, or a prompt learner for a context")
        return self.prompt(context)


def class_texts(
    cache: FeatureCache,
    lexicon: Lexicon,
    configs: Sequence[HeadConfig],
    *,
    prompts: Sequence[str] = ("{}",),
    text_encoder: Path | None = None,
    load: EncoderLoader | None = None,
) -> ClassTexts:
    """Return the names, texts and prompt learner of a lexicon, as far as heads of `configs` need them.

    text_encoder    folder of a Hugging Face text encoder that embeds the names in the place of the cache's encoder

    Raises ValueError, by the name of the setting, for a text encoder that cannot be read, that goes with concept
    spotting, a learned prompt or several prompts, and for configs whose words or prompt lengths differ or leave no
    room for names; EncoderError for a temporal module or concept spotting over one embedding a video of a clip encoder,
    and for texts of an encoder without text tower; what `text_embeddings` raises.
    """
    load = load or EncoderLoader()
    for config in configs:
        for wanted, what in (
            (config.temporal != "mean", f"The temporal module {config.temporal}"),
            (config.pool == "vcs", "Concept spotting (the pool vcs)"),
        ):
            if wanted:
                check_has_time(cache.identity, cache.shape[2], what)
    words = {config.words for config in configs if config.pool == "vcs"}
    lengths = {config.prompt_context for config in configs if config.prompt_context}
    for name, values in (("words", words), ("prompt_context", lengths)):
        if len(values) > 1:
            raise ValueError(
                f"{name} must be the same for all heads, got {', '.join(map(str, sorted(values)))}"
            )
    texts = prompt = None
    needs_texts = bool(words) or any(config.classifier == "text" for config in configs)
    if needs_texts and text_encoder is not None:
        if words or lengths:
            raise ValueError(
                "text_encoder goes without pool vcs and prompt_context: these need CLIP's own words"
            )
        if len(prompts) > 1:
            raise ValueError("text_encoder reads one prompt; several are averaged by CLIP's own alone")
        try:
            texts = foreign_texts(text_encoder, lexicon.phrases, prompts)
        except ValueError as error:
            raise ValueError(f"text_encoder: {error}") from error
    elif needs_texts:
        texts = text_embeddings(cache, lexicon, prompts, words=min(words, default="none"), load=load)
    if lengths:
        from .prompt_learner import PromptLearner

        check_has_text(cache.identity)
        length = lengths.pop()
        try:
            prompt = PromptLearner(load(cache.identity), lexicon.phrases, length)
        except ValueError as error:
            raise ValueError(f"prompt_context {length}: {error}") from error
    return ClassTexts(lexicon.labels, texts, prompt)


def foreign_texts(text_encoder: Path, phrases: Sequence[str], prompts: Sequence[str]) -> TextEmbeddings:
    """Return the sentence embeddings of phrases in one prompt by a Hugging Face text encoder, without words.

    Raises ValueError for one that cannot be read.
    """
    from ..encoders import transformers_sentences

    (prompt,) = prompts
    try:
        sentence = transformers_sentences(text_encoder, phrases, prompt)
    except (OSError, ImportError) as error:
        raise ValueError(str(error)) from error
    no_words = np.zeros(len(phrases) + 1, np.int64)
    return TextEmbeddings(tuple(phrases), (prompt,), "none", sentence, sentence[:0], no_words)


def head_over(
    stored: StoredHead,
    lexicon: Lexicon | None,
    load: EncoderLoader,
    cache: FeatureCache | None = None,
    *,
    video_prompts: bool = True,
) -> VideoHead | XClipHead:
    """Return the stored head over the classes of `lexicon`.

    lexicon    None: the head's own classes. Where the head knows all names, it keeps its class embeddings for
               them; else new ones are made of their texts
    cache      keeps these texts; None: they are encoded anew
    video_prompts    of X-CLIP's head; False: its integration transformer alone, which reads no patch tokens

    Raises HeadError for an attributes head, unknown names where the classes are fixed, and a learned prompt that does
    not fit the text tower; what `load` and `text_embeddings` raise.
    """
    head = stored.module
    if isinstance(head, AttributesHead):
        raise HeadError("this is an attributes head: `vidclip eval --head` uses it, on stored attributes.")
    if isinstance(head, XClipHead) and not video_prompts:
        head = head.without_prompts()
    spots = isinstance(head, VideoHead) and head.config.pool == "vcs"
    if not spots and (cache is None or lexicon is None):
        own_embeddings = head.class_embeddings.detach().cpu().numpy()
        shared = shared_embeddings_note(own_embeddings, stored.classes, "classes of the head")
        load.note(f"{shared}." if shared else "")
    if lexicon is None:
        return head
    own = lexicon_of_labels(stored.classes)
    found = [own.find(label) for label in lexicon.labels]
    if all(len(indices) == 1 for indices in found):
        position = {name: i for i, name in enumerate(stored.classes)}
        return head.select([position[own.labels[index]] for (index,) in found])
    unknown = [label for label, indices in zip(lexicon.labels, found, strict=True) if len(indices) != 1]
    fixed = isinstance(head, VideoHead) and (head.config.classifier != "text" or head.multi_label is not None)
    if isinstance(head, VideoHead) and head.second is not None:
        raise HeadError(
            f"the head reads its {len(stored.classes)} classes in two languages, and {unknown[0]!r} is none of them "
            f"({len(unknown)} such). Use the --lexicon it was trained with."
        )
    if fixed or stored.settings.get("text_encoder"):
        raise HeadError(
            f"the head was trained for {len(stored.classes)} classes, and {unknown[0]!r} is none of them "
            f"({len(unknown)} such): the classes of this classifier are fixed. Use the --lexicon it was trained with."
        )
    words = head.config.words if isinstance(head, VideoHead) and spots else "none"
    if cache is None:
        texts = load(stored.identity).encode_text(lexicon.phrases, stored.prompts, words=words)
        load.note(collapse_note(texts))
    else:
        texts = text_embeddings(cache, lexicon, stored.prompts, words=words, load=load)
    prompt = None
    if stored.context is not None:
        from .prompt_learner import PromptLearner

        prompt = PromptLearner(load(stored.identity), lexicon.phrases, len(stored.context))
        if prompt.width != stored.context.shape[1]:
            raise HeadError(
                f"the head's learned prompt has vectors of {stored.context.shape[1]} dimensions, the text tower "
                f"{prompt.width}: the file is damaged."
            )
    embeddings = ClassTexts(lexicon.labels, texts, prompt).class_embeddings(stored.context)
    rows = embeddings.detach().cpu().numpy()
    if isinstance(head, XClipHead):
        return head.with_classes(rows)
    return head.with_classes(rows, word_queries(texts) if spots else None)
