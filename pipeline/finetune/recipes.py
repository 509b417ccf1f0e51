"""The papers' recipes of fine-tuning.

Where a paper and its released code differ, the value is the paper's, unless its comment says otherwise.
Sources: Wu et al. 2023 (BIKE), B.1, and its configs; Wu et al. 2023 (Text4Vis), Tables A.3 and A.4, and its configs; Ni et
al. 2022 (X-CLIP), its table of hyperparameters, and its configs; Adapting CLIP for Action Recognition via Dual Semantic
Supervision and Temporal Prompt Reparameterization (2024), Table 2 and 4.1.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .recipe import Recipe

RECIPES = {
    "text4vis": Recipe(
        "text4vis",
        prompts=("a video of a person {}.",),
        temperature=None,
        betas=(0.9, 0.98),  # its released code has 0.999
        rand_augment=(2, 9),  # of the paper; commented out in its released code
    ),
    # Released: words="all", renormalize=False.
    "bike": Recipe("bike", pool="vcs", loss="released"),
    # Released: cosine="whole", and jitter drawn anew for every frame.
    "x-clip": Recipe(
        "x-clip",
        tower="cross-frame",
        prompts=("{}",),
        temporal="mit",
        video_prompts="on",
        label_smoothing=0.1,
        mixup=0.8,
        cutmix=1.0,
        learning_rate=8e-5,
        backbone_rate=8e-6,
        min_rate=0.01,
        betas=(0.9, 0.98),
        weight_decay=0.001,
        decay="matrices",
        crop_form="multi-scale",
        jitter=(0.4, 0.4, 0.2, 0.1),
        jitter_probability=0.8,
        normalization="imagenet",  # with CLIP's tower, as its checkpoints were trained
    ),
    # The paper prints a rate of 5e-6 for HMDB-51 and UCF-101, at which prompts hardly move; 5e-4 is its own for
    # Something-Something.
    "temporal-prompts": Recipe(
        "temporal-prompts",
        train="head",
        tower="temporal-prompts",
        temporal="mean",
        pool="vcs",
        loss="paper",
        batch_size=32,
        learning_rate=5e-4,
        weight_decay=0.01,
        decay="matrices",
        position="middle",
    ),
}
FEW_SHOT = {
    "text4vis": {"epochs": 10, "held_out": 0.0, "temporal": "mean"},
    "bike": {"epochs": 10, "held_out": 0.0, "temporal": "mean"},
    "x-clip": {"epochs": 10, "held_out": 0.0, "frames": 32, "learning_rate": 2e-5, "backbone_rate": 2e-6},
    "temporal-prompts": {"held_out": 0.0, "batch_size": 64},
}
"""What a few-shot training has in the place of a recipe's own: ten epochs (two on Kinetics-400) of as many clips as
the full set has, nothing held out of so few videos, and no temporal module (BIKE, Text4Vis); X-CLIP's frames and rates
(its 50 epochs are of the few videos once). Temporal prompts: 30 epochs of as many clips as the full set has, in batches of
64 or of all videos (`few_shot_batch`)."""


def find_recipe(name: str, **changes: Any) -> Recipe:
    """Return a recipe, with some of its values changed. Raises ValueError for an unknown name or value."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    return replace(RECIPES[name], **changes)


def few_shot_batch(recipe: Recipe, n_videos: int) -> Recipe:
    """Return a few-shot recipe of temporal prompts with a step of no more clips than there are videos."""
    most = max(1, min(recipe.batch_size, n_videos) // recipe.accumulate) * recipe.accumulate
    return replace(recipe, batch_size=most)
