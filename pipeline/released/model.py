"""A released model as it was found in a file, before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...cache import TextEmbeddings
from ..encoders import TowerConfig
from ..evaluation import RELEASED_FORMS
from ..heads import AttributesHead, VideoHead, XClipHead
from ..scoring import AttributeSettings
from ..video import ClipSpec, Preprocess, Sampling
from .clip import name_of


@dataclass(frozen=True)
class ReleasedModel:
    """What a file holds, under the names of this program."""

    paper: str
    """bike, text4vis or x-clip."""
    architecture: Mapping[str, Any]
    """`model_cfg` of open_clip."""
    weights: Mapping[str, torch.Tensor]
    """State of the network."""
    tower: TowerConfig | None
    preprocess: Preprocess
    """`resize` among it: the short side of the release's single view."""
    sampling: Sampling
    head: Callable[[TextEmbeddings], VideoHead | XClipHead | AttributesHead]
    """The head over the classes of texts."""
    head_words: str
    """Which words of the classes the head reads; none, where it reads their sentences alone."""
    temperature: float
    notes: tuple[str, ...] = ()
    """What a user should know of the file."""
    attributes: AttributeSettings | None = None
    """How the attributes are found and read whose sentences the head scores; None: it scores frames."""

    @property
    def description(self) -> str:
        """`BIKE, ViT-B-16-quickgelu`: whose weights these are, and of which architecture."""
        branch = " attributes branch" if self.attributes else ""
        vision = self.architecture["vision_cfg"]
        patch = f", patches of {vision['patch_size']}" if vision["patch_size"] else ", a ResNet"
        name = name_of(self.weights) or f"a CLIP of width {vision['width']}{patch}"
        return f"{RELEASED_FORMS[self.paper].name}{branch}, {name}"

    @property
    def clip_spec(self) -> ClipSpec:
        """How the release reads a video."""
        return ClipSpec(self.sampling, self.preprocess)
