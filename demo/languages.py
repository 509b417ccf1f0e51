"""The demo's world in other words: true sentences about stills in Chinese, or in an English that its encoder has not read.

A language is a lexicon of the world's phrases, one of its actions and one of its pairs of opposite order, each in the
order of the English ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from open_clip.tokenizer import SimpleTokenizer

from ..lexicons import load_lexicon
from .captions import FACTS, MAX_ATTRIBUTES, PHRASES, Facts
from .places import PLACES
from .tokens import CONTEXT


@dataclass(frozen=True)
class Language:
    """What a phrase of the world is called, and how phrases become a sentence."""

    name: str
    phrases: Mapping[str, str]
    """By the English phrase or the name of the action."""
    prompts: tuple[str, ...]
    """Around a phrase, each with one `{}`."""
    comma: str
    """Between the attributes of a list."""


def load_language(name: str) -> Language:
    """Return `zh`, Chinese, or `paraphrase`, English sentences with a subject and a verb."""
    prompts, comma = {
        "zh": (("关于{}的视频", "{}"), "、"),
        "paraphrase": (("a video in which {}", "{}"), ","),
    }[name]
    lexicons = [load_lexicon(f"{each}-{name}") for each in ("demo", "demo-classes", "demo-order")]
    phrases = {
        label: phrase for each in lexicons for label, phrase in zip(each.labels, each.phrases, strict=True)
    }
    return Language(name, phrases, prompts, comma)


def sentence(row: np.ndarray, language: Language, rng: np.random.Generator) -> tuple[str, Facts]:
    """Return a true sentence about a still, and what it asserts: the name of its action in a prompt, or attributes.

    row    [len(FACTS)] 1 for each fact of the still; unseen pairs are none of them, and are never named
    """
    facts = frozenset(FACTS[i] for i in np.flatnonzero(row))
    names = [phrase for phrase, asserted in _NAMES.items() if asserted <= facts]
    prompt = language.prompts[rng.integers(len(language.prompts))]
    if names and rng.random() < 0.55:
        name = names[rng.integers(len(names))]
        return prompt.replace("{}", language.phrases[name]), _NAMES[name]
    true = [phrase for phrase, asserted in PHRASES.items() if asserted <= facts]
    # As in the captions of the packaged encoder, places and shirts are told less often: every still has some.
    weights = np.array([0.35 if phrase in PLACES or phrase.endswith("shirt") else 1.0 for phrase in true])
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, MAX_ATTRIBUTES))
    chosen = rng.choice(len(true), size=min(count, len(true)), replace=False, p=weights / weights.sum())
    text = language.comma.join(language.phrases[true[k]] for k in chosen)
    return prompt.replace("{}", text), frozenset().union(*(PHRASES[true[k]] for k in chosen))


def tokenize(texts: list[str], tokenizer: SimpleTokenizer) -> np.ndarray:
    """Return tokens [n, CONTEXT] int64 of texts, cut behind the context."""
    return tokenizer(texts, context_length=CONTEXT).numpy()


def _names() -> dict[str, Facts]:
    """Return what the name of each action asserts that captions may say."""
    from .actions import ACTIONS, ORDER_PAIRS

    known: dict[str, Facts] = {}
    for action in ACTIONS:
        if action.seen:
            known[action.name] = frozenset(
                (f"verb:{action.verb}", f"prop:{action.prop}", f"pair:{action.name}")
            )
    for pair in ORDER_PAIRS:
        for action in pair:
            known[action.name] = frozenset((f"story:{pair[0].prop}", f"prop:{pair[0].prop}"))
    return known


_NAMES = _names()
