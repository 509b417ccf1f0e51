"""`vidclip_model.json` of a model folder: what is inside its visual tower that open_clip does not know.

    {"format": "vidclip-model", "version": 1, "tower": {"kind": "token-t1d", "frames": 8, "start": "shift"}}

Without that file, a folder is one of open_clip's. With `frozen`, the weights of the towers are not in the folder but those
of a name. This module imports no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...choices import PROMPT_PARTS, REPARAMETERIZATIONS, TOWER_STARTS, TOWERS, check_choice

TOWER_FILE = "vidclip_model.json"
FORMAT = "vidclip-model"
VERSION = 1
_MOST_FRAMES = 4096
_MOST_PROMPTS = 4096
_LARGEST_SHARE = 1000


@dataclass(frozen=True)
class PromptConfig:
    """Which prompts frames attend to beside their own tokens, see `temporal_prompts`. Raises ValueError."""

    parts: str = "CGI"
    """C: a summary of the clip; G: vectors that all frames share; I: a message of each frame."""
    global_prompts: int = 8
    """S: the number of G."""
    layers: str = "all"
    """Which layers have prompts: all, or last:4, the last four."""
    init: str | float = 1.0
    """How large G and the vectors of I begin: this share of the root mean square of the tokens that they join; vita: as
    Vita-CLIP has them, whatever the tokens are."""
    gate: bool = False
    """Whether a trained number a head, first -4, is added to the attention logits of the prompts."""
    temporal_embedding: bool = False
    """Whether a trained vector of each frame is added to its tokens before the first layer."""
    global_per_frame: bool = False
    """Whether each of the T frames has vectors G of its own."""
    reparameterization: str = "r2plus1d"
    """The core of the encoder beta that the prompts pass, or none."""
    residual: bool = True
    """Whether beta is added to the prompts, or takes their place."""
    shared: bool = False
    """Whether all layers have the same beta."""

    def __post_init__(self) -> None:
        if not isinstance(self.parts, str) or self.parts not in PROMPT_PARTS:
            raise ValueError(f"parts must be one of {', '.join(PROMPT_PARTS)}, got {self.parts!r}")
        check_choice("reparameterization", self.reparameterization, REPARAMETERIZATIONS)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool" and not isinstance(value, bool):
                raise ValueError(f"{field.name} must be true or false, got {value!r}")
        if type(self.global_prompts) is not int or not 1 <= self.global_prompts <= _MOST_PROMPTS:
            raise ValueError(
                f"global_prompts must be a whole number from 1 to {_MOST_PROMPTS}, got {self.global_prompts!r}"
            )
        if not isinstance(self.layers, str) or not re.fullmatch(
            r"all|last:[1-9][0-9]{0,3}", self.layers, re.ASCII
        ):
            raise ValueError(f"layers must be all, or last:K for the last K of them, got {self.layers!r}")
        if isinstance(self.init, bool) or not isinstance(self.init, (int, float, str)):
            raise ValueError(f"init must be vita or a share, got {self.init!r}")
        if isinstance(self.init, str):
            check_choice("init", self.init, ("vita",))
        elif not 0 < self.init <= _LARGEST_SHARE or not math.isfinite(self.init):
            raise ValueError(f"init must be above 0 and at most {_LARGEST_SHARE}, got {self.init!r}")

    def places(self, n_layers: int) -> range:
        """Return which of L layers have prompts. Raises ValueError where there are too few."""
        if self.layers == "all":
            return range(n_layers)
        last = int(self.layers.partition(":")[2])
        if last > n_layers:
            raise ValueError(f"layers {self.layers}: the tower has {n_layers}")
        return range(n_layers - last, n_layers)

    def per_frame(self, frames: int) -> int:
        """Return P: how many prompts a frame attends to in a layer."""
        counts = {"C": 1, "G": self.global_prompts, "I": frames}
        return sum(counts[part] for part in self.parts)


@dataclass(frozen=True)
class TowerConfig:
    """What is put inside a visual tower. Raises ValueError for values that cannot be."""

    kind: str
    frames: int
    """T: so many neighbors in a batch are a clip, and see each other."""
    start: str | None = None
    """How what is trained begins, see `TOWER_STARTS`; None: in the usual way, or nothing is trained."""
    prompts: PromptConfig | None = None
    """Of temporal-prompts; None there: as the paper has them."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, TOWERS[1:])
        starts = TOWER_STARTS.get(self.kind, (None,))
        if self.start is None:
            object.__setattr__(self, "start", starts[0])
        check_choice(f"the start of {self.kind}", self.start, starts)
        if type(self.frames) is not int or not 1 <= self.frames <= _MOST_FRAMES:
            raise ValueError(f"frames must be a whole number from 1 to {_MOST_FRAMES}, got {self.frames!r}")
        if self.kind == "temporal-prompts" and self.prompts is None:
            object.__setattr__(self, "prompts", PromptConfig())
        if self.kind != "temporal-prompts" and self.prompts is not None:
            raise ValueError(f"prompts go with temporal-prompts, not with {self.kind}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON, which `from_dict` reads back; `start` and `prompts` where there are some."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Any) -> TowerConfig:
        """Return what `to_dict` wrote. Raises ValueError for anything else."""
        known = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or not {"kind", "frames"} <= set(data) <= known:
            raise ValueError(f"{TOWER_FILE} does not say what is inside the tower")
        prompts = data.get("prompts")
        if prompts is None:
            return cls(**data)
        if not isinstance(prompts, Mapping):
            raise ValueError(f"{TOWER_FILE}: prompts must be a table, got {prompts!r}")
        unknown = sorted(set(prompts) - {field.name for field in fields(PromptConfig)})
        if unknown:
            raise ValueError(f"{TOWER_FILE}: there is no setting {unknown[0]!r} of prompts")
        return cls(**{**data, "prompts": PromptConfig(**prompts)})


@dataclass(frozen=True)
class FrozenWeights:
    """Whose weights the towers have, where the folder has the prompts alone. Raises ValueError."""

    model: str
    """A name that comes with the package, or that open_clip knows."""
    pretrained: str
    """Its tag; empty for what comes with the package."""
    weights_sha256: str
    """See `identity.weights_digest`."""

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) for value in asdict(self).values()):
            raise ValueError(f"{TOWER_FILE}: frozen must be names and a digest")
        if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}", self.model) or not re.fullmatch(
            r"[A-Za-z0-9_.\-]{0,200}", self.pretrained
        ):
            raise ValueError(f"{TOWER_FILE}: frozen must be called by a name, got {self.model!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.weights_sha256):
            raise ValueError(f"{TOWER_FILE}: {self.weights_sha256!r} is no SHA-256")


def read_tower(folder: Path) -> tuple[TowerConfig | None, FrozenWeights | None]:
    """Return what is inside the tower of a model folder, None where it is as open_clip makes it; and whose weights the
    towers have, None where they are in the folder.

    Raises ValueError for a file that says something else; OSError.
    """
    try:
        document = json.loads((folder / TOWER_FILE).read_bytes())
    except FileNotFoundError:
        return None, None
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (
        FORMAT,
        VERSION,
    ):
        raise ValueError(f"{TOWER_FILE} is of another format or version")
    tower, frozen = TowerConfig.from_dict(document.get("tower")), document.get("frozen")
    if frozen is None:
        return tower, None
    if not isinstance(frozen, dict) or set(frozen) != {field.name for field in fields(FrozenWeights)}:
        raise ValueError(f"{TOWER_FILE} does not say whose weights are frozen")
    if tower.kind != "temporal-prompts":
        raise ValueError(f"{TOWER_FILE}: frozen goes with temporal-prompts, not with {tower.kind}")
    return tower, FrozenWeights(**frozen)


def tower_document(config: TowerConfig, frozen: FrozenWeights | None = None) -> bytes:
    """Return the content of `vidclip_model.json`."""
    document = {"format": FORMAT, "version": VERSION, "tower": config.to_dict()}
    if frozen is not None:
        document["frozen"] = asdict(frozen)
    return (json.dumps(document, indent=2) + "\n").encode()
