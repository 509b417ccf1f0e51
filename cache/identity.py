"""The identity of a cache: the encoder and the sampling that shaped its features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


def canonical_json(value: Any) -> str:
    """Return one text for equal values: sorted keys, no spaces, tuples as lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of(value: Any) -> str:
    """Return the SHA-256, hexadecimal, of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Identity:
    """The encoder and sampling whose features a cache holds.

    Two identities are the same when `encoder` and `sampling` are; `model` and `pretrained` are the
    names under which the encoder was asked for, kept to load it again and to name it in messages.
    The same weights under two paths are one encoder; two weight files under one name are two.
    """

    encoder: Mapping[str, Any]
    """Architecture, weights digest, preprocessing, activation, tokenizer, dimension: JSON-able."""

    sampling: Mapping[str, Any]
    """Frames, clips, crops, mode, position, resize; crop_positions where it is not `longer-side`, seed where frames are
    random: JSON-able."""

    model: str
    """As given to `--model`, paths made absolute."""

    pretrained: str = ""
    """As given to `--pretrained`, paths made absolute; empty where the model names its weights."""

    def __post_init__(self) -> None:
        # Through JSON once, so that what was computed equals what was read back (tuples, integer keys).
        object.__setattr__(self, "encoder", json.loads(canonical_json(self.encoder)))
        object.__setattr__(self, "sampling", json.loads(canonical_json(self.sampling)))

    @property
    def encoder_digest(self) -> str:
        """SHA-256 of the encoder alone, to which text embeddings belong, whatever the sampling."""
        return digest_of(self.encoder)

    @property
    def digest(self) -> str:
        """SHA-256 of encoder and sampling together; every shard carries it."""
        return digest_of({"encoder": self.encoder, "sampling": self.sampling})

    @property
    def encoder_name(self) -> str:
        """`ViT-B-16 (openai)`: the encoder as its user named it."""
        return f"{self.model} ({self.pretrained})" if self.pretrained else self.model

    def __str__(self) -> str:
        return f"{self.encoder_name}, {describe_sampling(self.sampling)}"

    def differences(self, other: Identity) -> list[tuple[str, Any, Any]]:
        """Return where two identities differ, as (dotted key, value here, value there); empty where they are equal."""
        mine = dict(_leaves({"encoder": self.encoder, "sampling": self.sampling}))
        theirs = dict(_leaves({"encoder": other.encoder, "sampling": other.sampling}))
        return [
            (key, mine.get(key), theirs.get(key))
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "pretrained": self.pretrained,
            "encoder": dict(self.encoder),
            "sampling": dict(self.sampling),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Identity:
        """Return what `to_dict` wrote. Raises ValueError where a part is missing or of the wrong kind."""
        for key, kind in {"encoder": dict, "sampling": dict, "model": str, "pretrained": str}.items():
            if not isinstance(values.get(key), kind):
                raise ValueError(f"{key!r} is missing or is not a {kind.__name__}")
        return cls(values["encoder"], values["sampling"], values["model"], values["pretrained"])


def describe_sampling(sampling: Mapping[str, Any]) -> str:
    """Return `8 frames, 4 x 3 views`: what tells two samplings apart at a glance."""
    words = [f"{sampling.get('frames', '?')} frames"]
    clips, crops = sampling.get("clips", 1), sampling.get("crops", 1)
    if (clips, crops) != (1, 1):
        words.append(f"{clips} x {crops} views")
    if (crop_positions := sampling.get("crop_positions", "longer-side")) != "longer-side":
        words.append(f"crops along the {crop_positions}")
    if sampling.get("mode", "uniform") != "uniform":
        words.append(str(sampling["mode"]))
    elif sampling.get("position", "start") != "start":
        words.append(f"{sampling['position']} of segment")
    if (seed := sampling.get("seed")) is not None:
        words.append(f"seed {seed}")
    return ", ".join(words)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
