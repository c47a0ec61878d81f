"""What an item of points is, how its parts are nested, and lists of such items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .seeding import generator
from .task import VOID, Source


@dataclass(frozen=True)
class Cloud:
    """The points of one item.

    Attributes:
        points: (N, 6) float32, place (x, y, z; y is up) and unit normal; the item lies in the unit ball.
        label: (N,) uint8 class of the finest level, 255 = void; None where the source has no labels.
        id: the name by which errors, splits and the explorer call it.
    """

    points: Tensor
    label: Tensor | None
    id: str


@dataclass(frozen=True)
class PartEvaluation:
    """IoU of the parts over all points of the set, void left out, at each level; the finest one is the headline."""

    of: ClassVar[str] = "parts of points"
    how: ClassVar[str] = 'sets of points: load("shapes")'


class CloudSource(Source):
    """A list of items of points, all with the same number of them; `read` gives a `Cloud`."""

    item: ClassVar[type] = Cloud
    points: int


def has_points(task: Any) -> bool:
    """Whether the items of a task are points."""
    return getattr(getattr(task, "train", None), "item", None) is Cloud


def lifted(label: Tensor, parents: Sequence[int]) -> Tensor:
    """Labels (long) of the finest level as those of a coarser one, `parents` by class; 255 stays."""
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


def as_many(rows: int, wanted: int, *keys: int | str) -> np.ndarray:
    """(wanted,) which of `rows` points to take, drawn by these keys: each at most once where there are enough."""
    rng = generator("points", *keys)
    return rng.permutation(rows)[:wanted] if rows >= wanted else rng.integers(0, rows, wanted)
