"""Damaged videos among sound ones, through `vidclip extract`: each must cost itself alone, and not pass for sound.

A damaged video may fail, by name; or come out like the sound one, where the damage met nothing that is looked at; or
with a note. Where its features differ and nothing is said, FFmpeg is asked in a process of its own: if it reports an
error, conceals a loss, or calls a frame corrupt, then that could have been known. Where FFmpeg decodes the file
without a word, nobody can know: most formats have no checksum, and a flipped bit may be another sound video.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from damage import ANYWHERE, append, flip_bits, length_field, truncate
from fixtures import write_list
from harness import GIB, Limits, Outcome, Trial, vidclip, watched

PER_CASE = 20
"""Damaged videos in one list."""
_EXTRACT = ("--model", "demo", "--frames", "4", "--workers", "1", "--timeout", "20", "--cache", "cache")
_MEMORY = 1 * GIB
"""More than this above the imported program, in it or in a worker, is too much for pictures of 96 x 64."""


@dataclass(frozen=True)
class Sound:
    """A video before it is damaged."""

    path: Path
    data: bytes
    packets: list[tuple[int, int]]
    """Where its packets lie, and how long they are; empty where the container does not tell."""
    features: bytes
    complaints: frozenset[str]
    """What FFmpeg says of it though it is sound."""


def sound_videos(paths: dict[str, Path], folder: Path) -> dict[str, Sound]:
    """What the undamaged videos give."""
    unbroken = folder / "sound-videos"
    done = vidclip(
        "extract", *paths.values(), *_EXTRACT, "--root", next(iter(paths.values())).parent, folder=unbroken
    )
    if done.complaint or done.status:
        raise RuntimeError(f"the sound videos: {done.status} {done.stdout} {done.stderr}")
    features, notes = _features(unbroken / "cache"), _notes(unbroken / "cache")
    work = folder / "sound-packets"
    known = json.loads(
        _in_child(
            lambda: print(
                json.dumps({kind: (_packets(path), _complaints(path)) for kind, path in paths.items()})
            ),
            work,
        ).stdout
    )
    sound = {}
    for kind, path in paths.items():
        if any(word in notes[path.name] for word in ("damage", "could not be read", "conceal")):
            raise RuntimeError(f"the sound video {kind} is called damaged: {notes[path.name]}")
        places, complaints = known[kind]
        sound[kind] = Sound(path, path.read_bytes(), places, features[path.name], frozenset(complaints))
    return sound


def cases_for(videos: int) -> int:
    return -(-videos // PER_CASE)


def case(sound: dict[str, Sound], rng: random.Random, folder: Path, limits: Limits) -> Iterator[Trial]:
    """One extraction of damaged videos, with sound ones first, between and last."""
    made: dict[str, tuple[str, Sound]] = {}  # name -> what was done to it, and what it was
    for number in range(PER_CASE):
        kind = rng.choice(list(sound))
        what, data = _damaged(sound, kind, rng)
        name = f"{number:02}_{kind}"
        (folder / name).write_bytes(data)
        made[name] = (what, sound[kind])
    for number in rng.sample(range(PER_CASE), 3):
        kind = rng.choice(list(sound))
        name = f"{number:02}_sound_{kind}"
        (folder / name).write_bytes(sound[kind].data)
        made[name] = ("(sound, among them)", sound[kind])
    write_list(folder / "list.csv", [(name, "", "") for name in sorted(made)])
    done = vidclip("extract", "list.csv", *_EXTRACT, folder=folder, limits=Limits(limits.seconds * 10))
    if done.complaint or done.status not in (0, 1):
        yield Trial("(the extraction)", "wrong", done.complaint or f"it ended: {done.last_line}")
        return
    if done.grown_bytes > _MEMORY:
        yield Trial("(the extraction)", "wrong", f"it took {done.grown_bytes / GIB:.1f} GiB")
    failures = _failures(folder / "cache")
    features, notes = _features(folder / "cache"), _notes(folder / "cache")
    for name, (what, origin) in made.items():
        wrong = ""
        if (name in features) == (name in failures):
            outcome, wrong = (
                "wrong",
                f"{name} is {'both' if name in features else 'neither'} in the cache and failures",
            )
        elif name in failures:
            outcome = "failed, by name"
            if what.startswith("(sound"):
                outcome, wrong = "wrong", f"{name} is sound and failed: {failures[name]}"
            elif failures[name].strip() == "" or "Error:" in failures[name]:
                outcome, wrong = "wrong", f"{name} failed with the words {failures[name]!r}"
        elif features[name] == origin.features:
            outcome = "the same features"
        elif what.startswith("(sound"):
            outcome, wrong = "wrong", f"{name} is sound, and has other features among damaged ones"
        elif notes[name]:
            outcome = "other features, with a note"
        else:
            known = _ffmpeg_says(folder / name, folder) - origin.complaints
            outcome = "other features, unknowable"
            if known:
                outcome = "wrong"
                wrong = f"{name} has other features and no note, though FFmpeg says: {min(known)}"
        yield Trial(what, outcome, wrong)


def _damaged(sound: dict[str, Sound], kind: str, rng: random.Random) -> tuple[str, bytes]:
    """What was done, and the bytes."""
    origin = sound[kind]
    data = bytearray(origin.data)
    special = [
        "bits of a packet",
        "a packet's length",
        "packets swapped",
        "bits of the header",
        "another file",
    ]
    what = rng.choice([*ANYWHERE, *special, *special[:3]])
    if what in special[:3] and not origin.packets:
        what = "flipped bits"
    if what in ANYWHERE:
        ANYWHERE[what](data, rng)
    elif what == "bits of a packet":
        at, size = rng.choice(origin.packets)
        flip_bits(data, rng, at, at + size)
    elif what == "a packet's length":
        length_field(data, rng, [at for at, _ in origin.packets])
    elif what == "packets swapped":
        (a, size_a), (b, size_b) = rng.choice(origin.packets), rng.choice(origin.packets)
        n = min(size_a, size_b)
        first, second = origin.data[a : a + n], origin.data[b : b + n]
        data[a : a + n], data[b : b + n] = second, first
    elif what == "bits of the header":
        first = min((at for at, _ in origin.packets), default=512)
        last = max((at + size for at, size in origin.packets), default=len(data))
        flip_bits(data, rng, *rng.choice([(0, max(64, first)), (min(last, len(data) - 64), len(data))]))
    else:
        other = sound[rng.choice(list(sound))].data
        texts = (
            b"ffconcat version 1.0\nfile '" + bytes(origin.path) + b"'\n",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n" + bytes(origin.path) + b"\n#EXT-X-ENDLIST\n",
            b"",
            rng.randbytes(3000),
            b"\0" * 5000,
            bytes(data[: len(data) // 2]) + other[len(other) // 2 :],
        )
        data = bytearray(rng.choice(texts))
    if rng.random() < 0.1:
        rng.choice((append, truncate))(data, rng) if data else None
    return what, bytes(data)


def _features(cache: Path) -> dict[str, bytes]:
    from vidclip.cache import FeatureCache

    features = FeatureCache(cache)
    return dict(zip(features.ids, (frames.tobytes() for frames in features.frames()), strict=True))


def _notes(cache: Path) -> dict[str, str]:
    from vidclip.cache import FeatureCache

    return {video.id: video.note for video in FeatureCache(cache).videos}


def _failures(cache: Path) -> dict[str, str]:
    from vidclip.cache import FeatureCache

    return {failure.id: failure.reason for failure in FeatureCache(cache).failures()}


# ---- another opinion


def _in_child(work: object, folder: Path) -> Outcome:
    return watched(work, folder=folder, limits=Limits(30, 4 * GIB))  # pyright: ignore[reportArgumentType]


def _packets(path: Path) -> list[tuple[int, int]]:
    import av

    with av.open(str(path)) as container:
        found = [
            (p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None and p.pos >= 0
        ]
    data = path.read_bytes()
    return [(at, size) for at, size in found if at + size <= len(data)]


def _ffmpeg_says(path: Path, folder: Path) -> set[str]:
    """What FFmpeg's libraries report while they decode all of a file, in a process of their own."""
    done = _in_child(lambda: print(json.dumps(_complaints(path))), folder)
    return set(json.loads(done.stdout)) if done.status == 0 else {f"it ends with {done.status}"}


def _complaints(path: Path) -> list[str]:
    """Errors, concealed losses, corrupt frames."""
    import av
    import av.logging

    av.logging.set_level(av.logging.INFO)
    av.logging.set_skip_repeated(False)
    found: set[str] = set()
    with av.logging.Capture(local=False) as lines:
        try:
            with av.open(str(path), metadata_errors="replace") as container:
                stream = container.streams.video[0]
                stream.thread_type = "NONE"
                for packet in container.demux(stream):
                    if packet.is_corrupt:
                        found.add("a packet is corrupt")
                    try:
                        if any(frame.is_corrupt for frame in packet.decode()):
                            found.add("a frame is corrupt")
                    except av.error.FFmpegError as error:
                        found.add(f"a packet cannot be decoded: {error.strerror}")
        except (av.error.FFmpegError, IndexError) as error:
            found.add(f"{type(error).__name__}: {error}")
    for level, _, text in lines:
        if level <= av.logging.ERROR or "conceal" in text:
            found.add("".join(letter for letter in text.strip() if not letter.isdigit())[:120])
    return sorted(found)
