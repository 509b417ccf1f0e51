"""A learned prompt: context vectors before the class name's tokens, trained through the frozen text tower.

    [V]_1 [V]_2 ... [V]_M [class name].

The M context vectors live where the tower's token embeddings do, and all classes share them; nothing else is
trained. C classes, M context vectors, L tokens, E dimensions of a token, D of the joint space.
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

from ..encoders import Encoder, EncoderError, OpenClipEncoder, content_positions, content_tokens

CONTEXT_STD = 0.02
"""Standard deviation of random context vectors, as CoOp and CLIP's own token embeddings start."""

# Words that hold the places of the context vectors: any will do that is one token, again and again.
_PLACEHOLDERS = ("X", "a", "the", "video")


class PromptUnavailable(EncoderError):
    """A text tower or tokenizer that a learned prompt cannot be put into."""


class PromptLearner:
    """Sentence embeddings of C class names behind M context vectors.

    encoder     in fp32; its text tower is run with gradient through it but to no weight of it
    phrases     the class names
    length      M
    batch_size  classes that pass the tower at once. With more classes than that, only one batch's activations
                are kept, and the backward pass runs the tower a second time

    `width` is E. `truncated` names the phrases that were longer than the tower's context and have been cut.
    Raises ValueError for no phrases, numbers below 1, or an M that leaves no room for names; PromptUnavailable for
    a tower whose token embeddings cannot be found.
    """

    def __init__(
        self, encoder: Encoder, phrases: Sequence[str], length: int = 4, *, batch_size: int = 64
    ) -> None:
        if not isinstance(encoder, OpenClipEncoder):
            raise PromptUnavailable(
                f"a learned prompt is put into text towers of open_clip, and {encoder.name} has another. Use a fixed prompt."
            )
        for name, value in (("length", length), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if encoder.precision != "fp32":
            raise PromptUnavailable(
                f"a learned prompt is trained in fp32, and {encoder.name} is in {encoder.precision}."
            )
        self.encoder, self.phrases, self.length = encoder, tuple(phrases), length
        self.batch_size = batch_size
        room = encoder.tokenizer([""]).shape[1]
        if length >= room:
            raise ValueError(_no_room(length, room, encoder))
        self._tokens, self._places, self.truncated = self._tokenize()
        with torch.no_grad():
            self.width = int(_token_embedding(encoder.network)(self._tokens[:1, :1]).shape[-1])

    def initial_context(self, seed: int) -> torch.Tensor:
        """Return context vectors [M, E] float32 from N(0, 0.02), the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        random = torch.randn(self.length, self.width, generator=generator)
        return (random * CONTEXT_STD).to(self.encoder.device)

    def __call__(self, context: torch.Tensor) -> torch.Tensor:
        """Return sentence embeddings [C, D] float32 on the encoder's device, not normalized, with gradient to the
        context [M, E]."""
        pieces = list(
            zip(self._tokens.split(self.batch_size), self._places.split(self.batch_size), strict=True)
        )
        if len(pieces) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._pass(context, *piece) for piece in pieces])
        return torch.cat(
            [
                checkpoint(self._pass, context, *piece, use_reentrant=False, preserve_rng_state=False)
                for piece in pieces
            ]  # type: ignore[arg-type]
        )

    def _pass(self, context: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return [c, D] of tokens [c, L], whose places [c, M] take the context vectors."""
        network = self.encoder.network
        texts = torch.arange(len(tokens), device=tokens.device)[:, None]
        times = 0

        def put(_module: nn.Module, _inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
            nonlocal times
            times += 1
            vectors = context.to(embedded.device, embedded.dtype)
            return embedded.index_put((texts, places), vectors.expand(len(tokens), -1, -1))

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

    def _tokenize(self) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
        """Return (tokens [C, L] on the encoder's device, the context's places in them [C, M], phrases cut)."""
        if not self.phrases:
            raise ValueError("no phrases to put a prompt before")
        tokenizer, device, length = self.encoder.tokenizer, self.encoder.device, self.length
        words, ids = _placeholders(self.encoder, length)
        texts = [f"{words} {phrase}." for phrase in self.phrases]
        tokens = tokenizer(texts)
        found = content_positions(tokenizer, tokens)
        whole = content_tokens(tokenizer, texts, 4 * tokens.shape[1])
        truncated = []
        for phrase, row, places, all_tokens in zip(self.phrases, tokens.tolist(), found, whole, strict=True):
            if len(all_tokens) > len(places):
                truncated.append(phrase)
                if len(places) <= length:
                    raise ValueError(_no_room(length, tokens.shape[1], self.encoder))
            if [row[i] for i in places[:length]] != ids:
                raise PromptUnavailable(
                    f"the tokenizer of {self.encoder.name} does not leave what stands before {phrase!r} as it is, so "
                    "a learned prompt has no place. Use a fixed prompt."
                )
        places = torch.tensor([places[:length] for places in found])
        return tokens.to(device), places.to(device), tuple(dict.fromkeys(truncated))


def _no_room(length: int, room: int, encoder: OpenClipEncoder) -> str:
    return f"a prompt of {length} tokens leaves no room for names in the {room} of {encoder.name}; give a smaller length"


def _token_embedding(network: Any) -> nn.Module:
    """Return the module that turns tokens into vectors."""
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


def _placeholders(encoder: OpenClipEncoder, length: int) -> tuple[str, list[int]]:
    """Return (`length` words, their tokens): words that are one token each, wherever they stand."""
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
    """Run the blocks of a causal tower that pools at the end-of-text token only up to the last such token.

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
