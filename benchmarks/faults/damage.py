"""Ways to damage bytes."""

from __future__ import annotations

import random


def flip_bits(data: bytearray, rng: random.Random, start: int = 0, stop: int | None = None) -> None:
    """One to twenty bits, anywhere or in [start, stop)."""
    stop = len(data) if stop is None else min(stop, len(data))
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[rng.randrange(start, stop)] ^= 1 << rng.randrange(8)


def zero_page(data: bytearray, rng: random.Random) -> None:
    """A page of a disk that was never written: 4 KiB, or a sector."""
    size = rng.choice((512, 4096))
    at = size * rng.randrange(-(-len(data) // size))
    data[at : at + size] = bytes(len(data[at : at + size]))


def overwrite(data: bytearray, rng: random.Random) -> None:
    """Random bytes in the place of some."""
    size = min(len(data), rng.choice((8, 64, 512)))
    at = rng.randrange(len(data) - size + 1)
    data[at : at + size] = rng.randbytes(size)


def truncate(data: bytearray, rng: random.Random) -> None:
    """An end that is not there: a few bytes, or most of the file."""
    keep = rng.choice((rng.randrange(len(data)), max(0, len(data) - rng.randrange(1, 64))))
    del data[keep:]


def behead(data: bytearray, rng: random.Random) -> None:
    """A beginning that is not there."""
    del data[: rng.randrange(1, len(data))]


def cut_out(data: bytearray, rng: random.Random) -> None:
    """A piece that is not there: all behind it has moved."""
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 7, 188, 512))]


def append(data: bytearray, rng: random.Random) -> None:
    """Something behind the end: noise, or the beginning of the file once more."""
    data += rng.choice((rng.randbytes(300), bytes(data[: len(data) // 2])))


def length_field(data: bytearray, rng: random.Random, places: list[int] | None = None) -> None:
    """Four bytes that say a length, or might: huge, zero, or negative."""
    at = rng.choice(places) if places else rng.randrange(max(1, len(data) - 4))
    data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x10\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"))


ANYWHERE = {
    "flipped bits": flip_bits,
    "zeroed page": zero_page,
    "overwritten": overwrite,
    "truncated": truncate,
    "beheaded": behead,
    "a piece cut out": cut_out,
    "something appended": append,
    "a length field": length_field,
}
"""Name -> what it does to a file of any format."""
