"""The settings of Video Concept Spotting, apart from its code: that needs torch, and the other scores do not."""

from __future__ import annotations

from dataclasses import dataclass

from ..choices import QUERIES
from .temperature import TEMPERATURE, check_temperature


@dataclass(frozen=True)
class ConceptSpottingConfig:
    """How frames are weighed, and what the weighted video is compared with."""

    saliency: str = "words"
    """The query of the saliency softmax: the words of a class, or its sentence."""
    recognition: str = "sentence"
    """What the video is compared with: the sentence, or the mean of the L2-normalized word embeddings."""
    temperature: float = TEMPERATURE
    """The temperature of the saliency softmax, dimensionless. Towards 0 the best frame alone counts, towards infinity all do."""
    renormalize: bool = True
    """The paper's cosine; False: the released code's product with a pooled video that is not normalized."""

    def __post_init__(self) -> None:
        for name in ("saliency", "recognition"):
            if getattr(self, name) not in QUERIES:
                raise ValueError(f"{name} must be one of {', '.join(QUERIES)}, got {getattr(self, name)!r}")
        check_temperature(self.temperature)
