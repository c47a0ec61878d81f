"""Furniture as a list of solids, and points on their surfaces. A pure function of the generator; y is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Vector = Sequence[float] | np.ndarray
THIN = 0.8  # power of a solid's area by which it gets points: thin parts more than their share
ROUGH = 0.004  # standard deviation of the places, before they are scaled


@dataclass(frozen=True)
class Box:
    """Half sides along its own axes, which `turn` (3, 3) turns."""

    middle: np.ndarray
    half: np.ndarray
    turn: np.ndarray

    @property
    def faces(self) -> np.ndarray:
        """(6,) a quarter of each face's area: those across the first axis, the second, the third."""
        x, y, z = self.half
        return np.array([y * z, y * z, x * z, x * z, x * y, x * y])

    @property
    def area(self) -> float:
        """Of all six faces."""
        return float(4 * self.faces.sum())

    def surface(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points on it, uniform by area, and the normals there, outwards: (count, 3) each, the normals of length 1."""
        face = rng.choice(6, count, p=self.faces / self.faces.sum())
        at, normal, rows = rng.uniform(-1, 1, (count, 3)), np.zeros((count, 3)), np.arange(count)
        at[rows, face // 2] = normal[rows, face // 2] = np.where(face % 2, 1.0, -1.0)
        return (at * self.half) @ self.turn.T + self.middle, normal @ self.turn.T


@dataclass(frozen=True)
class Rod:
    """A cylinder or cone from `start` to `end`, with a radius at either end; open ones have no caps."""

    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, float]
    caps: bool = True

    @property
    def _parts(self) -> np.ndarray:
        """Areas of the side and of the two caps."""
        first, last = self.radii
        side = (first + last) * np.hypot(np.linalg.norm(self.end - self.start), last - first)
        return np.pi * np.array([side, first**2 * self.caps, last**2 * self.caps])

    @property
    def area(self) -> float:
        """Of the side and, where it has them, the two caps."""
        return float(self._parts.sum())

    def surface(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points on it, uniform by area, and the normals there, outwards: (count, 3) each, the normals of length 1."""
        part = rng.choice(3, count, p=self._parts / self.area)
        along = np.where(part == 0, rng.random(count), part == 2)
        angle, length = rng.uniform(0, 2 * np.pi, count), np.linalg.norm(self.end - self.start)
        axis = (self.end - self.start) / length
        side = np.cross(axis, (0.0, 1.0, 0.0) if abs(axis[1]) < 0.9 else (1.0, 0.0, 0.0))
        side /= np.linalg.norm(side)
        out = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(axis, side)
        first, last = self.radii
        radius = (first + (last - first) * along) * np.where(part > 0, np.sqrt(rng.random(count)), 1.0)
        normal = np.select(
            [part[:, None] == 0, part[:, None] == 1], [out * length + axis * (first - last), -axis], axis
        )
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return self.start + along[:, None] * (self.end - self.start) + radius[:, None] * out, normal


@dataclass(frozen=True)
class Ball:
    """A ball around `middle` (3,)."""

    middle: np.ndarray
    radius: float

    @property
    def area(self) -> float:
        """Of the sphere."""
        return 4 * np.pi * self.radius**2

    def surface(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points on it, uniform by area, and the normals there, outwards: (count, 3) each, the normals of length 1."""
        normal = rng.standard_normal((count, 3))
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return self.middle + self.radius * normal, normal


class Furniture:
    """Solids with the names of the parts that they belong to."""

    def __init__(self) -> None:
        self.solids: list[tuple[str, Box | Rod | Ball]] = []

    def box(self, part: str, middle: Vector, half: Vector, turn: np.ndarray | None = None) -> None:
        """Add a box of half sides `half` about `middle`, turned by (3, 3) `turn`, None = along the axes."""
        made = Box(np.array(middle, float), np.array(half, float), np.eye(3) if turn is None else turn)
        self.solids.append((part, made))

    def rod(
        self, part: str, start: Vector, end: Vector, radius: float, last: float | None = None, caps: bool = True
    ) -> None:
        """Add a rod from `start` to `end`; `last` is its radius at the end, None = the same at both."""
        radii = (float(radius), float(radius if last is None else last))
        self.solids.append((part, Rod(np.array(start, float), np.array(end, float), radii, caps)))

    def ball(self, part: str, middle: Vector, radius: float) -> None:
        """Add a ball of this radius about `middle`."""
        self.solids.append((part, Ball(np.array(middle, float), float(radius))))

    def sampled(
        self, rng: np.random.Generator, count: int, parts: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`count` points in random order: places and normals (count, 3), and the index of the part (count,)."""
        share = np.array([solid.area for _, solid in self.solids]) ** THIN
        counts = rng.multinomial(count, share / share.sum())
        made = [solid.surface(rng, number) for (_, solid), number in zip(self.solids, counts)]
        places, normals = (np.concatenate(values) for values in zip(*made))
        label = np.repeat([parts.index(part) for part, _ in self.solids], counts)
        order = rng.permutation(count)
        places = places + ROUGH * rng.standard_normal(places.shape)
        return places[order], normals[order], label[order]


def turned(axis: int, angle: float) -> np.ndarray:
    """(3, 3), the turn about an axis by an angle in radians."""
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[second, first] = np.sin(angle)
    turn[first, second] = -turn[second, first]
    return turn
