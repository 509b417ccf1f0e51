"""What people do: for each verb, where a body and its prop are at a phase of the movement.

Figure units (see `figures`). A phase is a real number that grows with time; a movement repeats when it grows by 1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from .drawing import Point
from .figures import Placement, Pose, shoulder_of
from .props import Prop

TAU = 2 * math.pi


def keyed(phase: float, times: Sequence[float], values: Sequence[Point]) -> Point:
    """A point that moves smoothly through `values` at `times`; times ascend from 0 to 1."""
    phase %= 1.0
    i = min(bisect_right(times, phase), len(times) - 1)
    u = (phase - times[i - 1]) / (times[i] - times[i - 1])
    u = u * u * (3 - 2 * u)
    (ax, ay), (bx, by) = values[i - 1], values[i]
    return ax + (bx - ax) * u, ay + (by - ay) * u


def rocking(phase: float) -> float:
    """0 .. 1 .. 0 over one phase, smoothly."""
    return 0.5 - 0.5 * math.cos(TAU * phase)


def standing(phase: float) -> Pose:
    """At rest: breathing, arms hanging, the head moving a little."""
    s = math.sin(TAU * phase * 0.5)
    return Pose(hip=(0.0, 0.488 + 0.003 * s), near_hand=(0.06 + 0.015 * s, 0.46), far_hand=(-0.02 - 0.01 * s, 0.46),
                nod=0.12 * math.sin(TAU * phase * 0.31))  # fmt: skip


def _steps(phase: float, stride: float = 0.17, lift: float = 0.07) -> tuple[Point, Point]:
    a = TAU * phase
    near = (stride * math.cos(a), lift * max(0.0, -math.sin(a)))
    far = (-stride * math.cos(a), lift * max(0.0, math.sin(a)))
    return near, far


def walking(phase: float) -> Pose:
    """Walking on the spot; the caller moves the figure."""
    near, far = _steps(phase)
    swing = 0.15 * math.cos(TAU * phase)
    return Pose(hip=(0.0, 0.47), lean=0.07, near_foot=near, far_foot=far, near_hand=(0.05 - swing, 0.49),
                far_hand=(0.05 + swing, 0.49))  # fmt: skip


def _kicking(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    p = phase % 1.0
    foot = keyed(p, (0, 0.22, 0.4, 0.58, 0.85, 1), ((-0.05, 0), (-0.26, 0.17), (0.4, 0.2), (0.42, 0.3), (0.0, 0.0),
                                                     (-0.05, 0)))  # fmt: skip
    swing = foot[0]
    pose = Pose(hip=(-0.02, 0.48), lean=-0.12 - 0.35 * max(0.0, swing), near_foot=foot, far_foot=(-0.04, 0.0),
                near_hand=(-0.1 - 0.4 * swing, 0.58), far_hand=(0.12 + 0.5 * swing, 0.6))  # fmt: skip
    u = max(0.0, (p - 0.36) / 0.64)
    away = math.sin(math.pi * u)
    x = 0.3 + prop.width / 2 + 0.42 * away
    y = prop.height / 2 + 0.2 * abs(math.sin(TAU * u)) * (1 - u)
    return pose, Placement((x, y), 1.2 * away if not prop.long else 0.0)


def _throwing(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    p = phase % 1.0
    hand = keyed(
        p, (0, 0.28, 0.44, 0.6, 1), ((0.14, 0.62), (-0.16, 0.95), (0.3, 0.94), (0.3, 0.55), (0.14, 0.62))
    )
    lean = keyed(p, (0, 0.28, 0.44, 0.6, 1), ((0.0, 0), (-0.22, 0), (0.2, 0), (0.32, 0), (0.0, 0)))[0]
    pose = Pose(hip=(0.0, 0.465), lean=lean, near_hand=hand, far_hand=(hand[0] + 0.05, hand[1] - 0.03),
                near_foot=(-0.17, 0.0), far_foot=(0.19, 0.0), nod=-0.2)  # fmt: skip
    if p < 0.42:
        return pose, Placement((hand[0] + 0.02, hand[1] + prop.height * 0.35), 0.3 * lean, layer=1)
    u = (p - 0.42) / 0.58
    x = 0.3 * (1 - u) + 0.16 * u + 0.5 * math.sin(math.pi * u)
    y = 0.94 * (1 - u) + 0.62 * u + prop.height * 0.35 + 0.3 * math.sin(math.pi * u)
    return pose, Placement((x, y), TAU * u * (0.0 if prop.name == "a balloon" else 1.0), layer=1)


def _carrying(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    pose = walking(phase)
    bob = 0.012 * math.cos(2 * TAU * phase)
    if prop.long:
        return (
            Pose(hip=pose.hip, lean=0.08, near_foot=pose.near_foot, far_foot=pose.far_foot, near_hand=(0.17, 0.72 + bob),
                 far_hand=(-0.14, 0.7 + bob)),
            Placement((0.04, 0.78 + bob), math.pi / 2 + 0.06, layer=1),
        )  # fmt: skip
    reach = 0.1 + min(prop.width, 0.32) / 2
    pose = Pose(hip=pose.hip, lean=-0.06, near_foot=pose.near_foot, far_foot=pose.far_foot,
                near_hand=(reach, 0.53 + bob), far_hand=(reach + 0.05, 0.52 + bob))  # fmt: skip
    low = 0.1 if prop.name == "a guitar" else min(prop.height, 0.4) / 2
    tilt = 0.5 if prop.name == "a guitar" else 0.0
    return pose, Placement((reach + 0.03, 0.51 + low + bob), tilt, layer=1)


def _climbing(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    rise = 0.1 + 0.42 * rocking(phase * 0.5)
    s = math.sin(TAU * phase * 1.5)
    hip = (-0.06, 0.42 + rise)
    x = 0.13
    pose = Pose(hip=hip, lean=0.1, near_hand=(x, hip[1] + 0.46 + 0.1 * s), far_hand=(x, hip[1] + 0.46 - 0.1 * s),
                near_foot=(x - 0.03, hip[1] - 0.3 - 0.1 * s), far_foot=(x - 0.03, hip[1] - 0.3 + 0.1 * s),
                nod=-0.25)  # fmt: skip
    return pose, Placement((x, 0.62), scale=1.15 if prop.name == "a ladder" else 1.75)


def _waving(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    s = math.sin(TAU * phase)
    hand = (0.07 + 0.1 * s, 1.06 - 0.02 * abs(s))
    pose = Pose(near_hand=hand, far_hand=(-0.1, 0.52), near_foot=(0.1, 0.0), far_foot=(-0.09, 0.0), hip=(0, 0.482),
                lean=0.05 * s, nod=-0.1)  # fmt: skip
    angle = 0.62 * s
    grip = prop.grip
    return pose, Placement(
        (hand[0] + grip * math.sin(angle), hand[1] + grip * math.cos(angle)), angle, layer=1
    )


def _jumping_over(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    p = phase % 2.0
    mirrored, p = p >= 1.0, p % 1.0
    u = min(max((p - 0.14) / 0.72, 0.0), 1.0)
    x = -0.42 + 0.84 * u
    tuck = math.sin(math.pi * u)
    lift = (prop.height * 0.9 + 0.14) * tuck
    crouch = 0.07 * (1 - tuck)
    pose = Pose(hip=(x, 0.47 - crouch + lift), lean=0.22, near_hand=(x + 0.2 + 0.05 * tuck, 0.62 + lift + 0.42 * tuck),
                far_hand=(x - 0.05 + 0.02 * tuck, 0.62 + lift + 0.46 * tuck),
                near_foot=(x + 0.05 + 0.24 * tuck, lift + 0.12 * tuck), far_foot=(x - 0.06 - 0.2 * tuck, lift + 0.1 * tuck),
                mirrored=mirrored)  # fmt: skip
    return pose, Placement((0.0, prop.height / 2))


def _sitting_on(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    s = math.sin(TAU * phase * 0.5)
    seat = prop.top
    swing = 0.05 * math.sin(TAU * phase)
    pose = Pose(hip=(0.0, seat + 0.045), lean=0.06 * s, near_hand=(0.2, seat + 0.12 + 0.04 * s),
                far_hand=(0.16, seat + 0.1), near_foot=(0.27 + swing, 0.0), far_foot=(0.24 - swing, 0.0),
                nod=0.15 * s)  # fmt: skip
    return pose, Placement((0.0, prop.height / 2))


def _pushing(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    near, far = _steps(phase, 0.16, 0.06)
    hold = min(0.55, max(0.24, prop.height * 0.8))
    pose = Pose(hip=(-0.16, 0.43), lean=0.62 + 0.25 * max(0.0, 0.4 - hold), near_foot=(near[0] - 0.24, near[1]),
                far_foot=(far[0] - 0.24, far[1]), near_hand=(0.24, hold), far_hand=(0.25, hold + 0.05),
                nod=-0.2)  # fmt: skip
    rolls = prop.name in ("a ball", "a tyre")
    return pose, Placement((0.25 + prop.width / 2, prop.height / 2), phase * 2.0 if rolls else 0.0)


def _pulling(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    near, far = _steps(-phase, 0.12, 0.05)
    tug = 0.03 * math.sin(TAU * phase)
    hand = (0.14 + tug, 0.55)
    pose = Pose(hip=(-0.22, 0.42), lean=-0.42 - tug, near_foot=(near[0] + 0.02, near[1]), far_foot=(far[0] + 0.02, far[1]),
                near_hand=hand, far_hand=(hand[0] + 0.05, hand[1] - 0.02), nod=0.2)  # fmt: skip
    at = (0.5 + prop.width / 2, prop.height / 2)
    return pose, Placement(at, strand=(hand, (at[0] - prop.width * 0.35, at[1] + 0.05)))


def _swinging(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    angle = keyed(phase, (0, 0.35, 0.6, 1), ((-0.5, 0), (2.3, 0), (2.5, 0), (-0.5, 0)))[0]
    pose = Pose(
        hip=(0.0, 0.455), lean=0.04 + 0.1 * math.sin(angle), near_foot=(0.22, 0.0), far_foot=(-0.2, 0.0)
    )
    shoulder = shoulder_of(pose)
    out = (math.sin(angle), math.cos(angle))
    hand = (shoulder[0] + 0.27 * out[0], shoulder[1] + 0.27 * out[1])
    pose = Pose(hip=pose.hip, lean=pose.lean, near_foot=pose.near_foot, far_foot=pose.far_foot, near_hand=hand,
                far_hand=(hand[0] + 0.03, hand[1] + 0.02))  # fmt: skip
    grip = abs(prop.grip) - 0.02
    turn = math.pi if prop.grip < 0 else 0.0
    return pose, Placement((hand[0] + grip * out[0], hand[1] + grip * out[1]), angle + turn, layer=1)


def _lifting(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    up = keyed(phase, (0, 0.1, 0.4, 0.65, 0.95, 1), ((0, 0), (0, 0), (1, 0), (1, 0), (0, 0), (0, 0)))[0]
    hip = (0.0, 0.36 + 0.12 * up)
    y = 0.34 + 0.7 * up
    tall = prop.width if prop.long else prop.height
    pose = Pose(hip=hip, lean=0.25 * (1 - up), near_hand=(0.16 - 0.06 * up, y), far_hand=(0.22 - 0.1 * up, y),
                near_foot=(0.14, 0.0), far_foot=(-0.13, 0.0), nod=-0.25 * up)  # fmt: skip
    angle = math.pi / 2 if prop.long else 0.0
    return pose, Placement((0.2 - 0.14 * up, y + tall * 0.42), angle, layer=1)


def _standing_on(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    s = math.sin(TAU * phase)
    top = prop.top
    pose = Pose(hip=(0.01 * s, top + 0.475), lean=0.08 * s, near_hand=(0.3, top + 0.8 + 0.07 * s),
                far_hand=(-0.3, top + 0.8 - 0.07 * s), near_foot=(0.06, top - 0.01), far_foot=(-0.06, top - 0.01),
                nod=-0.1 * s)  # fmt: skip
    return pose, Placement((0.0, prop.height / 2))


def _balancing(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    near, far = _steps(phase, 0.09, 0.04)
    s = math.sin(TAU * phase * 0.7)
    pose = Pose(hip=(0.0, 0.482), lean=0.03 * s, near_foot=near, far_foot=far, near_hand=(0.29, 0.74 + 0.06 * s),
                far_hand=(-0.29, 0.74 - 0.06 * s))  # fmt: skip
    half = prop.height / 2
    angle = 0.1 * s
    return pose, Placement((0.02 * s + half * math.sin(angle), 0.99 + half), angle)


def _playing(phase: float, prop: Prop) -> tuple[Pose, Placement]:
    s = math.sin(TAU * phase * 1.5)
    tap = 0.03 * max(0.0, math.sin(TAU * phase))
    if prop.name == "a guitar":
        pose = Pose(near_hand=(0.08, 0.5 + 0.04 * s), far_hand=(0.3, 0.66), near_foot=(0.09, tap), far_foot=(-0.09, 0),
                    nod=0.12 * s)  # fmt: skip
        return pose, Placement((0.15, 0.57), 1.0, layer=1)
    pose = Pose(near_hand=(0.2, 0.68 + 0.06 * s), far_hand=(0.26, 0.68 - 0.06 * s), near_foot=(0.09, tap),
                far_foot=(-0.09, 0), nod=0.12 * s)  # fmt: skip
    return pose, Placement((0.21, 0.48), layer=1)


VERBS: dict[str, Callable[[float, Prop], tuple[Pose, Placement]]] = {
    "kicking": _kicking,
    "throwing": _throwing,
    "carrying": _carrying,
    "climbing": _climbing,
    "waving": _waving,
    "jumping over": _jumping_over,
    "sitting on": _sitting_on,
    "pushing": _pushing,
    "pulling": _pulling,
    "swinging": _swinging,
    "lifting": _lifting,
    "standing on": _standing_on,
    "balancing": _balancing,
    "playing": _playing,
}
"""Body and prop of each verb, at a phase."""

DRIFT: dict[str, float] = {"carrying": 1.0, "pushing": 1.0, "pulling": -1.0, "balancing": 0.6, "walking": 1.0}
"""How a person moves along x while at it: steps forward per phase, times the scene's stride."""


# --- movements that have a beginning and an end: progress runs from 0 to 1 -------------------------------------------


def lifting_up(progress: float, prop: Prop) -> tuple[Pose, Placement]:
    """From standing beside a prop, down to it, and up with it in the hands."""
    if progress < 0.45:
        down = progress / 0.45
        held = 0.0
    else:
        held = (progress - 0.45) / 0.55
        down = 1 - held
    down = down * down * (3 - 2 * down)
    low = prop.height / 2
    y = low + (0.62 - low) * (held * held * (3 - 2 * held))
    x = 0.3 - 0.05 * held
    hand = (x - 0.02, y - 0.04) if held else (0.08 + 0.2 * down, 0.46 - 0.3 * down)
    pose = Pose(hip=(-0.08 * down, 0.485 - 0.15 * down), lean=0.95 * down, near_hand=hand, nod=-0.2 * down,
                far_hand=(hand[0] + 0.05, hand[1]), near_foot=(0.07, 0.0), far_foot=(-0.07, 0.0))  # fmt: skip
    return pose, Placement((x, y), layer=1)


def rising_up(progress: float, prop: Prop) -> tuple[Pose, Placement]:
    """From sitting on a prop to standing in front of it."""
    u = progress
    seat = prop.top + 0.045
    pose = Pose(hip=(0.22 * u, seat + (0.487 - seat) * u), lean=0.55 * math.sin(math.pi * u),
                near_hand=(0.22 + 0.06 * u, 0.4 + 0.08 * u), far_hand=(0.18 + 0.04 * u, 0.38 + 0.08 * u),
                near_foot=(0.27, 0.0), far_foot=(0.2, 0.0))  # fmt: skip
    return pose, Placement((0.0, prop.height / 2))


def opening_umbrella(progress: float, prop: Prop) -> tuple[Pose, Placement]:
    """An umbrella held up; its canopy is drawn as far open as the movement has come."""
    hand = (0.18, 0.72 + 0.06 * progress)
    pose = Pose(
        near_hand=hand,
        far_hand=(0.2, 0.8 + 0.1 * progress),
        near_foot=(0.08, 0),
        far_foot=(-0.08, 0),
        nod=-0.1,
    )
    return pose, Placement((hand[0] + 0.02, hand[1] + prop.grip), 0.1, layer=1)


def opening_door(progress: float, prop: Prop) -> tuple[Pose, Placement]:
    """A door that swings while a hand follows its handle."""
    x = 0.42
    handle = x + 0.17 - 0.36 * progress
    pose = Pose(hip=(-0.02 - 0.1 * progress, 0.485), near_hand=(min(handle, 0.3), 0.58), far_hand=(-0.06, 0.48), lean=0.1,
                near_foot=(0.08 - 0.1 * progress, 0.0), far_foot=(-0.1, 0.0))  # fmt: skip
    return pose, Placement((x, prop.height / 2))


def raising_flag(progress: float, prop: Prop) -> tuple[Pose, Placement]:
    """A flag that goes up a pole while the hands pull its cord, one after the other."""
    s = math.sin(TAU * 2 * progress)
    pose = Pose(near_hand=(0.24, 0.7 + 0.12 * s), far_hand=(0.24, 0.7 - 0.12 * s), lean=0.06, nod=-0.3 * progress,
                near_foot=(0.08, 0), far_foot=(-0.08, 0))  # fmt: skip
    return pose, Placement((0.32, 0.75), scale=prop.height / 0.66)


STORIES: dict[str, tuple[Callable[[float, Prop], tuple[Pose, Placement]], str]] = {
    "a box": (lifting_up, "a box"),
    "a chair": (rising_up, "a chair"),
    "an umbrella": (opening_umbrella, "an umbrella"),
    "a door": (opening_door, "a door"),
    "a flag": (raising_flag, "a flagpole"),
}
"""For the prop of an order pair: its movement from 0 to 1, and the thing that is drawn."""
