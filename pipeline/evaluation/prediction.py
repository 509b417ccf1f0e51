"""A trained head on video files that no cache has."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...cache import Failure, FeatureCache, Identity
from ..datasets import VideoList
from ..encoders import Encoder
from ..extraction import ExtractSettings, Progress, extract
from ..heads import HeadError, StoredHead, VideoHead, XClipHead, scorer_of_head
from ..scoring import scan_scores
from ..video import ClipSpec


@dataclass(frozen=True)
class Prediction:
    """The probabilities that a head gives one video."""

    id: str
    probabilities: np.ndarray
    """[C] over the head's classes; several views: the mean of theirs."""

    def best(self, count: int) -> list[int]:
        """Return the likeliest classes, best first."""
        return np.argsort(-self.probabilities, kind="stable")[:count].tolist()


def predict(
    videos: VideoList,
    stored: StoredHead,
    head: VideoHead | XClipHead,
    encoder: Encoder,
    settings: ExtractSettings | None = None,
    *,
    device: str = "auto",
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[list[Prediction], list[Failure]]:
    """Read the videos with the sampling of the head's training features, and score them with `head`.

    stored     the head as its file has it
    head       the same, or the same over other classes
    encoder    the encoder that `stored` was trained on
    settings   how the videos are read
    device     where X-CLIP's prompts are computed
    Returns (predictions in order of the list, videos that could not be read).
    Raises HeadError for another encoder; what `extract` raises.
    """
    patches = isinstance(head, XClipHead)
    check_readable(stored)
    stored.check_encoder(replace(stored.identity, encoder=encoder.identity).encoder_digest, encoder.name)
    with features_of(
        videos, stored.identity, encoder, settings, patches=patches, on_progress=on_progress
    ) as (
        cache,
        failures,
    ):
        scorer = scorer_of_head(head, cache, temperature=stored.temperature, device=device)
        every = np.arange(len(head.class_embeddings))
        found: dict[str, Prediction] = {}
        for batch, (similarities,) in scan_scores(cache, [scorer]):
            for index, own in zip(batch, scorer.probabilities(similarities, every), strict=True):
                found[cache.ids[index]] = Prediction(cache.ids[index], own)
    return [found[video.id] for video in videos if video.id in found], failures


def check_readable(stored: StoredHead) -> None:
    """Raise HeadError where the head's file does not say how videos are read."""
    try:
        ClipSpec.from_identity(stored.identity)
    except ValueError as error:
        raise HeadError(f"the head cannot be used on videos. {error}") from error


@contextlib.contextmanager
def features_of(
    videos: VideoList,
    identity: Identity,
    encoder: Encoder,
    settings: ExtractSettings | None = None,
    *,
    patches: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[tuple[FeatureCache, list[Failure]]]:
    """Yield (a cache of the videos, read as `identity` says; those that could not be read). The cache is gone afterwards.

    patches    whether it has patch tokens
    Raises ValueError for an identity whose sampling is damaged, KeyboardInterrupt, what `extract` raises.
    """
    clip_spec = ClipSpec.from_identity(identity)
    with tempfile.TemporaryDirectory(prefix="vidclip-predict-") as folder:
        features = Path(folder) / "features"
        settings = replace(settings or ExtractSettings(), patches=patches)
        summary = extract(videos, encoder, features, clip_spec, settings, on_progress=on_progress)
        if summary.interrupted:
            raise KeyboardInterrupt
        yield FeatureCache(features), summary.failures
