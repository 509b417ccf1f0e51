"""Scenes of the world, and what happens in them.

Every video follows from (class, seed): `sample_scene` draws a scene, `timeline` says what happens in each frame, and
`render.render_still` draws one frame. Both classes of an order pair share their scenes; one plays them backwards.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from .actions import ACTIONS, Action, order_pair
from .drawing import Camera
from .figures import (
    HAIRS,
    SHIRTS,
    SKINS,
    TROUSERS,
    Look,
    Placement,
    Pose,
)
from .places import PLACES
from .props import PROPS

FRAMES_PER_SECOND = 10
N_FRAMES = {"trimmed": 24, "order": 24, "idle": 32, "distracting": 32}
"""Frames of a video of each kind."""
KINDS = tuple(N_FRAMES)
ACTIVE_SHARE = 0.3
"""Share of the frames of an untrimmed video that show its action."""

TRAIN_SEEDS = range(10_000)
"""Seeds of training videos (for classifiers)."""
VALIDATION_SEEDS = range(10_000, 20_000)
"""Seeds of validation videos (for settings)."""
TEST_SEEDS = range(20_000, 30_000)
"""Seeds of test videos."""


@dataclass(frozen=True)
class Person:
    """Somebody in a scene, where they stand, and what they have."""

    look: Look
    x: float
    """Where they are in the middle of the video, scene units."""
    ground: float
    """Height of the ground under them, scene units from the top."""
    height: float
    """Their height, scene units."""
    facing: int
    """1 looks right, -1 looks left."""
    action: Action
    prop_paint: int
    """Picks the colors of the prop."""
    phase: float
    """Phase of the movement at time 0."""
    tempo: float
    """Phases a second."""
    stride: float
    """Figure heights walked in a phase."""


@dataclass(frozen=True)
class Thing:
    """A prop that lies about."""

    prop: str
    paint: int
    x: float
    ground: float
    height: float
    """Height of a figure beside it, scene units."""
    facing: int


@dataclass(frozen=True)
class Scene:
    """All that stays the same during a video."""

    place: str
    """A key of PLACES."""
    details: tuple[float, ...]
    """12 numbers in [0, 1): what the place looks like."""
    person: Person
    other: Person | None
    """Somebody further back who does something else (distracting videos)."""
    clutter: tuple[Thing, ...]
    camera: Camera
    """At time 0."""
    pan: float
    """Movement of the camera along x, scene units a second."""
    zooming: float
    """Change of the zoom per second."""
    light: float
    """Brightness; 1 is plain."""
    warmth: float
    """-1 bluish .. 1 reddish."""


@dataclass(frozen=True)
class Moment:
    """What one frame of a scene shows."""

    seconds: float
    doing: str = "action"
    """"action", "story" (an order pair's movement), "standing", "walking", or "nobody".

    In training stills also "miming" (the action without its prop) and "posing" (the pose and the prop given below).
    """
    prop_lies: bool = False
    """Whether the person's prop lies beside them while they do something else."""
    other_acts: bool = False
    """Whether the other person is there, and at it."""
    progress: float = 0.0
    """How far an order pair's movement has come, 0 .. 1."""
    pose: tuple[Pose, Placement] | None = None
    """For "posing": any pose at all, with the person's prop anywhere near."""


def scene_rng(name: str, seed: int, purpose: str = "scene") -> np.random.Generator:
    """The random numbers that belong to (class, seed); the same on every machine."""
    return np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(purpose.encode()), seed])


def sample_look(rng: np.random.Generator) -> Look:
    """A person's clothes, skin and hair."""
    return Look(
        shirt=list(SHIRTS)[rng.integers(len(SHIRTS))],
        trousers=TROUSERS[rng.integers(len(TROUSERS))],
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        hair_style=int(rng.integers(4)),
        build=float(rng.uniform(0.9, 1.2)),
    )


def _person(action: Action, rng: np.random.Generator, far: bool = False) -> Person:
    tall = action.verb in (
        "climbing",
        "balancing",
        "standing on",
        "waving",
        "jumping over",
    ) or action.prop in (
        "a flag",
        "a door",
    )
    height = rng.uniform(0.46, 0.56) if tall else rng.uniform(0.5, 0.68)
    ground = rng.uniform(0.84, 0.93)
    facing = 1 if rng.random() < 0.5 else -1
    ahead = (
        0.0 if action.verb == "jumping over" else 0.1
    )  # things happen in front of people, or around what they jump
    x = 0.5 - facing * ahead + rng.uniform(-0.12, 0.12)
    if far:
        height, ground = height * 0.72, rng.uniform(0.7, 0.76)
        x = rng.uniform(0.12, 0.26) if rng.random() < 0.5 else rng.uniform(0.74, 0.88)
        facing = 1 if x < 0.5 else -1
    return Person(
        look=sample_look(rng),
        x=float(x),
        ground=float(ground),
        height=float(height),
        facing=facing,
        action=action,
        prop_paint=int(rng.integers(84)),
        phase=float(rng.random() * 2),
        tempo=float(rng.uniform(0.6, 1.2)),
        stride=float(rng.uniform(0.0, 0.16)),
    )


def sample_scene(
    action: Action, rng: np.random.Generator, *, other: Action | None = None, clutter: tuple[str, ...] = ()
) -> Scene:
    """A scene of an action.

    other    what a second person, further back, does; none by default
    clutter  names of props that lie about
    """
    person = _person(action, rng)
    second = _person(other, rng, far=True) if other else None
    if second and abs(second.x - person.x) < 0.3:
        person = Person(**{**person.__dict__, "x": 0.5 + (0.5 - second.x) * 0.4})
    things = []
    for name in clutter:
        side = 1 if rng.random() < 0.5 else -1
        things.append(
            Thing(
                prop=name,
                paint=int(rng.integers(84)),
                x=float(0.5 + side * rng.uniform(0.24, 0.42)),
                ground=float(rng.uniform(0.74, 0.95)),
                height=float(rng.uniform(0.45, 0.6)),
                facing=1 if rng.random() < 0.5 else -1,
            )
        )
    return Scene(
        place=list(PLACES)[rng.integers(len(PLACES))],
        details=tuple(float(u) for u in rng.random(12)),
        person=person,
        other=second,
        clutter=tuple(things),
        camera=Camera(
            0.5 + rng.uniform(-0.05, 0.05), 0.52 + rng.uniform(-0.02, 0.02), rng.uniform(0.95, 1.12)
        ),
        pan=float(rng.uniform(-0.03, 0.03)),
        zooming=float(rng.uniform(-0.03, 0.05)),
        light=float(rng.uniform(0.75, 1.12)),
        warmth=float(rng.uniform(-0.08, 0.08)),
    )


def timeline(kind: str, rng: np.random.Generator) -> list[Moment]:
    """What happens in each frame of a video.

    kind  "trimmed": the action throughout.
          "idle": the action in one run of ACTIVE_SHARE of the frames, at a random place; before and after it the person
          stands, walks or is away, and the prop lies there or is absent.
          "distracting": as idle, and while the action does not happen another person does something else.
          "order": one movement from beginning to end, with rests of random length around it.
    Returns N_FRAMES[kind] moments.
    """
    n = N_FRAMES[kind]
    times = [i / FRAMES_PER_SECOND for i in range(n)]
    if kind == "trimmed":
        return [Moment(t) for t in times]
    if kind == "order":
        length = rng.uniform(0.45, 0.7) * n
        begin = rng.uniform(0.05 * n, 0.95 * n - length)
        return [
            Moment(t, "story", progress=float(np.clip((i - begin) / length, 0, 1)))
            for i, t in enumerate(times)
        ]
    n_active = round(ACTIVE_SHARE * n)
    first = int(rng.integers(0, n - n_active + 1))
    rest = []
    for _ in range(2):  # before and after
        doing = ("standing", "standing", "walking", "walking", "nobody")[rng.integers(5)]
        rest.append((doing, bool(rng.random() < 0.5)))
    moments = []
    for i, t in enumerate(times):
        if first <= i < first + n_active:
            moments.append(Moment(t))
        else:
            doing, prop_lies = rest[0 if i < first else 1]
            moments.append(Moment(t, doing, prop_lies=prop_lies, other_acts=kind == "distracting"))
    return moments


def video_scene(action: Action, seed: int, kind: str = "trimmed") -> tuple[Scene, list[Moment]]:
    """The scene of the video (class, seed) of a kind, and what happens in each frame.

    Both classes of an order pair have the same scene for the same seed, with the moments in opposite order.
    Raises ValueError when the kind does not exist or does not fit the class.
    """
    pair = order_pair(action)
    if kind not in N_FRAMES:
        raise ValueError(f'there is no kind of video "{kind}"; the kinds are {", ".join(KINDS)}.')
    if (pair is not None) != (kind == "order"):
        raise ValueError(f'"{action.name}" has no videos of the kind "{kind}".')
    base, backwards = pair if pair else (action, False)
    rng = scene_rng(base.name, seed, kind)
    other = None
    if kind == "distracting":
        others = [a for a in ACTIONS if a != action]
        other = others[rng.integers(len(others))]
    clutter: tuple[str, ...] = ()
    if rng.random() < 0.25:
        clutter = (list(PROPS)[rng.integers(len(PROPS))],)
    if base.prop in clutter:
        clutter = ()
    scene = sample_scene(base, rng, other=other, clutter=clutter)
    moments = timeline(kind, rng)
    return scene, moments[::-1] if backwards else moments
