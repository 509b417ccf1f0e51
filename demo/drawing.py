"""Antialiased drawing in scene units.

Scene units: the picture is the square [0, 1] x [0, 1] when the camera rests, y pointing down. Colors are RGB, 0..255.
A `Pen` draws in units of its own: a figure's pen has its origin between the feet, y up, and one unit is
the figure's height; a prop's pen has its origin at the middle of the prop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Color = tuple[int, int, int]
Point = tuple[float, float]

_SHIFT = 4  # OpenCV takes integers with this many binary digits after the point: 1/16 of a pixel
_FIXED = 1 << _SHIFT


@dataclass(frozen=True)
class Camera:
    """What part of the scene is seen."""

    x: float = 0.5
    """Horizontal center of the view, scene units."""
    y: float = 0.5
    """Vertical center of the view, scene units."""
    zoom: float = 1.0
    """How many times larger than at rest things appear; no unit."""


class Pen:
    """Draws shapes on a picture through an affine map from its own units to pixels."""

    def __init__(self, picture: np.ndarray, a: float, b: float, c: float, d: float, x: float, y: float):
        """picture [S, S, 3] uint8; a point (u, v) lands on the pixel (a u + b v + x, c u + d v + y)."""
        self.picture = picture
        self.matrix = (a, b, c, d, x, y)
        self.scale = math.sqrt(abs(a * d - b * c))  # pixels per unit

    @classmethod
    def of_camera(cls, picture: np.ndarray, camera: Camera) -> Pen:
        """The pen whose units are scene units."""
        scale = picture.shape[0] * camera.zoom
        half = picture.shape[0] / 2
        return cls(picture, scale, 0, 0, scale, half - scale * camera.x, half - scale * camera.y)

    def figure(self, x: float, ground: float, height: float, facing: int) -> Pen:
        """A pen with its origin on the ground, one unit = height, +x where the figure looks, y up."""
        a, b, c, d, _, _ = self.matrix
        left, top = self.map((x, ground))
        return Pen(
            self.picture, a * height * facing, -b * height, c * height * facing, -d * height, left, top
        )

    def turned(self, at: Point, angle: float = 0.0, scale: float = 1.0) -> Pen:
        """A pen with its origin at `at`; its y axis leans `angle` radians towards +x."""
        a, b, c, d, _, _ = self.matrix
        x, y = self.map(at)
        s, k = math.sin(angle) * scale, math.cos(angle) * scale
        return Pen(self.picture, a * k - b * s, a * s + b * k, c * k - d * s, c * s + d * k, x, y)

    def map(self, point: Point) -> Point:
        """The pixel that a point lands on."""
        a, b, c, d, x, y = self.matrix
        return a * point[0] + b * point[1] + x, c * point[0] + d * point[1] + y

    def _fixed(self, points: Sequence[Point]) -> np.ndarray:
        a, b, c, d, x, y = (value * _FIXED for value in self.matrix)
        return np.array([(round(a * u + b * v + x), round(c * u + d * v + y)) for u, v in points], np.int32)

    def _thickness(self, width: float) -> int:
        return max(1, round(width * self.scale))

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.picture, [self._fixed(points)], color, cv2.LINE_AA, _SHIFT)

    def box(self, left: float, bottom: float, right: float, top: float, color: Color) -> None:
        """Fill a rectangle along the pen's axes."""
        points = self._fixed(((left, bottom), (right, bottom), (right, top), (left, top)))
        cv2.fillConvexPoly(self.picture, points, color, cv2.LINE_AA, _SHIFT)

    def stroke(self, points: Sequence[Point], width: float, color: Color) -> None:
        """Draw an open line with round ends and joints."""
        fixed = [self._fixed(points)]
        cv2.polylines(self.picture, fixed, False, color, self._thickness(width), cv2.LINE_AA, _SHIFT)

    def disc(self, center: Point, radius: float, color: Color) -> None:
        """Fill a circle."""
        x, y = self._fixed((center,))[0]
        size = round(radius * self.scale * _FIXED)
        cv2.circle(self.picture, (int(x), int(y)), size, color, -1, cv2.LINE_AA, _SHIFT)

    def ring(self, center: Point, radius: float, width: float, color: Color) -> None:
        """Draw a circle."""
        x, y = self._fixed((center,))[0]
        size = round(radius * self.scale * _FIXED)
        cv2.circle(self.picture, (int(x), int(y)), size, color, self._thickness(width), cv2.LINE_AA, _SHIFT)

    def oval(self, center: Point, across: float, up: float, color: Color) -> None:
        """Fill an ellipse with half axes `across` and `up`."""
        u, v = center
        self.polygon([(u + across * k, v + up * s) for k, s in CIRCLE], color)


CIRCLE = [(math.cos(2 * math.pi * i / 16), math.sin(2 * math.pi * i / 16)) for i in range(16)]


def shaded(color: Color, factor: float) -> Color:
    """The color made darker (factor < 1) or lighter (factor > 1)."""
    r, g, b = (min(255, max(0, round(value * factor))) for value in color)
    return r, g, b
