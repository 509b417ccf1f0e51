"""The class names of a training in a second language."""

from __future__ import annotations

from collections.abc import Callable

from ...cache import TextEmbeddings
from ...lexicons import Lexicon
from ..encoders import EncoderError, OpenClipEncoder, collapse_note
from ..evaluation import SAME, EvaluationError, LanguageSettings, align, load_tower, second_language
from ..heads import SecondLanguage
from .errors import FinetuneError


def names_in_second_language(
    encoder: OpenClipEncoder,
    first: TextEmbeddings,
    settings: LanguageSettings,
    lexicon: Lexicon,
    note: Callable[[str], None],
) -> SecondLanguage:
    """Return the class names in a second language. Raises FinetuneError where they or their tower cannot be had."""
    words = "name" if settings.own_words else "none"
    try:
        aligned = align(settings.lexicon, lexicon)
        tower = None if settings.tower == SAME else load_tower(settings)
        texts = (tower or encoder).encode_text(aligned.phrases, settings.prompts, words=words)
    except (EvaluationError, EncoderError) as error:
        raise FinetuneError(f"--second-text: {error}") from error
    note(collapse_note(texts))
    return second_language(first, texts, settings, tower, trains=True, note=note)
