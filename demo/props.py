"""The props of the world, and how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .drawing import CIRCLE, Color, Pen, shaded

_PAINTS: tuple[Color, ...] = (
    (52, 140, 214), (236, 120, 40), (214, 60, 60), (245, 245, 240), (90, 170, 80), (240, 200, 60), (150, 90, 190),
)  # fmt: skip
_WOODS: tuple[Color, ...] = ((196, 152, 98), (170, 122, 70), (150, 100, 58), (210, 170, 116))
_INK: Color = (52, 40, 34)


def _ball(pen: Pen, paint: int) -> None:
    color = _PAINTS[paint % 7]
    dark = shaded(color, 0.6)
    pen.disc((0, 0), 0.125, dark)
    pen.disc((0, 0), 0.11, color)
    pen.stroke([(-0.1, 0.03), (0, -0.02), (0.1, 0.03)], 0.018, dark)
    pen.stroke([(-0.02, 0.11), (0.02, 0), (-0.02, -0.11)], 0.018, dark)


def _crate(pen: Pen, paint: int) -> None:
    wood = _WOODS[paint % 4]
    dark = shaded(wood, 0.66)
    pen.box(-0.15, -0.14, 0.15, 0.14, dark)
    pen.box(-0.13, -0.12, 0.13, 0.12, wood)
    pen.box(-0.03, -0.12, 0.03, 0.12, shaded(wood, 0.84))
    pen.stroke([(-0.13, 0.03), (0.13, 0.03)], 0.012, dark)


def _ladder(pen: Pen, paint: int) -> None:
    wood = shaded(_WOODS[paint % 4], 0.82)
    for i in range(7):
        y = -0.5 + i / 6
        pen.stroke([(-0.11, y), (0.11, y)], 0.03, wood)
    pen.stroke([(-0.11, -0.58), (-0.11, 0.58)], 0.038, shaded(wood, 0.85))
    pen.stroke([(0.11, -0.58), (0.11, 0.58)], 0.038, shaded(wood, 0.85))


def _flag(pen: Pen, paint: int) -> None:
    color = _PAINTS[paint % 7]
    pen.stroke([(0, -0.3), (0, 0.34)], 0.024, (120, 90, 60))
    pen.polygon([(0, 0.34), (-0.12, 0.30), (-0.24, 0.34), (-0.36, 0.3), (-0.36, 0.08), (-0.24, 0.12), (-0.12, 0.08),
                 (0, 0.12)], color)  # fmt: skip
    stripe = (245, 245, 240) if paint % 7 != 3 else (214, 60, 60)
    pen.polygon([(0, 0.26), (-0.12, 0.22), (-0.24, 0.26), (-0.36, 0.22), (-0.36, 0.16), (-0.24, 0.2), (-0.12, 0.16),
                 (0, 0.2)], stripe)  # fmt: skip


def _dog(pen: Pen, paint: int) -> None:
    coat = ((150, 100, 60), (210, 180, 140), (90, 70, 60), (225, 215, 200))[paint % 4]
    dark = shaded(coat, 0.7)
    for x in (-0.15, -0.09, 0.08, 0.14):
        pen.stroke([(x, -0.02), (x, -0.16)], 0.038, dark if x in (-0.09, 0.14) else coat)
    pen.stroke([(-0.17, 0.04), (-0.25, 0.14)], 0.034, coat)
    pen.oval((-0.01, 0.0), 0.19, 0.075, coat)
    pen.disc((0.19, 0.09), 0.075, coat)
    pen.oval((0.255, 0.07), 0.05, 0.032, coat)
    pen.disc((0.295, 0.078), 0.018, _INK)
    pen.oval((0.15, 0.1), 0.026, 0.06, dark)
    pen.disc((0.21, 0.115), 0.013, _INK)


def _chair(pen: Pen, paint: int) -> None:
    wood = ((120, 70, 40), (70, 50, 46), (170, 110, 60), (60, 80, 110))[paint % 4]
    for x in (-0.12, 0.12):
        pen.stroke([(x, -0.25), (x, 0.03)], 0.034, wood)
    pen.stroke([(-0.12, 0.0), (-0.14, 0.26)], 0.04, wood)
    pen.stroke([(-0.1, 0.0), (-0.12, 0.26)], 0.03, shaded(wood, 1.25))
    pen.box(-0.15, 0.0, 0.15, 0.05, shaded(wood, 1.2))


def _drum(pen: Pen, paint: int) -> None:
    color = ((200, 40, 50), (40, 90, 170), (40, 130, 80), (110, 60, 140))[paint % 4]
    pen.polygon([(-0.15, -0.09), (0.15, -0.09), (0.15, 0.09), (-0.15, 0.09)], color)
    pen.oval((0, -0.09), 0.15, 0.045, color)
    pen.stroke(
        [(-0.14, 0.07), (-0.07, -0.11), (0, 0.06), (0.07, -0.11), (0.14, 0.07)], 0.018, (245, 240, 225)
    )
    pen.oval((0, 0.09), 0.155, 0.05, (245, 240, 225))
    pen.oval((0, 0.095), 0.12, 0.034, (225, 215, 190))


def _umbrella(pen: Pen, paint: int) -> None:
    _part_open_umbrella(pen, paint, 1.0)


def _part_open_umbrella(pen: Pen, paint: int, openness: float) -> None:
    """openness 0 (furled) .. 1 (open)."""
    color = _PAINTS[paint % 7]
    pen.stroke([(0, -0.3), (0, 0.3)], 0.022, (70, 60, 60))
    pen.stroke([(0, -0.3), (0.03, -0.33), (0.06, -0.3)], 0.022, (70, 60, 60))
    half = 0.05 + 0.23 * openness
    rim = -0.06 + 0.12 * openness
    bow = 0.55 + 0.35 * openness
    top = [(half * math.sin(t), rim + (0.3 - rim) * math.cos(t) ** (1 / bow)) for t in _FAN]
    pen.polygon(
        [*top, (half * 0.5, rim + 0.03 * openness), (0, rim), (-half * 0.5, rim + 0.03 * openness)], color
    )
    inner = [(u * 0.36, v) for u, v in top]
    pen.polygon([*inner, (0, rim)], shaded(color, 0.72))


_FAN = [math.pi / 2 * (i / 5 - 1) for i in range(11)]


def _barrel(pen: Pen, paint: int) -> None:
    wood = shaded(_WOODS[paint % 4], 0.62)
    side = [(-0.11, -0.19), (0.11, -0.19), (0.145, -0.07), (0.145, 0.07), (0.11, 0.19), (-0.11, 0.19),
            (-0.145, 0.07), (-0.145, -0.07)]  # fmt: skip
    pen.polygon(side, wood)
    pen.stroke([(-0.04, -0.18), (-0.05, 0), (-0.04, 0.18)], 0.012, shaded(wood, 0.7))
    pen.stroke([(0.04, -0.18), (0.05, 0), (0.04, 0.18)], 0.012, shaded(wood, 0.7))
    for y in (-0.11, 0.11):
        pen.stroke([(-0.13, y), (0.13, y)], 0.034, (70, 72, 80))
    pen.oval((0, 0.185), 0.11, 0.025, shaded(wood, 1.2))


def _bucket(pen: Pen, paint: int) -> None:
    color = ((130, 150, 165), (60, 130, 200), (220, 70, 60), (240, 190, 50))[paint % 4]
    pen.stroke([(-0.11, 0.08), (-0.07, 0.18), (0.07, 0.18), (0.11, 0.08)], 0.018, (60, 60, 66))
    pen.polygon([(-0.12, 0.09), (0.12, 0.09), (0.08, -0.12), (-0.08, -0.12)], color)
    pen.oval((0, 0.09), 0.12, 0.032, shaded(color, 0.55))


def _guitar(pen: Pen, paint: int) -> None:
    color = ((190, 110, 50), (150, 60, 40), (220, 160, 80), (60, 60, 70))[paint % 4]
    pen.stroke([(0, 0.0), (0, 0.34)], 0.036, (80, 54, 40))
    pen.box(-0.032, 0.3, 0.032, 0.38, (60, 42, 32))
    pen.disc((0, -0.17), 0.135, color)
    pen.disc((0, 0.0), 0.095, color)
    pen.disc((0, -0.08), 0.045, _INK)
    pen.stroke([(-0.05, -0.22), (0.05, -0.22)], 0.022, _INK)


def _rope(pen: Pen, paint: int) -> None:
    hemp = ((222, 196, 140), (190, 150, 96))[paint % 2]
    points = [(0.035 * math.sin(i * 1.35), -0.36 + 0.06 * i) for i in range(13)]
    pen.stroke(points, 0.04, shaded(hemp, 0.75))
    pen.stroke(points, 0.022, hemp)
    pen.disc(points[0], 0.04, hemp)


def _tyre(pen: Pen, paint: int) -> None:
    rubber = ((40, 40, 44), (58, 56, 60))[paint % 2]
    pen.ring((0, 0), 0.115, 0.08, rubber)
    pen.ring((0, 0), 0.12, 0.014, shaded(rubber, 2.0))
    for i in range(4):
        k, s = CIRCLE[4 * i]
        pen.stroke([(0.1 * k, 0.1 * s), (0.15 * k, 0.15 * s)], 0.014, shaded(rubber, 2.4))


def _log(pen: Pen, paint: int) -> None:
    bark = ((110, 76, 48), (130, 96, 66), (90, 66, 50))[paint % 3]
    pen.stroke([(-0.2, 0), (0.2, 0)], 0.17, bark)
    pen.stroke([(-0.16, 0.03), (0.08, 0.035)], 0.012, shaded(bark, 0.65))
    pen.stroke([(-0.1, -0.03), (0.12, -0.03)], 0.012, shaded(bark, 0.65))
    pen.oval((0.22, 0), 0.055, 0.085, (220, 184, 132))
    pen.oval((0.22, 0), 0.028, 0.045, (180, 138, 90))


def _balloon(pen: Pen, paint: int) -> None:
    color = _PAINTS[(paint % 6) if paint % 6 != 3 else 6]
    pen.stroke([(0, -0.02), (0.02, -0.12), (-0.015, -0.2), (0.01, -0.3)], 0.012, (90, 90, 96))
    pen.polygon([(-0.025, -0.02), (0.025, -0.02), (0, 0.03)], shaded(color, 0.8))
    pen.oval((0, 0.14), 0.115, 0.15, color)
    pen.oval((-0.04, 0.2), 0.025, 0.04, (255, 255, 255))


def _stick(pen: Pen, paint: int) -> None:
    wood = shaded(_WOODS[paint % 4], 0.6)
    pen.polygon([(-0.018, -0.27), (0.018, -0.27), (0.036, 0.24), (0.0, 0.28), (-0.036, 0.24)], wood)


def _door(pen: Pen, paint: int) -> None:
    _part_open_door(pen, paint, 0.0)


def _part_open_door(pen: Pen, paint: int, openness: float) -> None:
    """openness 0 (shut) .. 1 (open)."""
    color = ((150, 90, 50), (60, 110, 140), (170, 60, 50), (90, 120, 80))[paint % 4]
    pen.box(-0.26, -0.6, 0.26, 0.62, (235, 230, 220))
    pen.box(-0.22, -0.6, 0.22, 0.58, (40, 36, 44))
    edge = 0.22 - 0.4 * openness
    drop = 0.07 * openness
    pen.polygon([(-0.22, -0.6), (edge, -0.6 - drop), (edge, 0.58 - drop), (-0.22, 0.58)], color)
    pen.disc((edge - 0.05 * (1 - openness), -0.02), 0.028, (245, 215, 90))


def _flagpole(pen: Pen, paint: int, raised: float) -> None:
    """raised 0 (cloth at the bottom) .. 1 (at the top)."""
    color = _PAINTS[paint % 7]
    pen.stroke([(0, -0.75), (0, 0.75)], 0.034, (150, 150, 156))
    pen.disc((0, 0.76), 0.03, (240, 205, 80))
    y = -0.5 + 0.98 * raised
    pen.polygon(
        [(0, y), (0.15, y + 0.03), (0.32, y), (0.32, y + 0.22), (0.15, y + 0.25), (0, y + 0.22)], color
    )


@dataclass(frozen=True)
class Prop:
    """A thing of the world."""

    name: str
    """With its article: "a ball"."""
    width: float
    """Extent along x when upright, in heights of a figure."""
    height: float
    """Extent along y when upright, in heights of a figure."""
    draw: Callable[[Pen, int], None]
    """Draws it about the origin, given a number that picks its colors."""
    seat: float = 0.0
    """Height above the ground at which one sits or stands on it, in heights of a figure; 0: its top."""
    grip: float = 0.0
    """How far below the middle a hand holds it, in heights of a figure."""
    long: bool = False
    """Whether it is carried and lies on the ground along x."""
    size: float = 1.0
    """How many times larger than its drawing it is; the measures above are those of the drawing times this."""

    @property
    def top(self) -> float:
        """Height of the surface one sits or stands on, in heights of a figure."""
        return self.seat or self.height


def _prop(
    name: str,
    width: float,
    height: float,
    draw: Callable[[Pen, int], None],
    *,
    size: float = 1.0,
    seat: float = 0.0,
    grip: float = 0.0,
    long: bool = False,
) -> Prop:
    """A prop from the measures of its drawing and how many times larger it is."""
    return Prop(name, width * size, height * size, draw, seat * size, grip * size, long, size)


PROPS: dict[str, Prop] = {
    prop.name: prop
    for prop in (
        _prop("a ball", 0.25, 0.25, _ball, size=1.25, grip=0.1),
        _prop("a box", 0.3, 0.28, _crate, size=1.2, grip=0.12),
        _prop("a ladder", 0.24, 1.16, _ladder, long=True),
        _prop("a flag", 0.3, 0.66, _flag, size=1.1, grip=0.24, long=True),
        _prop("a dog", 0.45, 0.34, _dog, size=1.15, grip=0.1),
        _prop("a chair", 0.3, 0.52, _chair, size=1.1, seat=0.29, grip=0.2),
        _prop("a drum", 0.31, 0.27, _drum, size=1.2, grip=0.12),
        _prop("an umbrella", 0.56, 0.64, _umbrella, grip=0.24),
        _prop("a barrel", 0.29, 0.39, _barrel, size=1.15, grip=0.18),
        _prop("a bucket", 0.24, 0.24, _bucket, size=1.35, grip=-0.17),
        _prop("a guitar", 0.27, 0.7, _guitar, size=1.1, grip=-0.3),
        _prop("a rope", 0.1, 0.76, _rope, size=1.1, grip=0.3, long=True),
        _prop("a tyre", 0.3, 0.3, _tyre, size=1.2, grip=0.13),
        _prop("a log", 0.52, 0.18, _log, size=1.2, grip=0.06),
        _prop("a balloon", 0.23, 0.5, _balloon, size=1.2, grip=0.28),
        _prop("a stick", 0.07, 0.54, _stick, size=1.25, grip=0.22, long=True),
    )
}
"""The things that people of the world do something with."""

DOOR = Prop("a door", 0.52, 1.22, _door)


def draw_part_open(pen: Pen, thing: str, paint: int, amount: float) -> None:
    """Draw a thing that changes: "an umbrella" or "a door" (amount 0 shut .. 1 open), "a flagpole" (0 low .. 1 high)."""
    {"an umbrella": _part_open_umbrella, "a door": _part_open_door, "a flagpole": _flagpole}[thing](
        pen, paint, amount
    )
