"""People: a body of straight limbs, bent at knee and elbow so that hands and feet are where a pose wants them.

Everything here is in the units of a figure: the ground is y = 0, y points up, the figure looks towards +x, and it is
about 1 high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .drawing import Color, Pen, Point, shaded

TORSO = 0.3
LIMB_LEG = 0.25
LIMB_ARM = 0.165


@dataclass(frozen=True)
class Look:
    """What a person looks like."""

    shirt: str
    """A key of SHIRTS."""
    trousers: Color
    skin: Color
    hair: Color
    hair_style: int
    """0 short, 1 long, 2 cap, 3 bun."""
    build: float = 1.0
    """Breadth of limbs and body; no unit."""


SHIRTS: dict[str, Color] = {
    "red": (214, 40, 44), "blue": (36, 84, 214), "green": (34, 148, 70), "yellow": (250, 206, 40),
    "purple": (134, 44, 168), "white": (246, 246, 246), "orange": (244, 126, 30),
}  # fmt: skip
SKINS: tuple[Color, ...] = ((246, 206, 168), (224, 172, 128), (180, 122, 82), (124, 80, 54), (96, 62, 44))
HAIRS: tuple[Color, ...] = ((40, 30, 26), (92, 60, 36), (214, 168, 84), (150, 70, 36), (130, 130, 134))
TROUSERS: tuple[Color, ...] = ((30, 34, 60), (90, 66, 46), (40, 40, 44), (38, 72, 120), (110, 112, 120))


@dataclass(frozen=True)
class Pose:
    """Where the parts of a body are; the joints in between follow."""

    hip: Point = (0.0, 0.49)
    lean: float = 0.03
    """Angle of the torso from upright, forward positive, radians."""
    near_hand: Point = (0.05, 0.47)
    far_hand: Point = (-0.03, 0.47)
    near_foot: Point = (0.06, 0.0)
    far_foot: Point = (-0.06, 0.0)
    nod: float = 0.0
    """Angle of the head relative to the torso, forward positive, radians."""
    mirrored: bool = False
    """Whether the whole figure turns round (jumping back over a thing)."""


@dataclass(frozen=True)
class Placement:
    """Where a prop is during an action."""

    at: Point
    """Its middle."""
    angle: float = 0.0
    """How far its up direction leans towards +x, radians."""
    layer: int = 0
    """0 behind the person, 1 between body and near arm, 2 in front."""
    strand: tuple[Point, Point] | None = None
    """Ends of a rope stretched between a hand and the prop."""
    scale: float = 1.0
    """How many times larger than usual it is; no unit."""


def joint(root: Point, end: Point, length: float, bend: int) -> tuple[Point, Point]:
    """The middle joint, and the end moved within reach, of a limb of two equal segments.

    root, end   where the limb starts and should end, figure units
    length      of each segment, figure units
    bend        +1 or -1: to which side of the line from root to end the joint goes
    """
    dx, dy = end[0] - root[0], end[1] - root[1]
    distance = math.hypot(dx, dy) or 1e-9
    reach = 2 * length * 0.998
    if distance > reach:
        dx, dy = dx * reach / distance, dy * reach / distance
        end = (root[0] + dx, root[1] + dy)
        distance = reach
    off = math.sqrt(max(length * length - distance * distance / 4, 0.0)) * bend / distance
    return (root[0] + dx / 2 - dy * off, root[1] + dy / 2 + dx * off), end


def shoulder_of(pose: Pose) -> Point:
    """Where the arms begin, figure units."""
    return pose.hip[0] + TORSO * math.sin(pose.lean), pose.hip[1] + TORSO * math.cos(pose.lean)


def draw_back(pen: Pen, look: Look, pose: Pose) -> None:
    """The far arm and leg."""
    shoulder = shoulder_of(pose)
    _arm(pen, look, shoulder, pose.far_hand, 0.78)
    _leg(pen, look, pose.hip, pose.far_foot, 0.75)


def draw_body(pen: Pen, look: Look, pose: Pose) -> None:
    """The near leg, torso and head."""
    shoulder = shoulder_of(pose)
    _leg(pen, look, pose.hip, pose.near_foot, 1.0)
    shirt = SHIRTS[look.shirt]
    across = (math.cos(pose.lean), -math.sin(pose.lean))
    wide, slim = 0.082 * look.build, 0.062 * look.build
    hip, neck = pose.hip, shoulder
    along = (math.sin(pose.lean), math.cos(pose.lean))
    pen.polygon(
        [
            (hip[0] - across[0] * slim - along[0] * 0.03, hip[1] - across[1] * slim - along[1] * 0.03),
            (hip[0] + across[0] * slim - along[0] * 0.03, hip[1] + across[1] * slim - along[1] * 0.03),
            (neck[0] + across[0] * wide, neck[1] + across[1] * wide),
            (neck[0] + across[0] * 0.03 + along[0] * 0.04, neck[1] + across[1] * 0.03 + along[1] * 0.04),
            (neck[0] - across[0] * 0.03 + along[0] * 0.04, neck[1] - across[1] * 0.03 + along[1] * 0.04),
            (neck[0] - across[0] * wide, neck[1] - across[1] * wide),
        ],
        shirt,
    )
    tilt = pose.lean * 0.5 + pose.nod
    head = pen.turned((neck[0] + along[0] * 0.13, neck[1] + along[1] * 0.13), tilt)
    pen.stroke([neck, (neck[0] + along[0] * 0.08, neck[1] + along[1] * 0.08)], 0.055, shaded(look.skin, 0.88))
    _head(head, look)


def draw_front(pen: Pen, look: Look, pose: Pose) -> None:
    """The near arm."""
    _arm(pen, look, shoulder_of(pose), pose.near_hand, 0.92)


def _arm(pen: Pen, look: Look, shoulder: Point, hand: Point, light: float) -> None:
    elbow, hand = joint(shoulder, hand, LIMB_ARM, -1)
    sleeve = shaded(SHIRTS[look.shirt], light * 0.9)
    half = ((shoulder[0] + elbow[0]) / 2, (shoulder[1] + elbow[1]) / 2)
    pen.stroke([shoulder, elbow, hand], 0.056 * look.build, shaded(look.skin, light))
    pen.stroke([shoulder, half, elbow], 0.066 * look.build, sleeve)
    pen.disc(hand, 0.034, shaded(look.skin, light))


def _leg(pen: Pen, look: Look, hip: Point, foot: Point, light: float) -> None:
    knee, ankle = joint(hip, (foot[0], foot[1] + 0.025), LIMB_LEG, 1)
    cloth = shaded(look.trousers, light)
    pen.stroke([hip, knee, ankle], 0.078 * look.build, cloth)
    pen.stroke([ankle, (ankle[0] + 0.06, ankle[1] - 0.008)], 0.05, shaded((60, 44, 40), light))


def _head(pen: Pen, look: Look) -> None:
    """pen: origin in the middle of the head, y towards its top."""
    if look.hair_style == 1:
        pen.polygon([(-0.1, 0.04), (-0.115, -0.12), (-0.02, -0.12), (0.0, 0.05)], look.hair)
    if look.hair_style == 3:
        pen.disc((-0.1, 0.075), 0.042, look.hair)
    pen.disc((-0.008, 0.014), 0.094, look.hair)
    pen.oval((0.018, -0.012), 0.076, 0.078, look.skin)
    pen.disc((0.09, -0.016), 0.018, look.skin)
    pen.polygon(
        [(-0.09, 0.02), (-0.05, 0.09), (0.02, 0.105), (0.075, 0.062), (0.08, 0.035), (0.0, 0.048)], look.hair
    )
    pen.disc((0.055, 0.004), 0.0125, (30, 26, 30))
    if look.hair_style == 2:
        pen.polygon([(-0.1, 0.03), (-0.08, 0.09), (0.0, 0.112), (0.07, 0.08), (0.09, 0.04), (0.15, 0.03), (0.15, 0.02),
                     (0.05, 0.025)], shaded(SHIRTS[look.shirt], 0.7))  # fmt: skip
