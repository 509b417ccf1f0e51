"""Features of other tools -> a cache, under an identity that is stated, and checked as far as it can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import CacheWriter, Identity, VideoRecord
from ..choices import IMPORTED
from ..encoders import Encoder
from ..video import Sampling
from .errors import ExchangeError
from .foreign import ForeignVideo, export_metadata, foreign_videos


@dataclass(frozen=True)
class ImportedFeatures:
    """What an import did."""

    videos: int
    """Videos taken in."""
    already_there: int
    exported: bool
    """Whether the file said of itself, as exports of vidclip do, which encoder made it, and that was the stated one."""
    shape: tuple[int, int, int]
    """(V, T, D)."""


def import_features(
    source: str | Path,
    folder: str | Path,
    encoder: Encoder,
    *,
    frames: int | None = None,
    key: str | None = None,
    created_by: str = "vidclip",
) -> ImportedFeatures:
    """Write the features of a folder or file (see `foreign_videos`) into the cache `folder`; videos that are there stay.

    encoder    which the user says has made them. Their dimensions must be its own; that alone proves nothing. Exports of
               vidclip say themselves which encoder made them: it must be this one, weight for weight, and the cache gets the
               sampling of the export
    frames     take so many of each video's frames, the first of equal segments; None: all, and as many in each video

    What is read before an error is kept: the same call goes on after it.
    Raises ExchangeError, CacheMismatch and CacheError (see `CacheWriter`), OSError.
    """
    source = Path(source)
    if not source.exists():
        raise ExchangeError(f"There is no file or folder {source}.")
    metadata = export_metadata(source)
    exported = metadata is not None and metadata.get("features") == "frames"
    videos = foreign_videos(source, key)
    first = next(videos, None)
    if first is None:
        raise ExchangeError(f"{source} has no videos.")
    shape = _frames_of(first, encoder, frames)[0].shape
    if exported and frames is None:
        identity = _exported_identity(source, metadata or {}, encoder)
    else:
        exported = False
        identity = _stated_identity(encoder, shape)
    size, given = encoder.frames_per_sample, encoder.embeddings_per_sample
    if shape[1] % given if size != given else size not in (1, shape[1]):
        gives = f" and gives {given} embeddings of each" if size != given else ""
        raise ExchangeError(
            f"{encoder.model} reads clips of {size} frames{gives}, and {first.where} has {shape[1]}."
        )
    precision = "+".join(map(str, (metadata or {}).get("precisions") or [])) if exported else IMPORTED
    taken = already = 0
    seen: set[str] = set()
    with CacheWriter(
        folder, identity, precision=precision, created_by=created_by, shard_seconds=float("inf")
    ) as writer:
        for video in _chain(first, videos):
            if video.id in seen:
                raise ExchangeError(f"{source} has two videos {video.id!r}, the second in {video.where}.")
            seen.add(video.id)
            if video.id in writer:
                already += 1
                continue
            try:
                writer.add(_record(video, encoder, frames, shape))
            except ValueError as error:
                raise ExchangeError(f"{video.where} cannot be imported: {error}.") from None
            taken += 1
    return ImportedFeatures(taken, already, exported, (shape[0], shape[1], shape[2]))


def _chain(first: ForeignVideo, rest: Any) -> Any:
    yield first
    yield from rest


def _stated_identity(encoder: Encoder, shape: tuple[int, ...]) -> Identity:
    """Return an identity whose sampling no extraction ever has: which frames another tool took is not known."""
    sampling = {"frames": shape[1], "clips": shape[0], "crops": 1, "mode": IMPORTED, "resize": None}
    return Identity(encoder.identity, sampling, encoder.model, encoder.pretrained)


def _exported_identity(source: Path, metadata: Mapping[str, Any], encoder: Encoder) -> Identity:
    try:
        said = Identity.from_dict(metadata["identity"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ExchangeError(
            f"{source} is no whole export: its identity is missing or damaged ({error})."
        ) from None
    own = Identity(encoder.identity, said.sampling, encoder.model, encoder.pretrained)
    if own.digest != said.digest:
        differ = ", ".join(name for name, _, _ in said.differences(own)[:4])
        raise ExchangeError(
            f"{source} was exported from features of {said.encoder_name}, which is another encoder than {own.encoder_name} "
            f"(they differ in {differ}). Name the encoder of the export with --model and --pretrained."
        )
    return own


def _frames_of(
    video: ForeignVideo, encoder: Encoder, frames: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return features [V, T, D], the indices [T] of their frames among those of the file, and how many these are."""
    array = video.features
    if array.dtype.kind != "f" or not 1 <= array.ndim <= 3 or not array.size:
        raise ExchangeError(
            f"{video.where} is {array.dtype} {array.shape}: features of a video are floats, [D], [frames, D] or [views, frames, D]."
        )
    if array.shape[-1] != encoder.dimension:
        name = f"{encoder.model} ({encoder.pretrained})" if encoder.pretrained else encoder.model
        raise ExchangeError(
            f"{video.where} has {array.shape[-1]} dimensions, and {name} gives {encoder.dimension}: another encoder made it, or it "
            "was taken before the projection into the space of texts."
        )
    shape: tuple[int, ...] = (1, 1, *array.shape)[-3:]
    whole = array.reshape(shape)
    n = shape[1]
    indices = np.arange(n) if frames is None else Sampling(frames).frame_indices(n)[0]
    return whole[:, indices], indices, n


def _record(video: ForeignVideo, encoder: Encoder, frames: int | None, shape: tuple[int, ...]) -> VideoRecord:
    features, indices, n = _frames_of(video, encoder, frames)
    if features.shape != shape:
        raise ExchangeError(
            f"{video.where} has {features.shape[0]} x {features.shape[1]} frames, the first video {shape[0]} x {shape[1]}: "
            "--frames N takes N of each."
        )
    made: dict[str, Any] = {
        "path": "",
        "frame_indices": np.tile(indices, (shape[0], 1)),
        "timestamps": np.full(shape[:2], np.nan),
        "n_frames": n,
        "readable_frames": n,
        "repeated": frames is not None and n < frames,
        "note": "",
        "decoder": IMPORTED,
        **(
            video.known
            if frames is None
            else {**video.known, "frame_indices": np.tile(indices, (shape[0], 1))}
        ),
    }
    for name in ("frame_indices", "timestamps"):
        if np.shape(made[name]) != shape[:2]:
            made[name] = (
                np.tile(indices, (shape[0], 1)) if name == "frame_indices" else np.full(shape[:2], np.nan)
            )
    return VideoRecord(id=video.id, frames=np.asarray(features, np.float32), **made)
