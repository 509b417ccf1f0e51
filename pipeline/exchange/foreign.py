"""Features in files of other tools: which videos there are, and the array of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .content import DETAILS, EXPORT_FORMAT, EXPORT_VERSION
from .errors import ExchangeError
from .h5_reader import h5_arrays
from .npz_reader import Npz, read_npy

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_ID_KEYS = ("id", "ids", "names", "video_ids")
_FEATURE_KEYS = ("frames", "features", "embeddings")
_TEXTS = ("id", "path", "split", "decoder", "note", "root")


@dataclass(frozen=True)
class ForeignVideo:
    """One video as another tool has it."""

    id: str
    features: np.ndarray
    """[D], [T, D] or [V, T, D]."""
    where: str
    """File and name in it, for messages."""
    known: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `VideoRecord` that an export of vidclip has."""


def foreign_videos(source: Path, key: str | None = None) -> Iterator[ForeignVideo]:
    """Yield the videos of a folder of .npy, .npz, .h5 files (a file a video, its path without suffix the id, a first folder
    the label), or of one .npz or .h5 (an array a video; or arrays `ids` and `features`).

    key    name of the array of a video in its file, or in its group, where there are several
    Raises ExchangeError.
    """
    if source.is_dir():
        files = sorted(
            path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not files:
            raise ExchangeError(
                f"There is no feature file below {source}: such end in {', '.join(SUFFIXES)}."
            )
        for path in files:
            id = path.relative_to(source).with_suffix("").as_posix()
            labels = (id.split("/")[0],) if "/" in id else ()
            yield ForeignVideo(id, _single(path, key), str(path), {"labels": labels})
    elif source.suffix.lower() in (".h5", ".hdf5"):
        yield from _of_h5(source, key)
    elif source.suffix.lower() == ".npz":
        yield from _of_npz(source, key)
    else:
        raise ExchangeError(
            f"{source} does not say which videos it has: give a folder with a file a video ({', '.join(SUFFIXES)}), or one "
            ".npz or .h5 of several."
        )


def export_metadata(source: Path) -> dict[str, Any] | None:
    """Return what shaped the features of an .npz that `vidclip export` made; None for other files. Raises ExchangeError."""
    if source.is_dir() or source.suffix.lower() != ".npz":
        return None
    with Npz(source) as npz:
        if "metadata" not in npz.names:
            return None
        try:
            metadata = json.loads(str(npz.read("metadata")[()]))
            if metadata.get("format") != EXPORT_FORMAT:
                return None
        except (ValueError, AttributeError, RecursionError):
            return None
    if metadata.get("version") != EXPORT_VERSION:
        raise ExchangeError(
            f"{source} was exported in version {metadata.get('version')}; this vidclip reads {EXPORT_VERSION}."
        )
    return metadata


def _single(path: Path, key: str | None) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    if path.suffix.lower() == ".npz":
        with Npz(path) as npz:
            return npz.read(_chosen(path, npz.names, key))
    arrays = dict(h5_arrays(path))
    return arrays[_chosen(path, list(arrays), key)]


def _chosen(path: Path, names: list[str], key: str | None) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key in names:
        return str(key)
    shown = ", ".join(map(repr, names[:5])) or "none"
    asked = "--key says which one holds the features" if key is None else f"--key {key} is none of them"
    raise ExchangeError(f"{path} has the arrays {shown}: {asked}.")


def _of_h5(path: Path, key: str | None) -> Iterator[ForeignVideo]:
    found = False
    for name, array in h5_arrays(path):
        group, _, last = name.rpartition("/")
        if key is None or last == key:
            found = True
            yield ForeignVideo(name if key is None else group or name, array, f"{path}, {name}")
    if not found:
        raise ExchangeError(
            f"{path} has no numbers{f' called {key!r}' if key else ''}: --key names the arrays of videos."
        )


def _of_npz(path: Path, key: str | None) -> Iterator[ForeignVideo]:
    with Npz(path) as npz:
        ids = next((name for name in _ID_KEYS if name in npz.names), None)
        if ids is None:
            for name in npz.names:
                yield ForeignVideo(name, npz.read(name), f"{path}, {name}")
            return
        key = key or next((name for name in (*_FEATURE_KEYS, "mean") if name in npz.names), None)
        features = _chosen(path, [name for name in npz.names if name != ids], key)
        names = npz.read(ids)
        n = npz.shape(features)[0] if npz.shape(features) else 0
        if names.ndim != 1 or names.dtype.kind != "U" or len(names) != n:
            raise ExchangeError(
                f"{path} has {names.shape} {ids} of type {names.dtype}, and {n} rows of {features}."
            )
        known = _known(npz, n) if export_metadata(path) else [{}] * n
        for number, (id, row) in enumerate(zip(names.tolist(), npz.rows(features), strict=True)):
            yield ForeignVideo(id, row, f"{path}, {features}[{number}]", known[number])


def _known(npz: Npz, n: int) -> list[dict[str, Any]]:
    """Return what an export says of each video. Raises ExchangeError where its columns do not fit each other."""
    columns: dict[str, Any] = {}
    names = [
        name
        for name in (*DETAILS, "frame_indices", "timestamps")
        if name in npz.names and name not in ("id", "labels")
    ]
    for name in names:
        column = npz.read(name)
        kind = "U" if name in _TEXTS else "biuf"
        if len(column.shape) == 0 or len(column) != n or column.dtype.kind not in kind:
            raise ExchangeError(
                f"{npz.path}: the array {name!r} is {column.dtype} {column.shape}, for {n} videos."
            )
        columns[name] = list(column) if column.ndim > 1 else column.tolist()
    labels, offsets = npz.read("labels"), npz.read("label_offsets")
    fits = labels.dtype.kind == "U" and offsets.dtype.kind == "i" and offsets.shape == (n + 1,)
    if not fits or offsets[0] != 0 or offsets[-1] != len(labels) or (np.diff(offsets) < 0).any():
        raise ExchangeError(f"{npz.path}: its label offsets do not fit its labels.")
    texts, cuts = labels.tolist(), offsets.tolist()
    columns["labels"] = [tuple(texts[cuts[i] : cuts[i + 1]]) for i in range(n)]
    return [{name: column[i] for name, column in columns.items()} for i in range(n)]
