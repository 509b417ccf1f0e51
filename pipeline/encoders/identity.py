"""What identifies an encoder, whatever its name: digests of weights, activations, tokenizer probes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from open_clip.transformer import QuickGELU

# Texts whose tokens tell two tokenizers apart: cases, digits, punctuation, several scripts.
_PROBES = ("a photo of a Cat.", "backflip (human) 1234", "rock-climbing; café", "打篮球的人", "ну и ну", "")


def weights_digest(network: torch.nn.Module) -> str:
    """Return the SHA-256 over the name, type, shape and bytes of every tensor: the same weights, in whatever file."""
    return state_digest(network.state_dict())


def state_digest(state: Mapping[str, Any]) -> str:
    """Return what `weights_digest` does, of some tensors of a network."""
    sha = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        stored = tensor.detach().cpu().contiguous()
        sha.update(f"{name}|{stored.dtype}|{tuple(stored.shape)}|".encode())
        sha.update(memoryview(stored.reshape(-1).view(torch.uint8).numpy()))
    return sha.hexdigest()


def activation_of(network: torch.nn.Module) -> str:
    """Return the nonlinearities of both towers: `quick_gelu`, `gelu`, `gelu+relu`, ..."""
    names = set()
    for module in network.modules():
        if isinstance(module, QuickGELU):
            names.add("quick_gelu")
        elif "gelu" in type(module).__name__.lower():
            names.add("gelu")
        elif isinstance(module, torch.nn.ReLU):
            names.add("relu")
        elif isinstance(module, torch.nn.SiLU):
            names.add("silu")
    return "+".join(sorted(names)) or "unknown"


def tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    """Return the kind of a tokenizer, its context length, and a digest of the tokens of a few telling texts."""
    tokens = tokenizer(list(_PROBES))
    return {
        "kind": type(tokenizer).__name__,
        "context_length": int(tokens.shape[1]),
        "probes_sha256": tokenizer_probes(lambda texts: tokenizer(texts).tolist()),
    }


def tokenizer_probes(tokenize: Callable[[list[str]], list[list[int]]]) -> str:
    """Return the SHA-256 of the tokens of a few telling texts."""
    return hashlib.sha256(str(tokenize(list(_PROBES))).encode()).hexdigest()


def vocabulary_digest(tokenizer: Any) -> str:
    """Return the SHA-256 of the tokens that a tokenizer of transformers knows, and their numbers."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
