"""The places of the world: what is behind the people, drawn in scene units."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .drawing import Color, Pen, shaded

_FAR = 1.9  # scene units on both sides of the middle that are painted, for cameras that pan


def _sky_and_ground(pen: Pen, horizon: float, sky: Color, ground: Color) -> None:
    """Two flat areas, written straight into the picture: the camera never tilts."""
    row = round(pen.map((0, horizon))[1])
    row = min(max(row, 0), pen.picture.shape[0])
    pen.picture[:row] = sky
    pen.picture[row:] = ground


def _tree(pen: Pen, x: float, y: float, size: float, leaf: Color) -> None:
    pen.box(x - 0.018 * size, y, x + 0.018 * size, y - 0.16 * size, (96, 66, 44))
    pen.oval((x, y - 0.22 * size), 0.1 * size, 0.11 * size, leaf)
    pen.oval((x - 0.03 * size, y - 0.25 * size), 0.06 * size, 0.06 * size, shaded(leaf, 1.15))


def _cloud(pen: Pen, x: float, y: float, color: Color = (250, 250, 252)) -> None:
    pen.oval((x, y), 0.1, 0.03, color)
    pen.oval((x - 0.03, y - 0.022), 0.045, 0.032, color)
    pen.oval((x + 0.035, y - 0.014), 0.04, 0.026, color)


def _beach(pen: Pen, u: np.ndarray, time: float) -> None:
    _sky_and_ground(pen, 0.62, (120, 200, 245), (240, 220, 160))
    pen.disc((0.1 + 0.8 * u[0], 0.16), 0.075, (255, 232, 110))
    pen.box(-_FAR, 0.62, _FAR, 0.47 + 0.05 * u[1], (40, 120, 190))
    for i in range(3):
        x = (u[2 + i] * 1.6 + 0.05 * math.sin(2 * time + i)) - 0.3
        pen.stroke([(x, 0.545 + 0.02 * i), (x + 0.12, 0.545 + 0.02 * i)], 0.008, (150, 205, 235))
    _cloud(pen, u[5] * 1.2 - 0.1, 0.24 + 0.1 * u[6])
    if u[7] < 0.4:
        x = u[8] * 1.2 - 0.1
        pen.polygon([(x, 0.47), (x + 0.1, 0.47), (x + 0.01, 0.32)], (250, 250, 250))
        pen.polygon([(x - 0.05, 0.48), (x + 0.12, 0.48), (x + 0.09, 0.51), (x - 0.03, 0.51)], (170, 60, 50))


def _park(pen: Pen, u: np.ndarray, time: float) -> None:
    _sky_and_ground(pen, 0.58 + 0.04 * u[0], (165, 215, 245), (98, 172, 82))
    _cloud(pen, u[1] * 1.2 - 0.1 + 0.01 * time, 0.12 + 0.08 * u[2])
    leaf = ((44, 130, 60), (70, 145, 50), (30, 110, 70))[int(3 * u[3])]
    for i in range(4):
        _tree(pen, -0.2 + 0.36 * i + 0.2 * u[4 + i], 0.66, 1.1 + 0.5 * u[8], leaf)
    for i in range(3):
        pen.disc(
            (u[9 + i] * 1.2 - 0.1, 0.72 + 0.08 * i),
            0.01,
            ((250, 230, 90), (250, 250, 250), (240, 140, 170))[i],
        )


def _snow(pen: Pen, u: np.ndarray, time: float) -> None:
    _sky_and_ground(pen, 0.6, (186, 204, 226), (240, 244, 250))
    x = u[0] * 0.8
    pen.polygon([(x - 0.5, 0.6), (x, 0.22 + 0.1 * u[1]), (x + 0.5, 0.6)], (132, 146, 176))
    pen.polygon(
        [(x - 0.1, 0.32 + 0.08 * u[1]), (x, 0.22 + 0.1 * u[1]), (x + 0.1, 0.32 + 0.08 * u[1])],
        (248, 250, 255),
    )
    pen.polygon([(x + 0.1, 0.6), (x + 0.5, 0.36), (x + 1.0, 0.6)], (150, 164, 192))
    for i in range(16):
        drop = (0.61803 * i + u[2] + 0.12 * time * (1 + i % 3)) % 1.0
        pen.disc(((0.37 * i * i + u[3]) % 1.3 - 0.15, drop), 0.009, (255, 255, 255))


def _gym(pen: Pen, u: np.ndarray, time: float) -> None:  # noqa: ARG001 (nothing moves here)
    _sky_and_ground(pen, 0.64, (196, 178, 158), (178, 116, 62))
    pen.box(-_FAR, 0.4, _FAR, 0.37, (160, 40, 44))
    for i in range(8):
        x = -0.9 + 0.35 * i + 0.2 * u[0]
        pen.stroke([(x, 0.64), (x - 0.3, 1.3)], 0.006, (140, 88, 46))
    x = 0.1 + 0.8 * u[1]
    if u[2] < 0.5:
        pen.box(x - 0.09, 0.3, x + 0.09, 0.16, (245, 245, 245))
        pen.stroke([(x - 0.03, 0.29), (x + 0.03, 0.29)], 0.014, (230, 110, 40))
    else:
        for i in range(5):
            y = 0.16 + 0.1 * i
            pen.stroke([(x - 0.08, y), (x + 0.08, y)], 0.01, (120, 84, 56))


def _night(pen: Pen, u: np.ndarray, time: float) -> None:  # noqa: ARG001 (nothing moves here)
    _sky_and_ground(pen, 0.68, (24, 24, 52), (62, 62, 70))
    for i in range(9):
        x = -0.5 + 0.24 * i + 0.08 * u[i]
        top = 0.2 + 0.22 * u[(i * 5 + 2) % 12]
        pen.box(x, 0.68, x + 0.2, top, (44, 46, 78) if i % 2 else (54, 54, 92))
        for j in range(3):
            if u[(i + j) % 12] > 0.35:
                pen.box(x + 0.03 + 0.06 * j, top + 0.1, x + 0.06 + 0.06 * j, top + 0.06, (245, 215, 110))
    pen.disc((u[10], 0.1), 0.04, (240, 240, 215))
    for i in range(7):
        x = -0.6 + 0.36 * i + 0.3 * u[11]
        pen.box(x, 0.955, x + 0.2, 0.94, (226, 206, 110))


def _room(pen: Pen, u: np.ndarray, time: float) -> None:  # noqa: ARG001 (nothing moves here)
    wall = ((236, 190, 196), (206, 222, 200), (236, 220, 186), (190, 208, 228))[int(4 * u[0])]
    _sky_and_ground(pen, 0.66, wall, (132, 88, 66))
    pen.box(-_FAR, 0.68, _FAR, 0.65, shaded(wall, 0.82))
    x = 0.1 + 0.8 * u[1]
    pen.box(x - 0.13, 0.42, x + 0.13, 0.14, (250, 250, 250))
    pen.box(x - 0.11, 0.4, x - 0.01, 0.16, (150, 206, 244))
    pen.box(x + 0.01, 0.4, x + 0.11, 0.16, (150, 206, 244))
    x = (x + 0.5 + 0.2 * u[2]) % 1.2 - 0.1
    pen.box(x - 0.08, 0.36, x + 0.08, 0.2, (110, 76, 50))
    pen.box(
        x - 0.065, 0.345, x + 0.065, 0.215, ((220, 150, 90), (120, 170, 150), (200, 120, 140))[int(3 * u[3])]
    )


def _desert(pen: Pen, u: np.ndarray, time: float) -> None:  # noqa: ARG001 (nothing moves here)
    _sky_and_ground(pen, 0.6, (250, 206, 150), (222, 150, 90))
    pen.disc((0.1 + 0.8 * u[0], 0.2), 0.08, (255, 244, 200))
    x = u[1] * 0.9
    pen.polygon([(x - 0.6, 0.6), (x - 0.1, 0.46), (x + 0.4, 0.6)], (204, 128, 76))
    pen.polygon([(x + 0.1, 0.6), (x + 0.5, 0.42), (x + 1.1, 0.6)], (190, 116, 70))
    for i in range(2):
        x = u[2 + i] * 1.3 - 0.15
        y = 0.64 + 0.03 * i
        pen.stroke([(x, y), (x, y - 0.2)], 0.034, (70, 130, 80))
        pen.stroke([(x, y - 0.08), (x + 0.06, y - 0.08), (x + 0.06, y - 0.14)], 0.024, (70, 130, 80))
        pen.stroke([(x, y - 0.06), (x - 0.05, y - 0.06), (x - 0.05, y - 0.11)], 0.024, (70, 130, 80))


PLACES: dict[str, Callable[[Pen, np.ndarray, float], None]] = {
    "on the beach": _beach,
    "in the park": _park,
    "in the snow": _snow,
    "in the gym": _gym,
    "on the street at night": _night,
    "in a room": _room,
    "in the desert": _desert,
}
"""Draws a place, given 12 numbers in [0, 1) that say what it looks like in detail, and the time in seconds."""
