"""`vidclip_model.json` of a model folder: what is inside its visual tower that open_clip does not know.

    {"format": "vidclip-model", "version": 1, "tower": {"kind": "token-t1d", "frames": 8, "start": "shift"}}

Without that file, a folder is one of open_clip's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

from ...choices import TOWER_STARTS, TOWERS, check_choice
from .cross_frame import CrossFrameBlock
from .joint import join_frames
from .token_shift import T1D, TokenBlock, TokenShift, convolve_bottlenecks, shift_bottlenecks, shift_patches

TOWER_FILE = "vidclip_model.json"
FORMAT = "vidclip-model"
VERSION = 1
_MOST_FRAMES = 4096


@dataclass(frozen=True)
class TowerConfig:
    """What is put inside a visual tower. Raises ValueError for values that cannot be."""

    kind: str
    frames: int
    """T: so many neighbors in a batch are a clip, and see each other."""
    start: str | None = None
    """How what is trained begins, see `TOWER_STARTS`; None: in the usual way, or nothing is trained."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, TOWERS[1:])
        starts = TOWER_STARTS.get(self.kind, (None,))
        if self.start is None:
            object.__setattr__(self, "start", starts[0])
        check_choice(f"the start of {self.kind}", self.start, starts)
        if type(self.frames) is not int or not 1 <= self.frames <= _MOST_FRAMES:
            raise ValueError(f"frames must be a whole number from 1 to {_MOST_FRAMES}, got {self.frames!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; `start` where there is one."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def change_tower(visual: Any, config: TowerConfig, seed: int = 0) -> None:
    """Put into a visual tower what `config` says, in place; `seed` is that of what begins at random.

    Raises ValueError for a tower that cannot take it: all need open_clip's own vision transformer with a class token,
    shifts one of a width that 4 divides; tsm and token-t1d take a ModifiedResNet too.
    """
    if config.kind == "tsm" and isinstance(visual, ModifiedResNet):
        shift_bottlenecks(visual, config.frames)
        return
    if config.kind == "token-t1d" and isinstance(visual, ModifiedResNet):
        convolve_bottlenecks(visual, config.frames, config.start or "")
        return
    blocks: Any = getattr(getattr(visual, "transformer", None), "resblocks", ())
    native = (
        type(visual) is VisionTransformer
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and all(type(block) is ResidualAttentionBlock for block in blocks)
    )
    if not native:
        raise ValueError(
            f"{config.kind} cannot be put inside a {type(visual).__name__}: it needs open_clip's own vision transformer, "
            "with a class token that is its embedding"
            + (", or its ResNet" if config.kind in ("tsm", "token-t1d") else "")
        )
    width = visual.class_embedding.shape[0]
    if width % 4 and config.kind not in ("cross-frame", "joint"):
        raise ValueError(f"{config.kind} needs a width that 4 divides, and the tower's is {width}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.kind == "joint":
            join_frames(visual, config.frames)
            return
        for place, block in enumerate(blocks):
            if config.kind == "tsm":
                shift_patches(block, config.frames)
            elif config.kind == "token-shift":
                blocks[place] = TokenBlock(block, TokenShift(config.frames))
            elif config.kind == "token-t1d":
                blocks[place] = TokenBlock(block, T1D(config.frames, width, config.start or "", 4))
            else:
                blocks[place] = CrossFrameBlock(block, config.frames, config.start or "")


def is_new(name: str) -> bool:
    """Return whether a parameter of a network is one that `change_tower` put there, and no trained tower has."""
    return any(part in name for part in (".temporal.", ".message_", ".time_embedding"))


def read_tower(folder: Path) -> TowerConfig | None:
    """Return what is inside the tower of a model folder; None where it is as open_clip makes it.

    Raises ValueError for a file that says something else; OSError.
    """
    try:
        document = json.loads((folder / TOWER_FILE).read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (
        FORMAT,
        VERSION,
    ):
        raise ValueError(f"{TOWER_FILE} is of another format or version")
    tower = document.get("tower")
    if not isinstance(tower, dict) or not {"kind", "frames"} <= set(tower) <= {"kind", "frames", "start"}:
        raise ValueError(f"{TOWER_FILE} does not say what is inside the tower")
    return TowerConfig(**tower)


def tower_document(config: TowerConfig) -> bytes:
    """Return the content of `vidclip_model.json`."""
    document = {"format": FORMAT, "version": VERSION, "tower": config.to_dict()}
    return (json.dumps(document, indent=2) + "\n").encode()
