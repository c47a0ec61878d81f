"""`shapes`: the embedded data set of points. Chairs, tables and lamps whose parts are nested in three levels.

Sampled when read: an item is a pure function of (seed, index). There are as many of each kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch

from ...errors import S4Error
from ..catalog import Catalog
from ..palettes import distinct
from ..points.clouds import Cloud, CloudSource, PartEvaluation, in_unit_ball, nested
from ..points.substituted import with_substituted
from ..seeding import generator
from .shapes_paint import Furniture
from .shapes_plans import KINDS, LEVELS, TREE

TRAIN_SEED, VAL_SEED = 0, 1  # of the shapes; the seed of a split is another matter
HELD = 1024  # sampled shapes in memory, 50 kB each at 2048 points


class ShapeSource(CloudSource):
    """`count` shapes of `points` points."""

    def __init__(self, part: str, count: int, points: int, seed: int) -> None:
        self.ids = [f"{part}_{_kind(seed, k).__name__}_{k:04d}" for k in range(count)]
        self.points, self.seed = points, seed

    def read(self, row: int, label: bool = True) -> Cloud:
        points, truth = _sampled(self.seed, row, self.points)
        return Cloud(points.clone(), truth.clone() if label else None, self.ids[row])


def _kind(seed: int, index: int) -> Callable[[np.random.Generator], Furniture]:
    """What a shape is: of each three in a row one of a kind, in an order of their own."""
    group, place = divmod(index, len(KINDS))
    return KINDS[generator("kinds", seed, group).permutation(len(KINDS))[place]]


@lru_cache(maxsize=HELD)
def _sampled(seed: int, index: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = generator("shapes", seed, index)
    places, normals, label = _kind(seed, index)(rng).sampled(rng, count, list(TREE))
    points = np.concatenate([in_unit_ball(places), normals], 1).astype(np.float32)
    return torch.from_numpy(points), torch.from_numpy(label.astype(np.uint8))


def open_shapes(
    root: str | os.PathLike | None = None,
    size: float | int | None = None,
    cache: bool | None = None,
    n_train: int = 128,
    n_val: int = 48,
    points: int = 2048,
    substituted: int = 0,
) -> Catalog:
    """The embedded data set of points.

    Args:
        root, size, cache: not used by it.
        n_train, n_val: how many shapes.
        points: of each shape.
        substituted: so many labelled shapes more, made of the labelled ones by part substitution.

    Raises:
        S4Error: no shapes, or fewer than 64 points.
    """
    if size is not None:
        raise S4Error(f"shapes has no pixels: leave out size={size}; points={points} says how many points there are.")
    if n_train < 1 or n_val < 1 or points < 64 or substituted < 0:
        given = f"{n_train}, {n_val}, {points}, {substituted}"
        raise S4Error(f"shapes needs n_train, n_val >= 1, points >= 64 and substituted >= 0; got {given}.")
    levels, parents = nested(TREE, LEVELS)
    return Catalog(
        name="shapes",
        classes=levels["fine"],
        palette=distinct(len(TREE)),
        train=ShapeSource("train", n_train, points, TRAIN_SEED),
        val=ShapeSource("val", n_val, points, VAL_SEED),
        crop=None,
        evaluation=PartEvaluation(),
        labelled=min(9, n_train),
        cover=1 if n_train >= 64 else 0,
        levels=levels,
        parents=parents,
        finish=partial(with_substituted, count=substituted),
    )
