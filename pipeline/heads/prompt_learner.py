"""A prompt that is learned: vectors before the class name's tokens, trained through the frozen text tower.

    [V]_1 [V]_2 ... [V]_M [class name].

The M context vectors live where the tower's token embeddings do, and all classes share them. Nothing else
learns. C classes, M context vectors, L tokens, E dimensions of a token, D of the joint space.
Source: Wu et al. 2023 (Text4Vis), equation 7 and Table A.4 (M = 4); Zhou et al. 2022 (CoOp), whose full stop after
the name is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..encoders import Encoder, EncoderError, content_positions, content_tokens

CONTEXT_STD = 0.02
"""Of random context vectors, as CoOp and CLIP's own token embeddings start."""

# Words that hold the places of the context vectors: any will do that is one token, again and again.
_PLACEHOLDERS = ("X", "a", "the", "video")


class PromptUnavailable(EncoderError):
    """A text tower or tokenizer that a learned prompt cannot be put into."""


class LearnedPrompt(nn.Module):
    """Sentence embeddings of C class names behind M learned context vectors.

    encoder     held in fp32; its text tower is run with gradient through it but to no weight of it
    phrases     the class names
    length      M
    seed        of random context vectors: N(0, 0.02)
    start       a phrase of M tokens ("a video of a") to start from instead
    batch_size  classes that pass the tower at once. With more classes than that, only one batch's activations
                are kept, and the backward pass runs the tower a second time

    `context` [M, E] is the one parameter, and all of `state_dict()`. `truncated` names the phrases that were longer
    than the tower's context and have been cut.
    Raises ValueError for no phrases, numbers below 1, a start of other than M tokens, or an M that leaves no
    room for names; PromptUnavailable for a tower whose token embeddings cannot be found.
    """

    def __init__(
        self,
        encoder: Encoder,
        phrases: Sequence[str],
        length: int = 4,
        seed: int = 0,
        start: str = "",
        *,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        for name, value in (("length", length), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if encoder.precision != "fp32":
            raise PromptUnavailable(
                f"a learned prompt is trained in fp32, and {encoder.name} is held in {encoder.precision}."
            )
        # An Encoder is no nn.Module: its weights are neither parameters nor state of this one. Modules of its
        # network would be, so none is kept here.
        self.encoder = encoder
        self.phrases = tuple(phrases)
        self.batch_size = batch_size
        room = encoder.tokenizer([""]).shape[1]
        if length >= room:
            raise ValueError(_no_room(length, room, encoder))
        self._placeholders = _placeholders(encoder, length)
        tokens, self._places, self.truncated = self._tokenize(self.phrases)
        self._tokens = tokens
        self.context = nn.Parameter(self._first_context(length, seed, start))

    def forward(self) -> torch.Tensor:
        """Sentence embeddings [C, D] float32 on the encoder's device, not normalized, with gradient to `context`."""
        return self._encode(self._tokens, self._places)

    @torch.no_grad()
    def encode(self, phrases: Sequence[str]) -> torch.Tensor:
        """Sentence embeddings [n, D] of other class names behind the same context, without gradient.

        Names too long for the tower's context are cut. Raises ValueError for no phrases.
        """
        tokens, places, _ = self._tokenize(phrases)
        return self._encode(tokens, places)

    def extra_repr(self) -> str:
        return f"length={len(self.context)}, classes={len(self.phrases)}"

    def _encode(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        pieces = list(zip(tokens.split(self.batch_size), places.split(self.batch_size), strict=True))
        if len(pieces) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._pass(*piece) for piece in pieces])
        return torch.cat(
            [
                checkpoint(self._pass, *piece, use_reentrant=False, preserve_rng_state=False)
                for piece in pieces
            ]  # type: ignore[arg-type]
        )

    def _pass(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """[c, D] of tokens [c, L], whose places [c, M] take the context vectors."""
        network = self.encoder.network
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        times = 0

        def put(_module: nn.Module, _inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
            nonlocal times
            times += 1
            vectors = self.context.to(embedded.device, embedded.dtype)
            return embedded.index_put((rows, places), vectors.expand(len(tokens), -1, -1))

        with (
            _token_embedding(network).register_forward_hook(put),
            _reads_until_its_end(network, tokens),
            torch.autocast(tokens.device.type, enabled=False),
        ):
            sentences = network.encode_text(tokens)
        if times != 1:
            raise PromptUnavailable(
                f"the text tower of {self.encoder.name} looked its tokens up {times} times, where a learned prompt "
                "needs once. Use a fixed prompt."
            )
        return sentences.float()

    def _tokenize(self, phrases: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
        """(tokens [C, L] on the encoder's device, the context's places in them [C, M], phrases cut)."""
        if not phrases:
            raise ValueError("no phrases to put a prompt before")
        tokenizer = self.encoder.tokenizer
        words, ids = self._placeholders
        texts = [f"{words} {phrase}." for phrase in phrases]
        tokens = tokenizer(texts)
        found = content_positions(tokenizer, tokens)
        whole = content_tokens(tokenizer, texts, 4 * tokens.shape[1])
        truncated = []
        for phrase, row, places, all_tokens in zip(phrases, tokens.tolist(), found, whole, strict=True):
            if len(all_tokens) > len(places):
                truncated.append(phrase)
                if len(places) <= len(ids):
                    raise ValueError(_no_room(len(ids), tokens.shape[1], self.encoder))
            if [row[i] for i in places[: len(ids)]] != ids:
                raise PromptUnavailable(
                    f"the tokenizer of {self.encoder.name} does not leave what stands before {phrase!r} as it is, so "
                    "a learned prompt has no place. Use a fixed prompt."
                )
        places = torch.tensor([places[: len(ids)] for places in found])
        device = self.encoder.device
        return tokens.to(device), places.to(device), tuple(dict.fromkeys(truncated))

    @torch.no_grad()
    def _first_context(self, length: int, seed: int, start: str) -> torch.Tensor:
        """[M, E] float32: the embeddings of `start`, or random ones, the same on every device."""
        device = self.encoder.device
        embedding = _token_embedding(self.encoder.network)
        if not start:
            width = embedding(self._tokens[:1, :1]).shape[-1]
            generator = torch.Generator().manual_seed(seed)
            return (torch.randn(length, width, generator=generator) * CONTEXT_STD).to(device)
        [ids] = content_tokens(self.encoder.tokenizer, [start])
        if len(ids) != length:
            raise ValueError(
                f"the start {start!r} has {len(ids)} tokens, but the prompt {length}; give length {len(ids)}"
            )
        return embedding(torch.tensor([ids], device=device))[0].float().clone()


def _no_room(length: int, room: int, encoder: Encoder) -> str:
    return f"a prompt of {length} tokens leaves no room for names in the {room} of {encoder.name}; give a smaller length"


def _token_embedding(network: Any) -> nn.Module:
    """The module that turns tokens into vectors."""
    for tower in (network, getattr(network, "text", None)):
        found = getattr(tower, "token_embedding", None)
        if isinstance(found, nn.Module):
            return found
    inner: Any = getattr(getattr(network, "text", None), "transformer", None)
    if inner is not None and hasattr(inner, "get_input_embeddings"):  # a Hugging Face tower
        with contextlib.suppress(NotImplementedError):
            found = inner.get_input_embeddings()
            if isinstance(found, nn.Module):
                return found
    raise PromptUnavailable(
        f"the token embeddings of the text tower {type(getattr(network, 'text', network)).__name__} cannot be found, "
        "so it takes no learned prompt. Use a fixed prompt."
    )


def _placeholders(encoder: Encoder, length: int) -> tuple[str, list[int]]:
    """(`length` words, their tokens): words that are one token each, wherever they stand."""
    for word in _PLACEHOLDERS:
        words = " ".join([word] * length)
        # Room enough: that the tower's context may be too short is for `_tokenize` to say.
        [ids] = content_tokens(encoder.tokenizer, [words], 4 * length + 16)
        if len(ids) == length:
            return words, ids
    raise PromptUnavailable(
        f"the tokenizer of {encoder.name} makes one token of none of the words {', '.join(_PLACEHOLDERS)}, which "
        "would hold the place of a learned prompt. Use a fixed prompt."
    )


@contextlib.contextmanager
def _reads_until_its_end(network: Any, tokens: torch.Tensor) -> Iterator[None]:
    """Inside, a causal tower that pools at the end-of-text token runs its blocks only up to the last such token.

    Nothing behind it reaches the sentence embedding, and names are short: with a context of 77 tokens this saves
    most of the work. Other towers run as they are.
    """
    tower = getattr(network, "text", network)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    mask: Any = getattr(tower, "attn_mask", None)
    length = tokens.shape[1]
    causal = isinstance(mask, torch.Tensor) and getattr(tower, "cls_emb", None) is None
    if not causal or pool not in ("argmax", "eos"):
        yield
        return
    if pool == "argmax":
        ends = tokens.argmax(dim=1)
    else:
        ends = (tokens == getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))).int().argmax(dim=1)
    needed = int(ends.max()) + 1

    def cut(_module: nn.Module, inputs: tuple[torch.Tensor, ...], _options: dict[str, Any]) -> Any:
        return (inputs[0][:, :needed],), {"attn_mask": mask[:needed, :needed]}

    def refill(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(output, (0, 0, 0, length - needed))

    with (
        tower.transformer.register_forward_pre_hook(cut, with_kwargs=True),
        tower.transformer.register_forward_hook(refill),
    ):
        yield
