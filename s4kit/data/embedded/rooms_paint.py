"""Rooms of points: a floor, walls, and furniture that a scanner has seen in part. A pure function of its arguments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..points.clouds import as_many
from ..seeding import generator
from ..task import PER_CLASS
from .shapes_paint import Furniture, turned
from .shapes_plans import chair, lamp, table

HIGH = 2.2  # of the walls, metres
SIDE = (3.8, 4.8)  # of the floor
MANY = 6144  # points for which the numbers below are
ON_FLOOR, ON_WALL, ON_THING = 1400, 700, (500, 900)
THINGS = (4, 9)  # how many (the end excluded)
GAPS = (-0.06, 0.03, 0.3)  # between two of them: some touch
TRIES = 40  # to find a place for one
HOLES, HOLE = 0.5, (0.1, 0.25)  # share of the things with a hole, and its radius
ROUGH = 0.008  # standard deviation of the places


def cabinet(rng: np.random.Generator) -> Furniture:
    """A closed block that stands on the floor, 0.4 to 1 m high; of one part, "body"."""
    made, high = Furniture(), rng.uniform(0.4, 1.0)
    made.box("body", (0, high / 2, 0), (rng.uniform(0.3, 0.6), high / 2, rng.uniform(0.18, 0.3)))
    return made


CLASSES = {
    "floor": (190, 170, 140), "wall": (150, 160, 175), "chair": (230, 120, 40), "table": (60, 130, 200),
    "lamp": (240, 210, 60), "cabinet": (90, 170, 90),
}  # fmt: skip
KINDS = {2: chair, 3: table, 4: lamp, 5: cabinet}  # by class
REACH = {2: (0.45, 0.62), 3: (0.55, 0.95), 4: (0.5, 0.85), 5: (0.45, 0.8)}  # half the diagonal, metres


class Surface(NamedTuple):
    """Points of one thing, of the floor or of a wall: places (n, 3) in metres, unit normals (n, 3), class, id."""

    places: np.ndarray
    normals: np.ndarray
    label: int
    id: int


def paint_room(seed: int, index: int, points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 6) float32 points as in `Cloud`, (n,) uint8 classes, and (n,) int32 ids of objects, see `data.objects`."""
    rng = generator("rooms", seed, index)
    half, share = rng.uniform(*SIDE, 2) / 2, points / MANY
    every = [*_things(rng, half, share), *_shell(rng, half, share)]
    counts = [len(surface.places) for surface in every]
    places, normals = (np.concatenate([surface[k] for surface in every]) for k in (0, 1))
    label = np.repeat([surface.label for surface in every], counts)
    ids = np.repeat([surface.id for surface in every], counts)
    places = places + ROUGH * rng.standard_normal(places.shape)
    kept = as_many(len(places), points, "rooms", seed, index)
    places = places[kept] - (places.min(0) + places.max(0)) / 2
    both = np.concatenate([places, normals[kept]], 1).astype(np.float32)
    return both, label[kept].astype(np.uint8), ids[kept].astype(np.int32)


def _things(rng: np.random.Generator, half: np.ndarray, share: float) -> list[Surface]:
    """Furniture that stands apart, beside each other or a little into each other, each part of it with its hole."""
    found: list[Surface] = []
    taken: list[tuple[np.ndarray, np.ndarray]] = []  # middle and half sides on the floor
    for _ in range(rng.integers(*THINGS)):
        label = int(rng.integers(min(KINDS), max(KINDS) + 1))
        places, normals = _thing(rng, label, round(rng.integers(*ON_THING) * share))
        size = np.ptp(places[:, [0, 2]], axis=0) / 2
        at = _free(rng, half, size, taken)
        if at is None:
            continue
        taken.append((at, size))
        places = places + np.array([at[0], 0, at[1]])
        if rng.random() < HOLES:
            seen = np.linalg.norm(places - places[rng.integers(len(places))], axis=1) > rng.uniform(*HOLE)
            places, normals = places[seen], normals[seen]
        found.append(Surface(places, normals, label, PER_CLASS * label + len(taken)))
    return found


def _thing(rng: np.random.Generator, label: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) places of a piece of furniture on the floor about the origin, and normals; turned in any way."""
    made = KINDS[label](rng)
    places, normals, _ = made.sampled(rng, count, [part for part, _ in made.solids])
    low, high = places.min(0), places.max(0)
    scale = rng.uniform(*REACH[label]) / (np.linalg.norm(high - low) / 2)
    places = (places - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]) * scale
    turn = turned(1, rng.choice([rng.uniform(0, 2 * np.pi), np.pi / 2 * rng.integers(4)]))
    places = places @ turn.T
    middle = (places.min(0) + places.max(0)) / 2 * (1, 0, 1)
    return places - middle, normals @ turn.T


def _free(rng: np.random.Generator, half: np.ndarray, size: np.ndarray, taken: list) -> np.ndarray | None:
    """(x, z) at which something of these half sides has room; None where none is found."""
    for _ in range(TRIES):
        at, gap = rng.uniform(-1, 1, 2) * np.maximum(half - 0.05 - size, 0), rng.choice(GAPS)
        if all((np.abs(at - other) - size - theirs > gap).any() for other, theirs in taken):
            return at
    return None


def _shell(rng: np.random.Generator, half: np.ndarray, share: float) -> list[Surface]:
    """The floor, and two or three of the walls."""
    wide, deep = half

    def spread(count: int) -> np.ndarray:
        return rng.uniform((-wide, 0, -deep), (wide, HIGH, deep), (round(count * share), 3))

    floor = spread(ON_FLOOR) * (1, 0, 1)
    found = [Surface(floor, np.tile([0.0, 1.0, 0.0], (len(floor), 1)), 0, 0)]
    sides = [(0, -1), (0, 1), (2, -1), (2, 1)]
    for axis, side in rng.permutation(sides)[: rng.integers(2, 4)]:
        wall, normal = spread(ON_WALL), np.zeros(3)
        wall[:, axis], normal[axis] = side * half[axis // 2], -side
        found.append(Surface(wall, np.tile(normal, (len(wall), 1)), 1, 0))
    return found
