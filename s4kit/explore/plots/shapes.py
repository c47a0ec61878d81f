"""Sets of points from four sides: their parts at each level, what a network takes them for, and where it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.points.clouds import Cloud, has_points, lifted
from ...data.task import VOID, Task
from ...errors import S4Error
from ...report.pictures import colour
from ...report.plots import Picture
from ...views.looks import POINTS, Points
from .images import grid

SIDE = 240  # pixels of a picture, in which there are four views


def shape(task: Task, item: int | Cloud, net: Any = None, part: str = "train") -> Picture:
    """An item of points, its parts at each level, and what a network says of them.

    Each picture has four views, three round the item and one from above. A part of a coarse level has the colour of the
    first of the finest parts that belong to it.

    Args:
        task: of a data set of points. item: a row of its `part`, "train" or "val"; or such an item itself.
        net: points (1, N, 6) -> logits, with `levels` where it has a head for each; None = not shown.

    Raises:
        S4Error: the task has no points.
    """
    if not has_points(task):
        raise S4Error(f'{task.name} has no points to show: load("shapes") has.')
    cloud = item if isinstance(item, Cloud) else getattr(task, part).read(item)
    points, at = cloud.points[None], POINTS.bind(cloud.points[None], SIDE)
    truth, rows = _levels(task, cloud.label), {}
    rows["truth"] = [at.pictures(points)[0], *(_coloured(at, task, level, label) for level, label in truth.items())]
    if net is not None:
        said = said_of(net, task, points)
        rows["said"] = [None, *(_coloured(at, task, level, label) for level, label in said.items())]
        wrong = ((said[level] != label) & (label != VOID) for level, label in truth.items())
        rows["wrong"] = [None, *(at.maps(where[None])[0] for where in wrong)]
    return grid(list(rows.values()), task, ["points", *truth], list(rows), named=True)


def copies(task: Task, views: Any, k: int = 0) -> Picture:
    """The copies of item `k` of a batch of points with their finest parts, and what of it is inside the cube in all.

    Args:
        task: whose colours are taken. views: of a stream of points, rendered.
    """
    every = [views.weak[k : k + 1], *(copy[k : k + 1] for copy in views.strong)]
    label = views.label[k] if (views.label[k] != VOID).any() else task.train.read(int(views.index[k])).label.long()
    looks = [POINTS.bind(copy, SIDE) for copy in every]
    shown = [[at.pictures(copy)[0] for at, copy in zip(looks, every)]]
    shown.append([_coloured(at, task, "", label) for at in looks])
    shown.append([at.maps(views.valid[k : k + 1])[0] for at in looks])
    titles = [f"copy {number}" for number in range(1, len(every) + 1)]
    return grid(shown, task, titles, ["points", "parts", "counts"], named=True)


@torch.no_grad()
def said_of(net: Any, task: Task, points: Tensor) -> dict[str, Tensor]:
    """(N,) long predictions by level of one item (1, N, 6); a network of one head is asked for the finest alone."""
    from ...nets import evaluating

    with evaluating(net):
        if hasattr(net, "levels"):
            return {level: logits.argmax(1)[0] for level, logits in net.levels(points).items()}
        return _levels(task, net(points).argmax(1)[0])


def _levels(task: Task, label: Tensor) -> dict[str, Tensor]:
    """(N,) long by level."""
    parents = task.parents or {"parts": range(task.num_classes)}
    return {level: lifted(label, classes) for level, classes in parents.items()}


def _coloured(at: Points, task: Task, level: str, label: Tensor) -> np.ndarray:
    """(h, w, 3) uint8, the parts in their colours, white where there is no point."""
    shown = colour(at.maps(label[None], VOID)[0].numpy(), palette_of(task, level))
    return np.where(at.at[0].numpy()[..., None] < 0, np.uint8(255), shown)


def palette_of(task: Task, level: str) -> Sequence[tuple[int, int, int]]:
    """Colours of the classes of a level: of each the colour of its first finest part."""
    parents = task.parents.get(level, tuple(range(task.num_classes)))
    return [task.palette[parents.index(k)] for k in range(max(parents) + 1)]
