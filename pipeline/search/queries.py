"""What is searched for, as embeddings in the space of a cache: texts, its own videos, video files, images.

Q queries, D dimensions.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...cache import CacheError, FeatureCache, Identity, TextEmbeddings, list_texts, read_texts
from ...lexicons import load_lexicon
from ..datasets import read_videos
from ..encoders import Encoder
from ..extraction import ExtractSettings, extract
from ..scoring import mean_embeddings, read_frames
from ..video import ClipSpec
from .errors import SearchError

LONGEST_TEXT = 2000
"""Characters of a text that is searched for: many times what a text encoder reads."""


def text_queries(
    encoder: Encoder, texts: Sequence[str], prompts: Sequence[str] = ("{}",), *, words: str = "name"
) -> TextEmbeddings:
    """Return the embeddings of texts by the encoder of a cache. Nothing is kept.

    words    which tokens are the words of concept spotting; see WORDS
    Raises SearchError for a text that is empty, no Unicode, or far longer than an encoder reads.
    """
    for text in texts:
        if not text.strip():
            raise SearchError("a text that is searched for is empty: say what the videos show.")
        if len(text) > LONGEST_TEXT:
            raise SearchError(
                f"{text[:40]!r}... has {len(text):,} characters; {LONGEST_TEXT:,} are the most that are searched for."
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise SearchError(f"{text[:40]!r} is not a text that can be read: type it in UTF-8.") from None
    return encoder.encode_text(list(texts), list(prompts), words=words)


def sample_texts(
    cache: FeatureCache, load: Callable[[Identity], Encoder], *, least: int = 64, most: int = 192
) -> np.ndarray:
    """Return sentences [q, D] float32 to measure a search with: those that the cache keeps of its own encoder; where these
    are fewer than `least`, names of Kinetics-400's classes. `most` of them at most, evenly among all."""
    found = [np.zeros((0, cache.shape[3]), np.float32)]
    for info in list_texts(cache.folder):
        with contextlib.suppress(CacheError):  # of another tower
            found.append(read_texts(info.path, cache.identity.encoder_digest).sentence)
    every = np.concatenate(found)
    if len(every) < least:
        phrases = load_lexicon("kinetics400").phrases
        some = phrases[:: len(phrases) // least]
        every = load(cache.identity).encode_text(some, words="none").sentence
    return every[:: max(1, -(-len(every) // most))]


def video_query(cache: FeatureCache, index: int) -> np.ndarray:
    """Return the mean embedding [D] float32 of a video of the cache, L2-normalized."""
    return mean_embeddings(read_frames(cache, np.array([index])))[0]


def file_queries(
    identity: Identity,
    files: Sequence[Path],
    load: Callable[[Identity], Encoder],
    settings: ExtractSettings | None = None,
) -> np.ndarray:
    """Return the mean embeddings [Q, D] float32 of video files or images, L2-normalized, read as the videos of a cache were.

    identity    of the cache that is searched
    load        returns its encoder

    Raises SearchError for a file that cannot be read, or a cache whose sampling is unknown; DatasetError for one that is
    not there, and what `extract` raises.
    """
    listed = [read_videos([file]) for file in files]
    for file, videos in zip(files, listed, strict=True):
        if len(videos) != 1:
            raise SearchError(f"{file} holds {len(videos)} videos: name one of them.")
    try:
        clip_spec = ClipSpec.from_identity(identity)
    except ValueError as error:
        raise SearchError(f"no video can be read as those of the cache. {error}") from error
    encoder = load(identity)
    found = []
    for file, videos in zip(files, listed, strict=True):
        with tempfile.TemporaryDirectory(prefix="vidclip-search-") as folder:
            features = Path(folder) / "features"
            summary = extract(videos, encoder, features, clip_spec, settings or ExtractSettings(workers=1))
            if summary.interrupted:
                raise KeyboardInterrupt
            if summary.failures:
                raise SearchError(f"{file} cannot be read: {summary.failures[0].reason}")
            cache = FeatureCache(features)
            found.append(video_query(cache, cache.index(videos[0].id)))
    return np.stack(found)
