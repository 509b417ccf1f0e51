"""The parameter groups of an optimizer: what is new has another rate than what was trained before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ..encoders import is_new
from ..heads import FitError, is_matrix
from .recipe import Recipe


def parameter_groups(
    parts: Mapping[str, Iterable[tuple[str, nn.Parameter]]], recipe: Recipe
) -> list[dict[str, Any]]:
    """Return the groups of an AdamW: `params`, `lr`, `weight_decay`, and `name` and `base_lr` for the schedule.

    parts    named parameters of `encoder`, and of what is new; those that need no gradient are in no group

    Raises FitError where nothing is trained.
    """
    groups: dict[str, dict[str, Any]] = {}
    for part, parameters in parts.items():
        for name, parameter in parameters:
            if not parameter.requires_grad:
                continue
            title = "tower" if part == "encoder" and is_new(name) else part
            own = recipe.backbone_rate if title == "encoder" else recipe.learning_rate
            decays = recipe.decay == "all" or is_matrix(name, parameter)
            title += "" if decays else ", without decay"
            group = {"name": title, "base_lr": own, "lr": own, "weight_decay": recipe.weight_decay * decays}
            groups.setdefault(title, {**group, "params": []})["params"].append(parameter)
    if not groups:
        raise FitError(
            "nothing would be trained: the encoder is frozen, and its head has no temporal module and a frozen "
            "classifier. Use --train visual, --temporal, --prompt-context or --classifier linear."
        )
    return list(groups.values())
