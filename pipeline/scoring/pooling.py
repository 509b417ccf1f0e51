"""Mean pooling and cosines: from frame embeddings to scores, without looking at the words.

N videos, V views, T frames, D dimensions, C classes.
"""

from __future__ import annotations

import numpy as np


def l2_normalize(vectors: np.ndarray) -> np.ndarray:
    """L2-normalize along the last axis, float32; zero rows are returned unchanged."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def mean_embeddings(frames: np.ndarray) -> np.ndarray:
    """Return video embeddings [N, D] float32: the L2-normalized mean of the frame embeddings.

    frames    [N, V, T, D] as the encoder gave them, not normalized

    The mean is over frames and views alike: Text4Vis averages the unnormalized pooled features of views.
    Source: Wu et al. 2023 (Text4Vis), temporal average pooling, Table 8.
    """
    if frames.ndim != 4:
        raise ValueError(f"frames must be [N, V, T, D], got shape {frames.shape}")
    return l2_normalize(frames.mean(axis=(1, 2), dtype=np.float32))


def cosine_scores(videos: np.ndarray, sentences: np.ndarray) -> np.ndarray:
    """Return scores [N, C] float32 of video embeddings [N, D] against sentence embeddings [C, D].

    Raises ValueError where the two D differ.
    """
    if videos.shape[-1] != sentences.shape[-1]:
        raise ValueError(
            f"videos have {videos.shape[-1]} dimensions, sentences {sentences.shape[-1]}: they are of "
            "different encoders"
        )
    return l2_normalize(videos) @ l2_normalize(sentences).T
