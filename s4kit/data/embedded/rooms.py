"""`rooms`: the embedded rooms of points, whose single objects are the task. Painted when read, see `rooms_paint`."""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch import Tensor

from ...errors import S4Error
from ..catalog import Catalog
from ..points.clouds import Cloud, CloudSource, RoomEvaluation
from ..task import OBJECTS
from .rooms_paint import CLASSES, KINDS, paint_room

TRAIN_SEED, VAL_SEED = 0, 1  # of the rooms; the seed of a split is another matter
HELD = 256  # painted rooms in memory, 180 kB each at 6144 points
LEAST = 0.005  # share of the points, from which an object counts: 31 of 6144


class RoomSource(CloudSource):
    """`count` rooms of `points` points."""

    maps = (OBJECTS,)

    def __init__(self, part: str, count: int, points: int, seed: int) -> None:
        self.ids = [f"{part}_{index:04d}" for index in range(count)]
        self.points, self.seed = points, seed

    def read(self, row: int, label: bool = True) -> Cloud:
        points, truth, _ = _painted(self.seed, row, self.points)
        return Cloud(points.clone(), truth.clone() if label else None, self.ids[row])

    def objects(self, row: int) -> Tensor:
        return _painted(self.seed, row, self.points)[2].clone()


@lru_cache(maxsize=HELD)
def _painted(seed: int, index: int, points: int) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(map(torch.from_numpy, paint_room(seed, index, points)))


def open_rooms(
    root: str | os.PathLike | None = None,
    size: float | int | None = None,
    cache: bool | None = None,
    n_train: int = 48,
    n_val: int = 24,
    points: int = 6144,
) -> Catalog:
    """The embedded rooms.

    Args:
        root, size, cache: not used by it.
        n_train, n_val: how many rooms.
        points: of each.

    Raises:
        S4Error: no rooms, or fewer than 256 points.
    """
    if size is not None:
        raise S4Error(f"rooms has no pixels: leave out size={size}; points={points} says how many points there are.")
    if n_train < 1 or n_val < 1 or points < 256:
        raise S4Error(f"rooms needs n_train, n_val >= 1 and points >= 256; got {n_train}, {n_val}, {points}.")
    return Catalog(
        name="rooms",
        classes=tuple(CLASSES),
        palette=tuple(CLASSES.values()),
        train=RoomSource("train", n_train, points, TRAIN_SEED),
        val=RoomSource("val", n_val, points, VAL_SEED),
        crop=None,
        evaluation=RoomEvaluation(tuple(KINDS), max(1, round(LEAST * points))),
        labelled=min(4, n_train),
        cover=2 if n_train >= 24 else 0,
    )
