"""Which encoders and heads are trained, on what, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...pipeline.encoders import automatic_precision
from ...pipeline.heads import HeadConfig
from ..captions import PROMPTS
from ..measure import PROMPT

MODEL = "demo-vit"
COMMON: dict[str, Any] = {
    "prompts": (PROMPT,), "temporal": "mean", "batch_size": 16, "epochs": 4, "warm_up_epochs": 1.0, "decay": "matrices",
    "weight_decay": 0.05, "backbone_rate": 1e-4, "learning_rate": 1e-3, "temperature": None, "flip": 0.5, "crop": False,
    "gray": 0.0, "rand_augment": (0, 0), "held_out": 0.0, "precision": automatic_precision(torch.device("cpu")),
}  # fmt: skip
"""The recipe text4vis at the size of this world: small batches, and rates for a small tower; bf16 where the processor has
it."""
BOTH: dict[str, Any] = {"tower": "cross-frame", "temporal": "mit"}
X_CLIP: dict[str, Any] = {**BOTH, "video_prompts": "on"}
ORDER: dict[str, Any] = {
    **COMMON,
    "epochs": 14,
    "flip": 0.0,
    "backbone_rate": 3e-4,
    "learning_rate": 3e-3,
    "temperature": 0.01,
}
"""Longer and at higher rates than the other trainings."""
PROMPTED: dict[str, Any] = {
    **COMMON,
    "train": "head",
    "tower": "temporal-prompts",
    "temperature": 0.01,
    "flip": 0.0,
    "epochs": 10,
    "learning_rate": 6e-3,
    "position": "middle",
}
"""Temporal prompts in the frozen tower, towards the same loss on the mean of the frames as the trainings beside them."""
PROMPTED_CLASSES: dict[str, Any] = {**PROMPTED, "epochs": 4, "flip": 0.5, "position": "start"}
X_CLIP_ORDER: dict[str, Any] = {**ORDER, "epochs": 10, "learning_rate": 1e-3}


@dataclass(frozen=True)
class Run:
    """What is trained and measured."""

    name: str
    minutes: float
    """On one core, a seed."""
    trains: str = "encoder"
    """The encoder; or a head on cached features, with the head that is best on validation videos; or nothing."""
    videos: str = "all"
    """What is trained on, and tested: all 75 classes; seen, 52 of them, tested on all; order, ten classes."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the recipe."""
    shots: int | None = None
    seeds: int = 3
    second: str = ""
    """A second language, whose loss is added and whose scores are fused: zh or paraphrase, by a text tower of `lit`."""

    @property
    def has_video_prompts(self) -> bool:
        """Whether it is scored twice: with its class embeddings changed by the video, and as they are."""
        return self.changes.get("video_prompts") == "on"

    def place(self, world: Path, seed: int, suffix: str = "") -> Path:
        """Return where its model is; with a suffix, its features or its hits."""
        return world / "finetuned" / f"{self.name}-{seed}{suffix}"


RUNS = (
    Run("frozen", 0.2, "nothing", seeds=1),
    Run("frozen-vcs", 0.2, "nothing", seeds=1),
    Run("frozen-order", 0.2, "nothing", "order", seeds=1),
    Run("cached", 1, "head"),
    Run("cached-4", 1, "head", shots=4),
    Run("cached-order", 1, "head", "order"),
    Run("tuned", 4, changes=COMMON),
    Run("tuned-4", 4, changes=COMMON, shots=4),
    Run("tuned-seen", 3, videos="seen", changes=COMMON),
    Run("lda", 4, changes={**COMMON, "classifier": "lda"}, seeds=1),
    Run("lda-100", 4, changes={**COMMON, "classifier": "lda", "temperature": 0.01}, seeds=1),
    Run("orthogonal-100", 4, changes={**COMMON, "classifier": "orthogonal", "temperature": 0.01}, seeds=1),
    Run("orthogonal", 4, changes={**COMMON, "classifier": "orthogonal"}, seeds=1),
    Run("random", 4, changes={**COMMON, "classifier": "random"}, seeds=1),
    Run("contrastive", 4, changes={**COMMON, "loss": "paper"}),
    Run("contrastive-alone", 4, changes={**COMMON, "loss": "paper", "accumulate": 2}),
    Run("order-plain", 4, videos="order", changes=ORDER, seeds=1),
    Run("order-token-shift", 4, videos="order", changes={**ORDER, "tower": "token-shift"}, seeds=1),
    Run("order-token-t1d", 4, videos="order", changes={**ORDER, "tower": "token-t1d"}, seeds=1),
    Run(
        "order-transformer",
        4,
        videos="order",
        changes={**ORDER, "temporal": "transformer", "learning_rate": 1e-3},
        seeds=1,
    ),
    Run("order-cross-frame", 5, videos="order", changes={**X_CLIP_ORDER, "tower": "cross-frame"}, seeds=1),
    Run("order-mit", 5, videos="order", changes={**X_CLIP_ORDER, "temporal": "mit"}, seeds=1),
    Run("order-x-clip", 5, videos="order", changes={**X_CLIP_ORDER, **X_CLIP}),
    Run("cross-frame", 4, videos="seen", changes={**COMMON, "tower": "cross-frame"}),
    Run("cross-frame-mit", 4, videos="seen", changes={**COMMON, **BOTH}),
    Run("x-clip", 5, videos="seen", changes={**COMMON, **X_CLIP}),
    Run("x-clip-text", 7, videos="seen", changes={**COMMON, **X_CLIP, "train": "visual+text"}),
    Run(
        "x-clip-templates",
        4,
        videos="seen",
        changes={**COMMON, **BOTH, "prompts": PROMPTS, "prompt_draw": True},
        seeds=1,
    ),
    Run("x-clip-learned", 5, videos="seen", changes={**COMMON, **BOTH, "prompt_context": 4}, seeds=1),
    Run("x-clip-all", 6, changes={**COMMON, **X_CLIP}, seeds=1),
    Run("x-clip-without-text", 6, changes={**COMMON, **BOTH, "classifier": "linear"}, seeds=1),
    Run("cached-order-16", 2, "head", "order", shots=16, seeds=1),
    Run("cached-order-4", 2, "head", "order", shots=4, seeds=1),
    *(
        Run(
            f"prompts-{name}",
            5,
            videos="order",
            changes={**PROMPTED, **changes},
            shots=16,
            seeds=1 if name in ("transformer", "ci", "12-prompts", "4-frames") else 3,
        )
        for name, changes in {
            "cgi": {},
            "cg": {"parts": "CG"},
            "cgi-none": {"reparameterization": "none"},
            "no-residual": {"prompt_residual": False},
            "i-none": {"parts": "I", "reparameterization": "none"},
            "cg-none": {"parts": "CG", "reparameterization": "none"},
            "ci": {"parts": "CI"},
            "mlp": {"reparameterization": "mlp"},
            "lstm": {"reparameterization": "lstm"},
            "transformer": {"reparameterization": "transformer"},
            "tada": {"reparameterization": "tada"},
            "c3d": {"reparameterization": "c3d"},
            "4-frames": {"frames": 4},
            "12-prompts": {"global_prompts": 12},
        }.items()
    ),
    Run("prompts-cgi-4", 5, videos="order", changes=PROMPTED, shots=4, seeds=1),
    Run("prompts-cgi-50", 5, videos="order", changes=PROMPTED),
    Run("prompts-classes", 6, changes=PROMPTED_CLASSES, shots=4, seeds=1),
    Run("prompts-classes-g", 6, changes={**PROMPTED_CLASSES, "parts": "G"}, shots=4, seeds=1),
    Run(
        "prompts-classes-none",
        6,
        changes={**PROMPTED_CLASSES, "reparameterization": "none"},
        shots=4,
        seeds=1,
    ),
    *(
        each
        for shots in (1, 2, 8, 16)
        for each in (
            Run(f"prompts-classes-{shots}", 6, changes=PROMPTED_CLASSES, shots=shots, seeds=1),
            Run(f"cached-{shots}", 1, "head", shots=shots, seeds=1),
        )
    ),
    *(
        Run(f"prompts-classes-{name}", 6, changes=PROMPTED_CLASSES, shots=4, seeds=1, second=second)
        for name, second in {"chinese": "zh", "paraphrase": "paraphrase"}.items()
    ),
    *(
        Run(
            f"prompts-classes-{name}", 6, changes={**PROMPTED_CLASSES, "prompts": (prompt,)}, shots=4, seeds=1
        )
        for name, prompt in {"person": PROMPTS[1], "bare": PROMPTS[2]}.items()
    ),
    Run("prompts-seen", 5, videos="seen", changes=PROMPTED_CLASSES, seeds=1),
)
"""`contrastive-alone` takes its loss over 8 clips at a time, as two processes do that gather nothing."""
HEADS = (
    HeadConfig("text"),
    HeadConfig("lda"),
    HeadConfig("linear"),
    HeadConfig("text", "transformer"),
    HeadConfig("text", pool="vcs"),
    HeadConfig("text", "transformer", "vcs"),
)
"""Of these, the best on validation videos is the best cached head."""
