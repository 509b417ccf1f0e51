"""A second language in an evaluation: its texts, the controls beside it, and the rows that they make.

A gain by a second language may be that of any second sentence about a class, so it is never shown without its controls:

    prompts       sentences of the first language under other prompts, averaged: what an ensemble gains
    permuted      the sentences of the second language, given to other classes: must lose
    twice         the sentences of the first language again: must change nothing
    paraphrase    the classes in other words of the first language, through its text tower

C classes, D dimensions.
Source: "Adapting CLIP for Action Recognition via Dual Semantic Supervision and Temporal Prompt Reparameterization" 2024,
equations 15 to 18, where no such control is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...cache import FeatureCache, Identity, TextEmbeddings
from ...lexicons import Lexicon
from ..choices import LANGUAGE_CONTROLS, LANGUAGE_FUSIONS, check_choice
from ..encoders import (
    EncoderLoader,
    TextTower,
    collapse_note,
    load_text_tower,
    resolve_prompts,
    text_embeddings,
    tower_texts,
)
from ..heads import FUSION_WEIGHTS, HeadConfig, SecondLanguage, is_foreign
from ..scoring import FeatureSource, Scorer, agreement, check_weight, deranged, fuse_languages
from .labels import LabeledVideos
from .results import Comparison, EvaluationError, Result, compare
from .run import evaluate

SAME = "same"
"""As a second text tower: that of the encoder of the features."""


@dataclass(frozen=True)
class LanguageSettings:
    """Which second language, by which text tower, and how it is fused. Raises ValueError for what cannot be."""

    tower: str
    """`same`, or what `load_text_tower` takes: a folder, `demo-zh`, an open_clip model."""
    lexicon: Lexicon
    """The classes in the second language; labels as in the first."""
    pretrained: str = ""
    """Weights of an open_clip model."""
    prompts: tuple[str, ...] = ("{}",)
    own_words: bool = False
    """Concept spotting: whether its own words weigh the frames for its score, in the place of those of the first."""
    weight: float | None = 0.5
    """Of the first language; None: chosen on validation videos."""
    form: str = "scores"
    """What is fused, one of LANGUAGE_FUSIONS."""
    controls: tuple[str, ...] = ("prompts", "permuted")
    control_prompts: tuple[str, ...] = ("clip-kinetics",)
    """Of the control `prompts`: sentences with `{}`, or names of sets."""
    paraphrases: Lexicon | None = None
    """Of the control `paraphrase`."""

    def __post_init__(self) -> None:
        check_choice("form", self.form, LANGUAGE_FUSIONS)
        for control in self.controls:
            check_choice("a control", control, LANGUAGE_CONTROLS)
        if ("paraphrase" in self.controls) != (self.paraphrases is not None):
            raise ValueError("the control paraphrase needs a lexicon of paraphrases, and nothing else does")
        if self.weight is not None:
            check_weight(self.weight)
        for name in ("prompts", "control_prompts"):
            object.__setattr__(self, name, resolve_prompts(getattr(self, name)))

    @property
    def head_fusion(self) -> dict[str, Any]:
        """What `HeadConfig` calls the language, and how it is fused."""
        return {"second": self.lexicon.name, "second_weight": self.weight, "second_form": self.form}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for JSON, flat."""
        values = {
            f"second_{name}": list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }
        values["second_lexicon"] = self.lexicon.name
        values["second_paraphrases"] = self.paraphrases.name if self.paraphrases else ""
        return values


@dataclass(frozen=True)
class Languages:
    """A second language and its controls."""

    settings: LanguageSettings
    seconds: tuple[SecondLanguage, ...]
    """The language first, then its controls."""

    def configs(self, config: HeadConfig) -> list[HeadConfig]:
        """Return the head of one language, and those with each second one; a head that reads no text stays alone."""
        if config.classifier != "text" or config.prompt_context:
            return [config]
        fusion = self.settings.head_fusion
        return [config, *(replace(config, **{**fusion, "second": each.name}) for each in self.seconds)]


def find_languages(
    cache: FeatureCache,
    lexicon: Lexicon,
    settings: LanguageSettings,
    *,
    prompts: Sequence[str] = ("{}",),
    trains: bool = False,
    load: EncoderLoader | None = None,
) -> Languages:
    """Return the texts of a second language and of its controls; the cache keeps them.

    lexicon, prompts    of the first language
    trains              whether heads are trained on it: only then a text tower of another space, or dimension, can be
                        used, through a map that is trained

    Raises EvaluationError for classes that its lexicon lacks, and for a foreign text tower where nothing is trained; what
    `load_text_tower` and `text_embeddings` raise.
    """
    load = load or EncoderLoader()
    first = text_embeddings(cache, lexicon, prompts, words="none", load=load)
    aligned = align(settings.lexicon, lexicon)
    words = "name" if settings.own_words else "none"
    tower: TextTower | None = None
    if settings.tower == SAME:
        texts = text_embeddings(cache, aligned, settings.prompts, words=words, load=load)
    else:
        tower = load_tower(settings, cache.identity)
        texts = tower_texts(cache, aligned, tower, settings.prompts, words=words)
    load.note(collapse_note(texts))
    second = second_language(first, texts, settings, tower, trains=trains, note=load.note)
    return Languages(settings, (second, *_controls(cache, lexicon, first, second, settings, prompts, load)))


def load_tower(settings: LanguageSettings, identity: Identity | None = None) -> TextTower:
    """Return the second text tower, where it is not the encoder's own. Raises EvaluationError where it cannot be had.

    identity    of the features, to know the encoder's own under another name
    """
    try:
        return load_text_tower(settings.tower, settings.pretrained, cache_identity=identity)
    except (ImportError, OSError, ValueError) as error:
        raise EvaluationError(f"the second text tower {settings.tower}: {error}") from error


def second_language(
    first: TextEmbeddings,
    texts: TextEmbeddings,
    settings: LanguageSettings,
    tower: TextTower | None,
    *,
    trains: bool,
    note: Callable[[str], None],
) -> SecondLanguage:
    """Return the language of these texts, and say what its space has to do with that of the features.

    tower    that made them; None: that of the encoder itself

    Raises EvaluationError where it is foreign and nothing is trained.
    """
    name, share = settings.tower, 0.0
    foreign = is_foreign(first.sentence, texts.sentence)
    if first.sentence.shape[1] == texts.sentence.shape[1]:
        share = 100 * agreement(first.sentence, texts.sentence)
    nearest = f"{share:.0f} % of its classes are nearest to their own sentence in the first language"
    if tower is None:
        if foreign:
            note(
                f"The text tower of the features may not know the language of {settings.lexicon.name}: {nearest}."
            )
        foreign = False
    elif foreign:
        here = (
            f"only {nearest}"
            if share
            else f"{texts.sentence.shape[1]} dimensions, not {first.sentence.shape[1]}"
        )
        if not trains:
            raise EvaluationError(
                f"the text tower {name} is of another space than the features ({here}), so its scores mean nothing before a map "
                "between the two is trained: `vidclip fit`, or --protocol few-shot or general. Or take a tower that was "
                "trained with this visual encoder."
            )
        note(
            f"The text tower {name} is of another space than the features ({here}): a map into it is trained."
        )
    elif tower.relation != SAME:
        note(f"The text tower {name} is not that of the features; {nearest}.")
    source = {
        "tower": name,
        "digest": "" if tower is None else tower.digest,
        "lexicon": settings.lexicon.name,
        "lexicon_sha256": settings.lexicon.digest,
        "prompts": list(settings.prompts),
    }
    return SecondLanguage(settings.lexicon.name, texts, settings.own_words, foreign, source)


def align(second: Lexicon, first: Lexicon) -> Lexicon:
    """Return the second lexicon with the classes of the first, in their order. Raises EvaluationError for a class that it
    does not have."""
    if second.labels == first.labels:
        return second
    found = [second.find(label) for label in first.labels]
    missing = [label for label, indices in zip(first.labels, found, strict=True) if len(indices) != 1]
    if missing:
        raise EvaluationError(
            f"the lexicon {second.name} has no class {missing[0]!r} ({len(missing)} of {len(first)} classes are missing): its "
            f"labels have to be those of {first.name}."
        )
    return Lexicon(second.name, [second.phrases[i] for (i,) in found], first.labels, second.source)  # pyright: ignore[reportArgumentType]


def _controls(
    cache: FeatureCache,
    lexicon: Lexicon,
    first: TextEmbeddings,
    second: SecondLanguage,
    settings: LanguageSettings,
    prompts: Sequence[str],
    load: EncoderLoader,
) -> list[SecondLanguage]:
    made = []
    for control in dict.fromkeys(settings.controls):
        if control == "permuted":
            order = deranged(len(lexicon))
            texts = replace(
                second.texts, sentence=second.texts.sentence[order], words=second.texts.words[:0],
                offsets=0 * second.texts.offsets, word_mode="none",
            )  # fmt: skip
            made.append(SecondLanguage(f"{second.name} permuted", texts, projects=second.projects))
        elif control == "twice":
            made.append(SecondLanguage(f"{lexicon.name} twice", first))
        elif control == "prompts":
            texts = text_embeddings(cache, lexicon, settings.control_prompts, words="none", load=load)
            made.append(SecondLanguage(f"{len(settings.control_prompts)} prompts", texts))
        elif settings.paraphrases is not None:
            aligned = align(settings.paraphrases, lexicon)
            plain = prompts if settings.prompts == ("{}",) and settings.tower == SAME else ("{}",)
            texts = text_embeddings(cache, aligned, plain, words="none", load=load)
            made.append(SecondLanguage(settings.paraphrases.name, texts))
    return made


# --- without training


def language_rows(
    languages: Languages,
    first: Scorer,
    texts: TextEmbeddings,
    make: Callable[[TextEmbeddings], Scorer],
    choose: Callable[[Scorer, Scorer], float],
) -> list[Scorer]:
    """Return the second language alone, its fusion with the first, and the fusions of the controls.

    first     the scorer of the first language
    texts     its texts
    make      returns the same kind of scorer of other texts
    choose    returns the weight of the first of two scorers, where the settings have none
    """
    rows: list[Scorer] = []
    for number, language in enumerate(languages.seconds):
        second = make(language.hybrid(texts))
        second.name = f"{first.name}, {language.name}"
        weight = languages.settings.weight
        weight = choose(first, second) if weight is None else weight
        name = f"{first.name} + {language.name} ({weight:g})"
        fused = fuse_languages(first, second, weight, form=languages.settings.form, name=name)
        rows += [second, fused] if number == 0 else [fused]
    return rows


def weight_chooser(
    source: FeatureSource, validation: LabeledVideos | None, n_classes: int, form: str
) -> Callable[[Scorer, Scorer], float]:
    """Return what chooses the weight of the first of two scorers: the one that recognizes most of the validation videos; of
    several, that nearest to 0.5. Raises EvaluationError when it is called without such videos."""

    def choose(first: Scorer, second: Scorer) -> float:
        if validation is None or not len(validation):
            raise EvaluationError(
                "the weight of the languages is chosen on validation videos, and the cache has no split `val` or `validation` "
                "beside the tested one. Name one with --validation-split, or give a number."
            )
        scorers = [fuse_languages(first, second, w, form=form, name=f"{w:g}") for w in FUSION_WEIGHTS]
        results = evaluate(source, validation, scorers, "full-classes", n_classes)
        top1 = {w: r.figures["top1"].mean for w, r in zip(FUSION_WEIGHTS, results, strict=True)}
        return max(top1, key=lambda weight: (top1[weight], -abs(weight - 0.5)))

    return choose


def compare_with_controls(
    languages: Languages, results: Sequence[Result]
) -> list[tuple[int | str | None, Comparison]]:
    """Return (shots, comparison) of every fusion with the second language against those with its controls."""
    second, *controls = (each.name for each in languages.seconds)
    by_name = {
        (result.settings.get("shots"), result.scorer.rpartition(" (")[0]): result for result in results
    }
    found = []
    for (shots, name), result in by_name.items():
        base, _, language = name.rpartition(" + ")
        if language == second:
            others = [by_name.get((shots, f"{base} + {control}")) for control in controls]
            found += [(shots, compare(result, other)) for other in others if other is not None]
    return found
