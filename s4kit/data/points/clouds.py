"""What an item of points is, how its parts are nested or its objects scored, and lists of such items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import S4Error
from ..seeding import generator
from ..task import VOID, Sample, Source
from .sides import pictured


@dataclass(frozen=True)
class Cloud:
    """The points of one item.

    Attributes:
        points: (N, 6) float32, place (x, y, z; y is up) and unit normal; the item lies in the unit ball. Of a room
            metres, the middle of its bounding box is 0.
        label: (N,) uint8 class of the finest level, 255 = void; None where the source has no labels.
        id: the name by which errors, splits and the explorer call it.
    """

    points: Tensor
    label: Tensor | None
    id: str

    def picture(self) -> Sample:
        """It, for people to look at, see `sides`."""
        return pictured(self.points, self.label, self.id)


@dataclass(frozen=True)
class PartEvaluation:
    """IoU of the parts over all points of the set, void left out, at each level; the finest one is the headline."""

    of: ClassVar[str] = "parts of points"
    how: ClassVar[str] = 'sets of points: load("shapes")'


@dataclass(frozen=True)
class RoomEvaluation:
    """AP of the single objects of rooms, as the ScanNet benchmark counts it, see `engine.scores.rooms`.

    Attributes:
        things: the classes that have objects; of the others (floor, wall) each point is scored alone.
        least: points of an object that counts; a smaller one is neither wanted nor wrong, and not taught.
    """

    things: tuple[int, ...] = ()
    least: int = 1
    of: ClassVar[str] = "objects of points"
    how: ClassVar[str] = 'rooms of points: load("rooms")'


class CloudSource(Source):
    """A list of items of points, all with the same number of them; `read` gives a `Cloud`."""

    item: type = Cloud
    points: int

    def view(self, row: int) -> Sample:
        return self.read(row).picture()


def has_points(task: Any) -> bool:
    """Whether the items of a task are points."""
    return getattr(getattr(task, "train", None), "item", None) is Cloud


def has_rooms(task: Any) -> bool:
    """Whether the single objects of rooms of points are what a task asks for."""
    return isinstance(getattr(task, "evaluation", None), RoomEvaluation)


def lifted(label: Tensor, parents: Sequence[int]) -> Tensor:
    """Labels of the finest level, of any shape, as those (long) of a coarser one, `parents` by class; 255 stays."""
    table = torch.full((VOID + 1,), VOID, dtype=torch.long)
    table[: len(parents)] = torch.tensor(parents, dtype=torch.long)
    return table.to(label.device)[label.long()]


def nested(tree: Mapping[str, Sequence[str]], names: Sequence[str]) -> tuple[dict, dict]:
    """`Task.levels` and `Task.parents` of a hierarchy.

    Args:
        tree: by finest class the classes above it, from the coarsest level on.
        names: of the levels, from coarse to fine.
    """
    paths = [(*above, finest) for finest, above in tree.items()]
    levels = {name: tuple(dict.fromkeys(path[k] for path in paths)) for k, name in enumerate(names)}
    parents = {name: tuple(levels[name].index(path[k]) for path in paths) for k, name in enumerate(names)}
    return levels, parents


def in_unit_ball(places: np.ndarray) -> np.ndarray:
    """(N, 3) moved so that its bounding box is centred, and scaled so that the farthest point has distance 1."""
    places = places - (places.min(0) + places.max(0)) / 2
    return places / max(float(np.linalg.norm(places, axis=1).max()), 1e-9)


def cloud_of(places: np.ndarray, normals: np.ndarray, label: np.ndarray | None, count: int, id: str) -> Cloud:
    """`count` of the points of an item, moved into the unit ball; which ones depends on its id alone.

    Args:
        places, normals: (n, 3). label: (n,) classes, or None.
    """
    kept = as_many(len(places), count, id)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    points = np.concatenate([in_unit_ball(places), normals / np.maximum(length, 1e-9)], 1)[kept]
    truth = None if label is None else torch.from_numpy(label[kept].astype(np.uint8))
    return Cloud(torch.from_numpy(points.astype(np.float32)), truth, id)


def numbers(file: Path, columns: int) -> np.ndarray:
    """(N, columns) float64, the numbers of a text file, a row per line.

    Raises:
        S4Error: the file is missing, empty or damaged.
    """
    try:
        found = np.array(file.read_text("ascii").split(), np.float64)
    except FileNotFoundError:
        raise S4Error(f"{file} is missing. Unpack the archive again.") from None
    except ValueError as error:
        raise S4Error(f"{file} is no table of numbers ({error}). Unpack the archive again.") from None
    if not len(found) or len(found) % columns or not np.isfinite(found).all():
        raise S4Error(f"{file} has {len(found)} numbers, which are no rows of {columns} finite ones: it is damaged.")
    return found.reshape(-1, columns)


def as_many(rows: int, wanted: int, *keys: int | str) -> np.ndarray:
    """(wanted,) which of `rows` points to take, drawn by these keys: each at most once where there are enough."""
    rng = generator("points", *keys)
    return rng.permutation(rows)[:wanted] if rows >= wanted else rng.integers(0, rows, wanted)
