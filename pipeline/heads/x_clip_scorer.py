"""X-CLIP's head as a scorer, and the scorer of any head that reads videos."""

from __future__ import annotations

import numpy as np

from ...cache import FeatureCache
from ..devices import choose_device
from ..scoring import TEMPERATURE, ViewsScorer, check_view_average
from .checkpoint import HeadError
from .head_scorer import HeadScorer, MultiLabelScorer, check_scores
from .video_head import VideoHead
from .video_prompts import XClipHead

_PATCH_BYTES = 2**28
"""So much of the patch tokens is in memory at once, if one video has no more."""


class XClipScorer(ViewsScorer):
    """X-CLIP's head as a scorer. It reads the patch tokens of the videos that it scores from their cache.

    cache           that of the features, with patch tokens
    view_average    probabilities (None) or unscaled; see VIEW_AVERAGES
    device          where the prompts are computed

    Raises HeadError for a cache without patch tokens, or with those of another width.
    """

    def __init__(
        self,
        head: XClipHead,
        cache: FeatureCache,
        *,
        temperature: float,
        view_average: str | None = None,
        name: str = "x-clip",
        device: str = "auto",
    ) -> None:
        self.view_average = check_view_average(view_average or "probabilities")
        if self.view_average == "features":
            raise ValueError(
                "X-CLIP's prompts make other class embeddings for every view, so there are no features to average over "
                "views; average probabilities, or unscaled ones"
            )
        width = len(head.prompts_visual_proj)
        if len(cache) and (cache.patch_shape is None or cache.patch_shape[1] != width):
            found = f"those of {cache.folder} have {cache.patch_shape[1]}" if cache.patch_shape else ""
            raise HeadError(
                f"the prompts of the head read patch tokens of {width} dimensions, and "
                f"{found or f'{cache.folder} has none'}. Extract with the head's encoder, without --no-patches, into "
                "another --cache; or score without the prompts: --video-prompts off."
            )
        self.name, self.temperature, self._cache = name, temperature, cache
        self._head = head.to(choose_device(device))

    def similarities(self, indices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return cosines [n, V, C]. Raises NoScores."""
        n, views = frames.shape[:2]
        tokens, width = self._cache.patch_shape or (0, 0)
        size = max(1, _PATCH_BYTES // (2 * views * tokens * width))
        pieces = []
        for start in range(0, n, size):
            own, patches = frames[start : start + size], self._cache.patches(indices[start : start + size])
            scores = self._head.scores(own.reshape(-1, *own.shape[2:]), patches.reshape(-1, tokens, width))
            pieces.append(scores.reshape(len(own), views, -1))
        scores = np.concatenate(pieces)
        check_scores(scores, self.name)
        return scores


def scorer_of_head(
    head: VideoHead | XClipHead,
    cache: FeatureCache,
    *,
    temperature: float = TEMPERATURE,
    view_average: str | None = None,
    name: str = "",
    device: str = "auto",
) -> HeadScorer | XClipScorer:
    """Return the scorer of a head on the features of `cache`. Raises as the two do.

    name    in front of it stands what the head is; "": that alone
    """
    if isinstance(head, XClipHead):
        return XClipScorer(
            head,
            cache,
            temperature=temperature,
            view_average=view_average,
            name=" ".join(filter(None, ("x-clip", name))),
            device=device,
        )
    name = " ".join(filter(None, (head.config.name, name)))
    if head.multi_label is not None:
        return MultiLabelScorer(head, view_average=view_average, name=name)
    return HeadScorer(head, temperature=temperature, view_average=view_average, name=name)
