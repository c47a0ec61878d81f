"""Rooms that were scanned, in files: the points that are drawn of each, their normals, and the objects they are of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ...errors import S4Error
from ..fetching.cache import cache_folder, made_once, stamps
from ..task import OBJECTS, PER_CLASS, VOID
from .clouds import Cloud, CloudSource, as_many

HELD = 64  # rooms in memory: 1.3 MB each at 40,000 points
CELL = 0.1  # metres; a normal is that of the points of a cell and of its neighbours
VERSION = 1  # of what is kept in the cache
AROUND = tuple(product((-1, 0, 1), repeat=3))


class ScannedSource(CloudSource):
    """Rooms of which the same `points` points are drawn each time; y is up, and a normal looks into the room.

    Reading a scan takes seconds, so what was drawn of it is kept in the user's cache folder unless `cache` is False. A
    data set says how its files are read, by `files`, `places` and `annotation`.

    Args:
        things: the classes that have objects.
    """

    maps = (OBJECTS,)

    def __init__(self, ids: Sequence[str], points: int, things: Sequence[int], cache: bool | None) -> None:
        if points < 256:
            raise S4Error(f"points={points}: of a scanned room at least 256 are drawn.")
        self.ids, self.points, self.things, self.cache = list(ids), points, tuple(things), cache
        self._held = lru_cache(maxsize=HELD)(self._drawn)

    @abstractmethod
    def files(self, row: int, label: bool) -> list[str]:
        """Paths of the files of the points, or of the label, of a room."""

    @abstractmethod
    def places(self, row: int) -> np.ndarray:
        """(M, 3) all points in metres; the last axis is up.

        Raises:
            S4Error: a file is missing or damaged.
        """

    @abstractmethod
    def annotation(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(M,) class of each point, 255 = void, and (M,) number of its object, 0 = none.

        Raises:
            S4Error: a file is missing, damaged, or of another number of points.
        """

    def read(self, row: int, label: bool = True) -> Cloud:
        points = torch.from_numpy(self._held(row, False).copy())
        truth = torch.from_numpy(self._held(row, True)[:, 0].astype(np.uint8)) if label else None
        return Cloud(points, truth, self.ids[row])

    def objects(self, row: int) -> Tensor:
        return torch.from_numpy(self._held(row, True)[:, 1].copy())

    def _drawn(self, row: int, label: bool) -> np.ndarray:
        """Of the points that are drawn (N, 6) float32, or (N, 2) int32, class and id; from the cache where it has
        them."""
        folder = cache_folder() if self.cache is not False else None
        if folder is None:
            return self._made(row, label)
        return made_once(folder / f"room-{self._digest(row, label)}.npy", lambda: self._made(row, label))

    def _digest(self, row: int, label: bool) -> str:
        try:
            files = stamps(self.files(row, label))
        except OSError as why:
            raise S4Error(f"{why.filename} is missing. Unpack or fetch {self.ids[row]} again.") from None
        said = repr((VERSION, self.points, self.things, label, files))
        return blake2b(said.encode(), digest_size=16).hexdigest()

    def _made(self, row: int, label: bool) -> np.ndarray:
        if not label:
            places = self.places(row)
            kept = as_many(len(places), self.points, self.ids[row])
            x, y, up = (places - (places.min(0) + places.max(0)) / 2)[kept].T
            places = np.stack([x, up, -y], 1)
            return np.concatenate([places, estimated_normals(places)], 1).astype(np.float32)
        classes, number = self.annotation(row)
        kept = as_many(len(classes), self.points, self.ids[row])
        return np.stack([classes, object_ids(classes, number, self.things)], 1)[kept].astype(np.int32)

    def __getstate__(self) -> dict:
        return {key: value for key, value in vars(self).items() if key != "_held"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._held = lru_cache(maxsize=HELD)(self._drawn)


def object_ids(classes: np.ndarray, number: np.ndarray, things: Sequence[int]) -> np.ndarray:
    """(M,) ids, see `data.objects`: an object is of the class that most of its points have, a point of a thing that is
    of no object is void, and so is an object of a class that is void; of any other class there is none.

    Args:
        classes: (M,), 255 = void. number: (M,) of the object, 0 = none.
    """
    ids = np.where((classes == VOID) | np.isin(classes, things), VOID, 0)
    found, at = np.unique(number, return_inverse=True)
    of = np.zeros((len(found), VOID + 1), np.int64)
    np.add.at(of, (at, classes), 1)
    label, order = of.argmax(1), np.arange(1, len(found) + 1)
    objects = np.where(np.isin(label, things) & (found > 0), PER_CLASS * label + order, 0)[at]
    return np.where(objects > 0, objects, ids)


def estimated_normals(places: np.ndarray, cell: float = CELL) -> np.ndarray:
    """(N, 3) unit normals of places (N, 3), y up: across which the points round a cell spread least; they look towards
    the middle of the room."""
    steps = np.floor((places - places.min(0)) / cell).astype(np.int64) + 1
    sides = steps.max(0) + 2
    cells, at = np.unique(np.ravel_multi_index(steps.T, sides), return_inverse=True)
    moments = np.concatenate([np.ones((len(places), 1)), places, _products(places)], 1)
    own = np.zeros((len(cells), moments.shape[1]))
    np.add.at(own, at, moments)
    total = sum(_beside(cells, own, int(np.dot(step, (sides[1] * sides[2], sides[2], 1)))) for step in AROUND)
    count, mean = total[:, :1], total[:, 1:4] / total[:, :1]
    spread = (total[:, 4:] / count - _products(mean)).reshape(-1, 3, 3)
    normal = np.linalg.eigh(spread)[1][:, :, 0]
    outward = (normal * (mean - (places.min(0) + places.max(0)) / 2)).sum(1) > 0
    return np.where(outward[:, None], -normal, normal)[at]


def _products(places: np.ndarray) -> np.ndarray:
    return (places[:, :, None] * places[:, None]).reshape(-1, 9)


def _beside(cells: np.ndarray, values: np.ndarray, step: int) -> np.ndarray:
    """Of each of the sorted cells the values of the one a step away, 0 where it is empty."""
    there = np.searchsorted(cells, cells + step).clip(max=len(cells) - 1)
    return values[there] * (cells[there] == cells + step)[:, None]
