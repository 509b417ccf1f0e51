"""Exports as a tar of samples, the form that WebDataset reads: `00000000.npy` with its `00000000.json`."""

from __future__ import annotations

import io
import json
import tarfile
from typing import BinaryIO

import numpy as np

from .content import BATCH, Content

METADATA_MEMBER = "__vidclip__/metadata.json"
"""WebDataset passes over names that begin so."""


def write_webdataset(content: Content, file: BinaryIO) -> None:
    """Write two members a video, in the order of the ids: its features [V, T, D] or [D] as .npy; and what is known of it, its
    `frame_indices`, `timestamps` and the `identity` digest as .json. The first member says what shaped all."""
    cache = content.cache
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, METADATA_MEMBER, json.dumps(content.metadata()).encode())
        for start in range(0, len(cache), BATCH):
            indices = np.arange(start, min(start + BATCH, len(cache)))
            names = (content.features, "frame_indices", "timestamps")
            rows = zip(indices.tolist(), *(content.read(name, indices) for name in names), strict=True)
            for index, features, frame_indices, seconds in rows:
                array = io.BytesIO()
                np.save(array, features, allow_pickle=False)
                known = {
                    **content.details(index),
                    "frame_indices": frame_indices.tolist(),
                    "timestamps": [
                        [s if np.isfinite(s) else None for s in view] for view in seconds.tolist()
                    ],
                    "identity": cache.identity.digest,
                }
                _add(archive, f"{index:08}.npy", array.getvalue())
                _add(archive, f"{index:08}.json", json.dumps(known).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # of 1970, of nobody: the same cache makes the same file
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
