"""Caches as somebody might make them who wants to do harm: sizes that the files do not have, data that lies elsewhere,
numbers and names that no vidclip writes. Their checksums are right wherever the hand that made them could see to it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fixtures import World

ROWS = 10**8
"""How many rows a bomb claims to have."""
Columns = dict[str, Any]
"""Column name -> numpy array, or list of bytes."""


def read_file(path: Path) -> tuple[Columns, dict[str, Any]]:
    """Columns and attributes of a file of a cache, as a program reads it that knows HDF5 alone."""
    import h5py

    columns: Columns = {}
    with h5py.File(path) as file:
        for name, item in file.items():
            if isinstance(item, h5py.Group):
                raw, cuts = item["bytes"][:].tobytes(), item["offsets"][:].tolist()
                columns[name] = [raw[a:b] for a, b in itertools.pairwise(cuts)]
            elif h5py.check_string_dtype(item.dtype):
                columns[name] = list(item[:])
            else:
                columns[name] = item[:]
        return columns, dict(file.attrs)


def write_version1(
    path: Path,
    columns: Columns,
    attributes: dict[str, Any],
    instead: dict[str, Callable[[Any, str], object]] | None = None,
) -> None:
    """A file of format version 1, its digest right; `instead` makes some columns in its own way."""
    import h5py

    sha = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name]
        if isinstance(column, list):
            sha.update(f"{name}|text|{len(column)}|".encode())
            for raw in column:
                sha.update(len(raw).to_bytes(8, "little") + raw)
        else:
            sha.update(f"{name}|{column.dtype.str}|{column.shape}|".encode() + column.tobytes())
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            if instead and name in instead:
                instead[name](file, name)
            elif isinstance(column, list):
                text = file.create_dataset(name, shape=(len(column),), dtype=h5py.string_dtype())
                if column:
                    text[:] = np.array(column, dtype=object)
            else:
                file.create_dataset(name, data=column)
        for name, value in {**attributes, "version": 1, "sha256": sha.hexdigest()}.items():
            file.attrs[name] = value


def as_version1(cache: Path) -> None:
    """Writes every HDF5 file of a cache anew in format version 1, which vidclip 0.1 wrote."""
    for path in cache.glob("*.h5"):
        write_version1(path, *read_file(path))


def _pick(cache: Path, rng: random.Random, *sorts: str) -> Path:
    found = [
        path for sort in sorts or ("frames", "text", "attributes") for path in cache.glob(f"{sort}-*.h5")
    ]
    return rng.choice(sorted(found))


def _chunked(dtype: Any, shape: tuple[int, ...], **more: Any) -> Callable[[Any, str], object]:
    """A column of a shape, in pieces of which none was ever written."""
    chunks = tuple(min(256, side) for side in shape)
    return lambda file, name: file.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks, **more)


def _text_dtype(length: int | None = None) -> Any:
    import h5py

    return h5py.string_dtype("utf-8", length) if length else h5py.string_dtype()


def _huge_column(_: World, cache: Path, rng: random.Random) -> None:
    """One column claims a hundred million rows; nothing of it is there."""
    path = _pick(cache, rng)
    columns, attributes = read_file(path)
    name = rng.choice(sorted(columns))
    column = columns[name]
    shape = (ROWS, *column.shape[1:]) if isinstance(column, np.ndarray) else (ROWS,)
    dtype = column.dtype if isinstance(column, np.ndarray) else _text_dtype()
    write_version1(path, columns, attributes, {name: _chunked(dtype, shape)})


def _huge_file(_: World, cache: Path, rng: random.Random) -> None:
    """All columns of a shard do, so that they fit each other."""
    path = _pick(cache, rng, "frames")
    columns, attributes = read_file(path)
    instead = {}
    for name, column in columns.items():
        more = name == "label_offsets"
        if isinstance(column, np.ndarray):
            instead[name] = _chunked(column.dtype, (ROWS + more, *column.shape[1:]))
        else:
            instead[name] = _chunked(_text_dtype(), (ROWS,))
    write_version1(path, columns, attributes, instead)


def _compressed(_: World, cache: Path, rng: random.Random) -> None:
    """Features of a hundred million dimensions, compressed, or a fill value of them."""
    path = _pick(cache, rng, "frames")
    columns, attributes = read_file(path)
    shape = (*columns["frames"].shape[:3], ROWS)

    def make(file: Any, name: str) -> None:
        file.create_dataset(
            name, shape=shape, dtype="f2", chunks=(1, 1, 1, 10**6), compression="gzip", fillvalue=1.0
        )

    write_version1(path, columns, attributes, {"frames": make})


def _long_texts(_: World, cache: Path, rng: random.Random) -> None:
    """Texts of a hundred megabytes each."""
    path = _pick(cache, rng)
    columns, attributes = read_file(path)
    name = rng.choice(sorted(name for name, column in columns.items() if isinstance(column, list)))
    dtype = _text_dtype(10**8)
    instead = {name: lambda file, n: file.create_dataset(n, shape=(200,), dtype=dtype, chunks=(1,))}
    write_version1(path, columns, attributes, instead)


def _elsewhere(world: World, cache: Path, rng: random.Random) -> None:
    """A column that lies in another file: a link, storage outside, or a virtual one."""
    import h5py

    path = _pick(cache, rng, "frames")
    columns, attributes = read_file(path)
    other = world.folder / "cache" / path.name
    shape = columns["frames"].shape

    def virtual(file: Any, name: str) -> None:
        layout = h5py.VirtualLayout(shape=shape, dtype="f2")
        layout[:] = h5py.VirtualSource(str(other), "frames", shape=shape)
        file.create_virtual_dataset(name, layout)

    def soft(file: Any, name: str) -> None:
        file.create_dataset("real", data=columns[name])
        file[name] = h5py.SoftLink("/real")

    ways: list[Callable[[Any, str], object]] = [
        virtual,
        soft,
        lambda file, name: file.__setitem__(name, h5py.ExternalLink(str(other), "/frames")),
        lambda file, name: file.create_dataset(
            name, shape=shape, dtype="f2", external=[(str(other), 0, h5py.h5f.UNLIMITED)]
        ),
    ]
    write_version1(path, columns, attributes, {"frames": rng.choice(ways)})


def _other_types(_: World, cache: Path, rng: random.Random) -> None:
    """A column of another kind: compound, references, floats too large, a group, no dimension."""
    import h5py

    path = _pick(cache, rng)
    columns, attributes = read_file(path)
    name = rng.choice(sorted(columns))
    n = len(columns[name])
    ways: list[Callable[[Any, str], object]] = [
        lambda file, name: file.create_dataset(name, shape=(n,), dtype=np.dtype([("a", "f2")])),
        lambda file, name: file.create_dataset(name, shape=(n,), dtype=h5py.ref_dtype),
        lambda file, name: file.create_dataset(name, data=np.full(np.shape(columns[name]), 1e300)),
        lambda file, name: file.create_group(name),
        lambda file, name: file.create_dataset(name, data=7),
        lambda file, name: file.create_dataset(name, shape=(n, *[1] * 31), dtype="f2"),
        lambda file, name: file.create_dataset(name, data=h5py.Empty("f4")),
        lambda file, name: file.create_dataset(name, data=np.zeros(n, "u8") + np.uint64(2**64 - 1)),
    ]
    write_version1(path, columns, attributes, {name: rng.choice(ways)})


def _odd_numbers(_: World, cache: Path, rng: random.Random) -> None:
    """Numbers that no vidclip writes, with a digest that fits them."""
    path = _pick(cache, rng)
    columns, attributes = read_file(path)
    numbers = sorted(
        name for name, column in columns.items() if isinstance(column, np.ndarray) and column.size
    )
    column = columns[rng.choice(numbers)]
    values = (
        (np.nan, np.inf, -np.inf, 0, 1e30)
        if column.dtype.kind == "f"
        else (-1, -(2**63), 2**63 - 1, 10**6, 0)
    )
    where = rng.choice((np.s_[...], np.s_[-1], np.s_[0]))
    with np.errstate(over="ignore"):
        column[where] = np.array(rng.choice(values)).astype(column.dtype)
    write_version1(path, columns, attributes)


def _odd_texts(_: World, cache: Path, rng: random.Random) -> None:
    """Names that do something to a terminal, a table or a path."""
    path = _pick(cache, rng)
    columns, attributes = read_file(path)
    names = sorted(name for name, column in columns.items() if isinstance(column, list) and column)
    name = rng.choice(names)
    odd = [
        b"\x1b[31mred\x1b]0;title\x07",
        b"$x^2$ [bold]{}",
        b"../../../etc/passwd",
        b"",
        b"\xff\xfe",
        b"a\nb",
        b"x" * 10**5,
    ]
    for row in range(len(columns[name])):
        if rng.random() < 0.5:
            columns[name][row] = rng.choice(odd)
    write_version1(path, columns, attributes)


def _no_rows(_: World, cache: Path, rng: random.Random) -> None:
    path = _pick(cache, rng, "frames")
    columns, attributes = read_file(path)
    empty = {name: column[: name == "label_offsets"] for name, column in columns.items()}
    write_version1(path, empty, attributes)


def _attributes(_: World, cache: Path, rng: random.Random) -> None:
    """Attributes of another type or size, or missing."""
    path = _pick(cache, rng)
    columns, attributes = read_file(path)
    name = rng.choice([*attributes, "settings", "precision"])
    values: list[Any] = [
        np.zeros(50000, "u1"), 7, -1.5, "x" * 60000, "\x1b[31m", "[" * 50000, '{"top": 1e999}', np.array(["a", "b"], object),
    ]  # fmt: skip
    write_version1(path, columns, {**attributes, name: rng.choice(values)})


def _identity(_: World, cache: Path, rng: random.Random) -> None:
    """`cache.json` with values of other types and sizes."""
    path = cache / "cache.json"
    document = json.loads(path.read_text())
    places = [document, *(part for part in document.values() if isinstance(part, dict))]
    place = rng.choice(places)
    key = rng.choice(sorted(place))
    place[key] = rng.choice(
        [
            None,
            -1,
            10**30,
            1e308,
            "",
            "\x1b[31m\n",
            [],
            {},
            "local-dir:/dev/zero",
            "hf-hub:somebody/something",
            True,
            "x" * 10**5,
        ]
    )
    text = json.dumps(document)
    path.write_text(rng.choice([text, text, text, "[" * 100000, '{"a":' * 50000, "9" * 10000, "NaN"]))


def _lines(_: World, cache: Path, rng: random.Random) -> None:
    """Lists of failures, missing videos and labels that no vidclip writes."""
    path = cache / rng.choice(("failures.jsonl", "missing.jsonl", "labels.jsonl"))
    line = rng.choice(
        [
            "[" * 100000,
            '{"id": 5}',
            "null",
            '{"id": "x", "path": "\\u001b[31m", "stage": "open", "reason": "\\u001b]0;title\\u0007", "split": "", "labels": ["\\u001b[1m"], "listed_in": ""}',
            '{"id": null, "path": {}, "stage": [], "reason": 1, "split": 3, "labels": "abc", "listed_in": 7}',
            '{"id": "juggling/clip00.mp4", "labels": 9, "split": {}}',
            "\ud800",
            "9" * 10000,
        ]
    )
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(
        before * rng.randrange(2) + (line.encode("utf-8", "surrogatepass") + b"\n") * rng.choice((1, 3))
    )


def _index(_: World, cache: Path, rng: random.Random) -> None:
    """Format version 2: an index, its digests right, that says what is not so."""
    path = _pick(cache, rng)
    data = path.read_bytes()
    header = struct.Struct("<8sIIQQ32s")  # docs/cache.md
    if not data.startswith(b"vidclip\n"):
        _huge_column(_, cache, rng)
        return
    magic, version, block, end, size, _digest = header.unpack_from(data)
    index = json.loads(data[end : end + size])
    column = index["columns"][rng.choice(sorted(index["columns"]))]
    values: dict[str, list[Any]] = {
        "type": ["O", "|V1000000000", "<U99999999", "<f8", "<f2", "|b1", "M8[ns]", ">f4", "<c16", 7, "" ],
        "shape": [[ROWS, 1], [2**62, 0], [-1], [], [1] * 40, [2**40, 2**40, 2**40], None, ["a"], [1e9], [True]],
        "offset": [-1, 0, 10**18, 2**70, 1.5, "0", None, 511],
        "crc32": ["", "A" * 10**6, "!!", None, 7],
    }  # fmt: skip
    key = rng.choice(list(values))
    column[key] = rng.choice(values[key])
    tail = json.dumps(index).encode()
    tail = rng.choice([tail] * 5 + [b"[" * 10**5, b"{}", b'{"columns": [], "attributes": 5}', b"9" * 10**4])
    if rng.random() < 0.2:
        block = rng.choice((0, 1, 2**31))
    if rng.random() < 0.1:
        end = rng.choice((0, 511, 2**63, len(data)))
    size = len(tail) if rng.random() < 0.9 else 2**40
    head = header.pack(magic, version, block, end, size, hashlib.sha256(tail).digest()).ljust(480, b"\0")
    image = data[512 : min(end, len(data))]
    path.write_bytes(head + hashlib.sha256(head).digest() + image + tail)


HOSTILE: dict[str, Callable[[World, Path, random.Random], None]] = {
    "a column of 1e8 rows": _huge_column,
    "a shard of 1e8 rows": _huge_file,
    "compressed nothing": _compressed,
    "texts of 100 MB": _long_texts,
    "data elsewhere": _elsewhere,
    "other types": _other_types,
    "odd numbers": _odd_numbers,
    "odd texts": _odd_texts,
    "no rows": _no_rows,
    "odd attributes": _attributes,
    "odd cache.json": _identity,
    "odd lists": _lines,
    "odd index": _index,
}
"""Name -> what it does to a cache."""
