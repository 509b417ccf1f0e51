"""Which frames of a video, and which of their pixels: the settings of decoding, and what a cache stores of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..choices import IMPORTED
from .augmentation import Augmentation
from .preprocess import Preprocess
from .sampling import Sampling

if TYPE_CHECKING:
    from ...cache import Identity


class UnknownSampling(ValueError):
    """Features that do not say how their videos were read."""


@dataclass(frozen=True)
class ClipSpec:
    """Which frames of a video are looked at, and which of their pixels the model sees."""

    sampling: Sampling
    preprocess: Preprocess
    augmentation: Augmentation | None = None
    """Random crops and flips, for training. They take the draw of a request, as random frames do."""

    def __post_init__(self) -> None:
        if self.augmentation is not None and (self.sampling.position != "random" or self.sampling.crops > 1):
            raise ValueError("augmentation needs random frames (position 'random') and a single crop")

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """[V, T, height, width, 3] of the pixels of a video."""
        return (self.sampling.views, self.sampling.frames, *self.preprocess.size, 3)

    def to_dict(self) -> dict[str, Any]:
        """Return the `sampling` of an identity; all of `preprocess` but `resize` is part of its encoder.

        Raises ValueError for random frames without a seed, which change from draw to draw: their features are not to
        be stored.
        """
        if self.sampling.position == "random" and self.sampling.seed is None:
            raise ValueError(
                "Features of random frames cannot be stored without a seed: choose one, or another sampling position"
            )
        return {**self.sampling.to_dict(), "resize": self.preprocess.resize}

    @classmethod
    def from_identity(cls, identity: Identity) -> ClipSpec:
        """Return how the features of an identity were read. Raises UnknownSampling where it is damaged, or where another
        tool has read them."""
        sampling = dict(identity.sampling)
        if sampling.get("mode") == IMPORTED:
            raise UnknownSampling(
                "Its features were imported from another tool, and do not say which frames of a video they are of, nor how these "
                "were cropped: no video can be read as theirs were. What is in the cache can be used, by `vidclip eval`, "
                "`fit`, `search TEXT`, `saliency` without a picture, and `predict` of the cache's own videos; for others, "
                "`vidclip extract` them with the same encoder into a cache."
            )
        try:
            preprocess = {**identity.encoder["preprocess"], "resize": sampling.pop("resize")}
            return cls(Sampling.from_dict(sampling), Preprocess.from_dict(preprocess))
        except KeyError as error:
            raise UnknownSampling(f"The stored sampling is damaged: missing {error.args[0]}") from error
        except (TypeError, ValueError) as error:
            raise UnknownSampling(f"The stored sampling is damaged: {error}") from error
