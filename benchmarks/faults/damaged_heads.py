"""Damaged and hostile heads, through `vidclip eval --head` and `predict --head`: refused, or used with the same result."""

from __future__ import annotations

import hashlib
import json
import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from damage import ANYWHERE
from fixtures import HEADS, World
from harness import GIB, Limits, Outcome, Trial, vidclip

_MEMORY = GIB // 2

Result = tuple[bytes, frozenset[str]]
"""What came out, and the lines on standard error."""


class SoundResults:
    """What the undamaged heads give; computed when it is asked for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found: dict[tuple[str, str], Result] = {}

    def __call__(self, use: str, name: str, folder: Path) -> Result:
        """By a process in its `folder`."""
        if (use, name) not in self._found:
            work = folder / "sound"
            work.mkdir()
            (work / "head.safetensors").write_bytes((self._world.folder / f"{name}.safetensors").read_bytes())
            self._found[use, name], done = _use(use, name, self._world, work, Limits(300))
            if done.complaint or done.status:
                raise RuntimeError(f"{use} {name}: {done.status} {done.stdout} {done.stderr}")
        return self._found[use, name]


def case(
    world: World, sound: SoundResults, rng: random.Random, folder: Path, limits: Limits
) -> Iterator[Trial]:
    """One damaged head, used once."""
    name = rng.choice(list(HEADS))
    use = "predict" if name != "attributes" and rng.random() < 1 / 6 else "eval"
    expected, known_lines = sound(use, name, folder)
    before = (world.folder / f"{name}.safetensors").read_bytes()
    head = folder / "head.safetensors"
    if hostile := rng.random() < 0.4:
        way = rng.choice(list(HOSTILE))
        what = f"hostile: {way}"
        head.write_bytes(HOSTILE[way](before, world, rng))
    else:
        what, data = _damaged(before, name, world, rng)
        head.write_bytes(data)
    (value, lines), done = _use(use, name, world, folder, limits)
    wrong = ""
    if done.complaint:
        wrong = done.complaint
    elif re.search("(?i)not enough memory|cannot allocate|memoryerror", done.stderr):
        wrong = f"asks for all memory there is: {done.last_line}"
    elif done.grown_bytes > _MEMORY:
        wrong = f"takes {done.grown_bytes / GIB:.1f} GiB"
    elif re.search(rb"\bNaN\b|Infinity", value):
        wrong = "NaN in a result"
    elif done.status:
        outcome = "refused"
    elif value == expected:
        outcome = "the same result"
    elif hostile:  # its checksums are right: it is another head
        outcome = "taken as it is"
    elif lines - known_lines:
        outcome = "another result, with a warning"
    else:
        wrong = "another result without a word"
    yield Trial(what, "wrong" if wrong else outcome, f"{use} {name}: {wrong}" if wrong else "")


def _use(use: str, name: str, world: World, work: Path, limits: Limits) -> tuple[Result, Outcome]:
    more: tuple[object, ...] = ("--cache", world.folder / "cache")
    if name == "attributes":
        more += ("--attributes", "demo")
    if use == "predict":
        more = (world.videos / "juggling" / "clip00.mp4", "--workers", "1")
    done = vidclip(use, *more, "--head", "head.safetensors", "--json", "result", folder=work, limits=limits)
    path = work / "result"
    return (path.read_bytes() if path.exists() else b"", frozenset(done.stderr.splitlines())), done


def _damaged(data: bytes, name: str, world: World, rng: random.Random) -> tuple[str, bytes]:
    """What was done, and the bytes; most of it near the beginning, where the header is."""
    what = rng.choice(
        [*ANYWHERE, "flipped bits in the header", "a tensor of another head", "tensors swapped"]
    )
    if what in ANYWHERE:
        changed = bytearray(data)
        ANYWHERE[what](changed, rng)
        return what, bytes(changed)
    if what == "flipped bits in the header":
        changed = bytearray(data)
        size = struct.unpack("<Q", data[:8])[0]
        ANYWHERE["flipped bits"](changed, rng, 0, 8 + size)  # pyright: ignore[reportCallIssue]
        return what, bytes(changed)
    header, body = take_apart(data)
    tensors = sorted(key for key in header if key != "__metadata__")
    one = rng.choice(tensors)
    if what == "tensors swapped":
        alike = [key for key in tensors if header[key]["shape"] == header[one]["shape"]]
        other = rng.choice(alike)
        header[one]["data_offsets"], header[other]["data_offsets"] = (
            header[other]["data_offsets"],
            header[one]["data_offsets"],
        )
        return what, put_together(header, body)
    strange = (world.folder / f"{rng.choice([n for n in HEADS if n != name])}.safetensors").read_bytes()
    _, other_body = take_apart(strange)
    a, b = header[one]["data_offsets"]
    return what, put_together(header, body[:a] + (other_body * (1 + b // len(other_body)))[a:b] + body[b:])


def take_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and its body."""
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def put_together(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# ---- heads made to do harm, with digests that are right


def seal(metadata: dict[str, Any], header: dict[str, Any], body: bytes) -> bytes:
    """The file with its digest right: SHA-256 over the metadata and each tensor's name, type, shape and bytes."""

    def canonical(value: Any) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    types = {"F32": "torch.float32", "I64": "torch.int64", "F16": "torch.float16", "F64": "torch.float64"}
    metadata = {key: value for key, value in metadata.items() if key != "sha256"}
    digest = hashlib.sha256(canonical(metadata))
    for name in sorted(key for key in header if key != "__metadata__"):
        tensor = header[name]
        start, stop = tensor["data_offsets"]
        digest.update(canonical([name, types.get(tensor["dtype"], "?"), tensor["shape"]]) + body[start:stop])
    metadata["sha256"] = digest.hexdigest()
    header["__metadata__"] = {"vidclip": json.dumps(metadata, sort_keys=True)}
    return put_together(header, body)


def _odd_metadata(data: bytes, _: World, rng: random.Random) -> bytes:
    """A value of another type or size somewhere in the metadata."""
    header, body = take_apart(data)
    metadata = json.loads(header["__metadata__"]["vidclip"])
    place: Any = metadata
    while True:
        key = rng.choice(sorted(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.3:
            break
        place = inner
    values: list[Any] = [
        *(
            None,
            -1,
            0,
            1,
            10**12,
            10**30,
            1e300,
            1e-320,
            float("nan"),
            float("inf"),
            "",
            "\x1b[31m\n",
            "{",
            True,
        ),
        *([], {}, [[]], "x" * 10**5, "local-dir:/dev/zero", "hf-hub:somebody/something", ["a"] * 10**5),
    ]
    place[key] = rng.choice(values)
    return seal(metadata, header, body)


def _missing_metadata(data: bytes, _: World, rng: random.Random) -> bytes:
    header, body = take_apart(data)
    metadata = json.loads(header["__metadata__"]["vidclip"])
    place = rng.choice(
        [metadata, metadata["structure"] or metadata, metadata["settings"], metadata["identity"]]
    )
    del place[rng.choice(sorted(place))]
    return seal(metadata, header, body)


def _deep_metadata(data: bytes, _: World, rng: random.Random) -> bytes:
    header, body = take_apart(data)
    text = rng.choice(["[" * 10**5, '{"a":' * 10**5, "NaN", "9" * 10**4, "null", "[]", "\\ud800"])
    header["__metadata__"] = {rng.choice(("vidclip", "vidclip", "other")): text}
    return put_together(header, body)


def _odd_numbers(data: bytes, _: World, rng: random.Random) -> bytes:
    """Weights that are not finite, or as large as floats get."""
    header, body = take_apart(data)
    metadata = json.loads(header["__metadata__"]["vidclip"])
    name = rng.choice(sorted(key for key in header if key != "__metadata__"))
    start, stop = header[name]["data_offsets"]
    kind = {"F32": "<f4", "I64": "<i8"}[header[name]["dtype"]]
    numbers = np.frombuffer(body[start:stop], kind).copy()
    if len(numbers):
        values = (np.nan, np.inf, -np.inf, 3e38, 0.0) if kind == "<f4" else (-1, 2**63 - 1, 10**6, 0)
        numbers[rng.choice((slice(None), rng.randrange(len(numbers))))] = rng.choice(values)
    return seal(metadata, header, body[:start] + numbers.tobytes() + body[stop:])


def _odd_tensors(data: bytes, _: World, rng: random.Random) -> bytes:
    """Shapes, types and places that the file does not have."""
    header, body = take_apart(data)
    metadata = json.loads(header["__metadata__"]["vidclip"])
    name = rng.choice(sorted(key for key in header if key != "__metadata__"))
    tensor = header[name]
    way = rng.choice(("shape", "dtype", "data_offsets", "gone", "renamed", "many", "reshaped"))
    if way == "shape":
        tensor["shape"] = rng.choice(
            [[10**12], [2**40, 2**40], [0, 10**15], [], [-1], [1] * 100, tensor["shape"][::-1]]
        )
        if rng.random() < 0.5:
            tensor["data_offsets"] = [0, 0]
    elif way == "reshaped":
        size = int(np.prod(tensor["shape"]))
        tensor["shape"] = rng.choice([[size], [1, size], [size, 1]])
    elif way == "dtype":
        tensor["dtype"] = rng.choice(["F64", "I64", "F16", "BF16", "U8", "F8_E4M3", "BOOL", "X"])
    elif way == "data_offsets":
        tensor["data_offsets"] = rng.choice([[0, 10**15], [10, 5], [-5, 10], [0, 4], [2**63, 2**64]])
    elif way == "gone":
        del header[name]
    elif way == "renamed":
        header[rng.choice(("head.x", "", "\x1b[31m", "prompt.context"))] = header.pop(name)
    else:
        header |= {
            f"head.extra{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(3000)
        }
    try:
        return seal(metadata, header, body)
    except (TypeError, ValueError):
        return put_together(header, body)


def _header_size(data: bytes, _: World, rng: random.Random) -> bytes:
    return struct.pack("<Q", rng.choice((0, 1, 10**8, 2**40, 2**63, 2**64 - 1))) + data[8:]


def _other_file(data: bytes, world: World, rng: random.Random) -> bytes:
    shard = next((world.folder / "cache").glob("frames-*")).read_bytes()
    pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\0."
    return rng.choice(
        (b"", b"{}", shard, pickle, b"PK\x03\x04" + data[:500], b"\0" * 4096, rng.randbytes(4096))
    )


HOSTILE: dict[str, Callable[[bytes, World, random.Random], bytes]] = {
    "odd metadata": _odd_metadata,
    "missing metadata": _missing_metadata,
    "deep metadata": _deep_metadata,
    "odd numbers": _odd_numbers,
    "odd tensors": _odd_tensors,
    "a header's size": _header_size,
    "another file": _other_file,
}
"""Name -> what it makes of a head's bytes."""
