"""Where the class embeddings come from: what a frozen text tower knows of the classes, and what changes in every step.

    trained tower      the texts pass it anew, with gradient
    prompt context     the names pass the frozen tower behind vectors that are trained (CoOp; Text4Vis, A.4)
    drawn prompt       one of several prompts; all of them are known before the first step (X-CLIP)

C classes, D dimensions of the joint space, P prompts, Q words of concept spotting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...lexicons import Lexicon
from ..encoders import EncoderError, OpenClipEncoder, token_embeddings, word_positions
from ..heads import ClassTexts, PromptLearner, foreign_texts
from .errors import FinetuneError
from .languages import names_in_second_language
from .precision import arithmetic
from .recipe import Recipe


def classes_of(
    encoder: OpenClipEncoder, recipe: Recipe, lexicon: Lexicon, note: Callable[[str], None] = lambda _: None
) -> ClassTexts:
    """Return what the recipe's head has to know of the classes before the first step.

    note    called with what the user should know of a second language

    Raises FinetuneError, by the option, for a text encoder that cannot be read and a text tower that takes no learned
    prompt; WordsUnavailable.
    """
    texts = prompt = None
    if recipe.text_encoder is not None:
        try:
            texts = foreign_texts(Path(recipe.text_encoder), lexicon.phrases, recipe.prompts)
        except ValueError as error:
            raise FinetuneError(f"--text-encoder: {error}.") from error
    elif recipe.classifier == "text" or recipe.pool == "vcs":
        words = recipe.words if recipe.pool == "vcs" else "none"
        texts = encoder.encode_text(lexicon.phrases, recipe.prompts, words=words)
    if recipe.prompt_context:
        try:
            prompt = PromptLearner(encoder, lexicon.phrases, recipe.prompt_context)
        except (ValueError, EncoderError) as error:
            raise FinetuneError(
                f"--prompt-context {recipe.prompt_context}: {error}".rstrip(".") + "."
            ) from error
    seconds = {}
    if recipe.second is not None and texts is not None:
        second = names_in_second_language(encoder, texts, recipe.second, lexicon, note)
        seconds[second.name] = second
    return ClassTexts(lexicon.labels, texts, prompt, seconds)


class TextBranch(nn.Module, ABC):
    """Class embeddings of a step. `text_branch` makes one where they differ between steps."""

    @abstractmethod
    def forward(self, network: Any, prompt: int | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (class embeddings [C, D], queries [Q, D] of concept spotting, or None where they do not change).

        network    of the encoder
        prompt     which one; None: all, averaged as `encode_text` does
        """


def text_branch(encoder: OpenClipEncoder, recipe: Recipe, classes: ClassTexts) -> TextBranch | None:
    """Return what the class embeddings come from in each step; None where they stay those of the head."""
    phrases = () if classes.texts is None else classes.texts.phrases
    if recipe.trains_text:
        return _TrainedTower(encoder, recipe, phrases)
    if classes.prompt is not None:
        return _PromptContext(classes.prompt, recipe.seed)
    return _KnownPrompts(encoder, recipe.prompts, phrases) if recipe.prompt_draw else None


class _TrainedTower(TextBranch):
    def __init__(self, encoder: OpenClipEncoder, recipe: Recipe, phrases: Sequence[str]) -> None:
        super().__init__()
        self._recipe = recipe
        self._tokens = [
            encoder.tokenizer([prompt.replace("{}", phrase) for phrase in phrases])
            for prompt in recipe.prompts
        ]
        self._places: list[list[list[int]]] = []
        if recipe.pool == "vcs":
            self._places = [
                word_positions(encoder.tokenizer, prompt, tokens, recipe.words)
                for prompt, tokens in zip(recipe.prompts, self._tokens, strict=True)
            ]

    def forward(self, network: Any, prompt: int | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        parameter = network.logit_scale
        chosen = range(len(self._tokens)) if prompt is None else [prompt]
        sentences, words = [], []
        for p in chosen:
            tokens = self._tokens[p].to(parameter.device)
            with arithmetic(self._recipe, tokens.device, tokens.shape[1]):
                if not self._places:
                    sentences.append(network.encode_text(tokens).to(parameter.dtype))
                    continue
                sentence, embedded = token_embeddings(network, tokens)
            sentences.append(sentence.to(parameter.dtype))
            words.append([own[places] for own, places in zip(embedded, self._places[p], strict=True)])
        queries = None
        if words:  # of each class, one prompt's words after the other's
            queries = torch.cat([own[c] for c in range(len(words[0])) for own in words]).to(parameter.dtype)
        return _average(torch.stack(sentences)), queries


class _PromptContext(TextBranch):
    def __init__(self, learner: PromptLearner, seed: int) -> None:
        super().__init__()
        self._learner = learner
        self.context = nn.Parameter(learner.initial_context(seed))

    def forward(
        self,
        network: Any,  # noqa: ARG002
        prompt: int | None = None,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._learner(self.context), None


class _KnownPrompts(TextBranch):
    sentences: torch.Tensor

    def __init__(self, encoder: OpenClipEncoder, prompts: Sequence[str], phrases: Sequence[str]) -> None:
        super().__init__()
        known = [encoder.encode_text(phrases, (prompt,), words="none").sentence for prompt in prompts]
        self.register_buffer(
            "sentences", torch.stack([torch.from_numpy(each) for each in known]), persistent=False
        )

    def forward(
        self,
        network: Any,  # noqa: ARG002
        prompt: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return _average(self.sentences if prompt is None else self.sentences[prompt, None]), None


def _average(sentences: torch.Tensor) -> torch.Tensor:
    """Return [C, D] of [P, C, D]: see `encoders.average_prompts`."""
    if len(sentences) == 1:
        return sentences[0]
    return F.normalize(F.normalize(sentences, dim=-1).mean(dim=0), dim=-1)
