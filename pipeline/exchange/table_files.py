"""Exports as tables: .csv, and .parquet by pyarrow."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..datasets import LABEL_SEPARATOR
from .content import BATCH, DETAILS, Content
from .errors import ExchangeError


def write_csv(content: Content, file: BinaryIO) -> None:
    """Write a row a video (mean), or a row a frame (frames: columns view, frame, frame_index, seconds), and behind it the
    numbers of the embedding, `f0`, `f1`, ..., in nine digits, which give the same float16 or float32 back. The last column
    but those, `identity`, is the digest of what shaped them.

    Raises ExchangeError for a label with the sign that stands between labels.
    """
    text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    writer = csv.writer(text, lineterminator="\n")
    pooled = content.features == "mean"
    frame_columns = [] if pooled else ["view", "frame", "frame_index", "seconds"]
    dimensions = content.cache.shape[3]
    names = [f"f{number}" for number in range(dimensions)]
    writer.writerow(["id", "path", "labels", "split", "duration_seconds", *frame_columns, "identity", *names])
    for index, features, frame_indices, seconds in _videos(content):
        video = content.cache.videos[index]
        for label in video.labels:
            if LABEL_SEPARATOR in label:
                raise ExchangeError(
                    f"the label {label!r} of {video.id!r} holds {LABEL_SEPARATOR!r}, which stands between labels in a CSV: "
                    "use another form (--to npz), or another label (`vidclip label`)."
                )
        labels = LABEL_SEPARATOR.join(video.labels)
        row = [video.id, video.path, labels, video.split, repr(video.duration_seconds)]
        digest = content.cache.identity.digest
        if pooled:
            writer.writerow([*row, digest, *_digits(features)])
            continue
        for view, frame in np.ndindex(features.shape[:2]):
            place = [view, frame, frame_indices[view, frame], repr(float(seconds[view, frame]))]
            writer.writerow([*row, *place, digest, *_digits(features[view, frame])])
    text.flush()
    text.detach()


def _digits(numbers: np.ndarray) -> list[str]:
    return [f"{number:.9g}" for number in numbers.tolist()]


def _videos(content: Content) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (position, features, frame indices, seconds) of each video; a batch is in memory."""
    names = (content.features, "frame_indices", "timestamps")
    for start in range(0, len(content.cache), BATCH):
        indices = np.arange(start, min(start + BATCH, len(content.cache)))
        arrays = (content.read(name, indices) for name in names)
        yield from zip(indices.tolist(), *arrays, strict=True)


def check_pyarrow() -> None:
    """Raise ExchangeError where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]  # noqa: F401
    except ImportError:
        raise ExchangeError(
            "Parquet needs pyarrow, which is not installed: pip install 'vidclip[parquet]', or use another form (--to npz)."
        ) from None


def write_parquet(content: Content, file: BinaryIO) -> None:
    """Write a row a video: what is known of it, `frame_indices` and `timestamps` as lists of V x T numbers, and the features as
    lists of float32 (of float16 nothing is lost). The schema's metadata has `vidclip`, JSON with their shape and identity.

    Raises ExchangeError where pyarrow is not installed.
    """
    check_pyarrow()
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]

    kinds: dict[type, Any] = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    kinds |= {int: pyarrow.int64(), tuple: pyarrow.list_(pyarrow.string())}
    first = content.cache.videos[0]
    columns = [(name, kinds[type(getattr(first, name))]) for name in DETAILS]
    for name, (dtype, shape) in content.arrays.items():
        kind = pyarrow.float32() if dtype.name in ("float16", "float32") else pyarrow.from_numpy_dtype(dtype)
        columns.append((name, pyarrow.list_(kind, int(np.prod(shape[1:])))))
    schema = pyarrow.schema(columns, metadata={"vidclip": json.dumps(content.metadata())})
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(content.cache), BATCH):
            indices = np.arange(start, min(start + BATCH, len(content.cache)))
            videos = [content.cache.videos[index] for index in indices.tolist()]
            table: dict[str, Any] = {
                name: [_unicode(getattr(video, name), video.id) for video in videos] for name in DETAILS
            }
            for name in content.arrays:
                rows = content.read(name, indices)
                flat = rows.astype(np.float32) if rows.dtype == np.float16 else rows
                kind = schema.field(name).type
                values = pyarrow.array(flat.reshape(-1), kind.value_type)
                table[name] = pyarrow.FixedSizeListArray.from_arrays(values, kind.list_size)
            writer.write_table(pyarrow.table(table, schema))


def _unicode(value: Any, id: str) -> Any:
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and text.encode(errors="ignore").decode() != text:
            raise ExchangeError(
                f"{text!a} of {id!a} is not UTF-8, and Parquet has no other text: use --to npz."
            )
    return list(value) if isinstance(value, tuple) else value
