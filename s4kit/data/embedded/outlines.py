"""The outlines of the things of `scenes`: disc, rounded box, triangle and star, each a signed distance."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

Real = TypeVar("Real", np.ndarray, float)


def turned(x: Real, y: Real, turn: float) -> tuple[Real, Real]:
    """Coordinates (or a direction) in a frame turned by an angle."""
    c, s = math.cos(turn), math.sin(turn)  # Python floats, here and below: numpy ones would make it all float64
    return x * c + y * s, y * c - x * s


def outline(kind: int, x: np.ndarray, y: np.ndarray, r: float, turn: float, squash: float) -> np.ndarray:
    """Signed distance in pixels, negative inside, to the outline of a class of `scenes` around the origin.

    Args:
        kind: the class. x, y: places in pixels, of any equal shape, which the result has, too.
        r: radius in pixels. turn: in radians. squash: short side by long side, in (0, 1].
    """
    if kind in (1, 2, 6):
        return np.hypot(x, y) - r
    u, v = turned(x, y, turn)
    if kind == 3:
        round_ = 0.1 * r
        a, b = np.abs(u) - (r - round_), np.abs(v) - (r * squash - round_)
        return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - round_
    if kind == 4:
        return _polygon_distance(np.abs(u) / squash, v, r) * squash
    return _star_distance(u, v, 1.3 * r)


def _polygon_distance(u: np.ndarray, v: np.ndarray, r: float) -> np.ndarray:
    """An equilateral triangle, mirrored in u, tip towards +v, slightly rounded."""
    inner = 0.62 * r
    slanted = u * 0.8660254 + v * 0.5
    return np.maximum(slanted, -v) - inner


def _star_distance(u: np.ndarray, v: np.ndarray, r: float) -> np.ndarray:
    """A five-pointed star by folding the plane into one half point: tip at radius r, notch at 0.48 r."""
    sector = 2 * math.pi / 5
    angle = np.arctan2(v, u)
    folded = np.abs(angle - sector * np.round(angle / sector))
    d = np.hypot(u, v)
    x, y = d * np.cos(folded), d * np.sin(folded)
    nx, ny = 0.48 * r * math.cos(math.pi / 5), 0.48 * r * math.sin(math.pi / 5)  # the notch
    ex, ey = nx - r, ny
    length = math.hypot(ex, ey)
    return (ey * (x - r) - ex * y) / length  # distance to the edge from tip to notch
