"""Labelled shapes made of labelled shapes: each part of one may be replaced by the same part of another one.

Part substitution of "Semi-supervised 3D shape segmentation with multilevel consistency and part substitution" (Sun et
al., CVM 2022), done before the training: from the coarse to the fine level every part of a template is replaced with
probability 1/2 unless some of it has been already. The new part is fitted to the old one: where both have finer parts
in common, their bounding boxes are made the same, else those of the whole parts; on an axis on which it would then
leave the bounding box of the template it is scaled to the extent of that box instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from ..seeding import generator
from ..task import VOID, Task
from .clouds import Cloud, CloudSource, as_many, in_unit_ball

FEWEST = 5  # points that make a part
HELD = 256  # made shapes in memory


def fitted(
    source: np.ndarray, target: np.ndarray, part: np.ndarray, box: np.ndarray, eps: float = 1e-6
) -> tuple[np.ndarray, np.ndarray]:
    """(3,) scale and (3,) translation, by which a new part is put in the place of an old one: places * scale + that.

    Args:
        source: (n, 3) places of the new part that have a counterpart. target: (m, 3) these of the old part.
        part: (p, 3) all places of the new part. box: (2, 3) lowest and highest corner of the template.
        eps: smallest extent, and by how much a part may leave the box.
    """
    low, high = source.min(0), source.max(0)
    goal, extent = (target.min(0) + target.max(0)) / 2, np.maximum(high - low, eps)
    scale = (target.max(0) - target.min(0)) / extent
    shift = goal - (low + high) / 2 * scale
    leaves = (part.min(0) * scale + shift < box[0] - eps) | (part.max(0) * scale + shift > box[1] + eps)
    whole = np.maximum(part.max(0) - part.min(0), eps)
    scale = np.where(leaves, (box[1] - box[0]) / whole, scale)
    return scale, goal - (low + high) / 2 * scale


def substitute(
    rng: np.random.Generator, shapes: Sequence[Cloud], parents: Sequence[np.ndarray], template: int, chance: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """A shape in which parts of shape `template` are those of others: (M, 6) points and (M,) uint8 finest classes.

    Args:
        parents: by level, from coarse to fine, (256,) class of each finest class, 255 = none.
    """
    every = [(shape.points.numpy(), shape.label.numpy()) for shape in shapes]
    points, label = (values.copy() for values in every[template])
    box, done = np.stack([points[:, :3].min(0), points[:, :3].max(0)]), np.zeros(len(points), bool)
    for depth, parent in enumerate(parents):
        finer = parents[min(depth + 1, len(parents) - 1)]
        for part in np.unique(parent[label[parent[label] != VOID]]):
            old = parent[label] == part
            if (done & old).any() or old.sum() < FEWEST or rng.random() >= chance:
                continue
            donors = [
                k for k, (_, other) in enumerate(every) if k != template and (parent[other] == part).sum() >= FEWEST
            ]
            if not donors:
                continue
            given, theirs = every[donors[rng.integers(len(donors))]]
            new = parent[theirs] == part
            moved = _moved(given[new], finer[theirs[new]], points[old, :3], finer[label[old]], box)
            points = np.concatenate([points[~old], moved])
            label = np.concatenate([label[~old], theirs[new]])
            done = np.concatenate([done[~old], np.ones(len(moved), bool)])
    return points, label


def _moved(new: np.ndarray, sub: np.ndarray, old: np.ndarray, its: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(n, 6) the points of a new part in the place of the old one; `sub` and `its` are their finer classes."""
    common = np.intersect1d(sub, its)
    source, target = new[np.isin(sub, common), :3], old[np.isin(its, common)]
    if min(len(source), len(target)) < FEWEST:
        source, target = new[:, :3], old
    scale, shift = fitted(source, target, new[:, :3], box)
    normals = new[:, 3:] / np.maximum(scale, 1e-3)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return np.concatenate([new[:, :3] * scale + shift, normals], 1)


class Substituted(CloudSource):
    """A source and, behind its rows, `count` shapes made of some of them."""

    def __init__(self, source: CloudSource, rows: Sequence[int], parents: Sequence[Sequence[int]], count: int) -> None:
        self.source, self.rows, self.points = source, tuple(rows), source.points
        self.parents = [np.array([*classes, *[VOID] * (256 - len(classes))]) for classes in parents]
        self.ids = [*source.ids, *(f"substituted_{k:04d}" for k in range(count))]
        self._made = lru_cache(maxsize=HELD)(self._make)

    def read(self, row: int, label: bool = True) -> Cloud:
        if row < len(self.source):
            return self.source.read(row, label)
        points, truth = self._made(row - len(self.source))
        return Cloud(points.clone(), truth.clone() if label else None, self.ids[row])

    def _make(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng, shapes = generator("substituted", k), [self.source.read(row) for row in self.rows]
        points, label = substitute(rng, shapes, self.parents, k % len(shapes))
        kept = as_many(len(points), self.points, "substituted", k)
        points, label = points[kept], label[kept]
        points = np.concatenate([in_unit_ball(points[:, :3]), points[:, 3:]], 1).astype(np.float32)
        return torch.from_numpy(points), torch.from_numpy(label.astype(np.uint8))

    def __getstate__(self) -> dict:
        return {key: value for key, value in vars(self).items() if key != "_made"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._made = lru_cache(maxsize=HELD)(self._make)


def with_substituted(task: Task, count: int) -> Task:
    """A task with `count` labelled shapes more, each made of its labelled ones; it says so in its protocol."""
    if not count:
        return task
    source = Substituted(task.train, task.labelled, list(task.parents.values()), count)
    more = tuple(range(len(task.train), len(source)))
    words = f"{task.protocol}, {count} more by part substitution"
    return replace(task, train=source, labelled=(*task.labelled, *more), protocol=words)
