"""Rooms of points from four sides: their classes and their objects, the true ones and those that a network finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.points.clouds import has_rooms
from ...data.task import PER_CLASS, VOID, Task
from ...errors import S4Error
from ...report.pictures import colour
from ...report.plots import Picture
from ...views.looks import POINTS, Points
from .images import grid
from .objects import distinct_hues

SIDE = 300  # pixels of a picture, in which there are four views
REST = 225  # grey of points that are of no object


def room(task: Task, row: int, net: Any = None, part: str = "train", least: float = 0.25) -> Picture:
    """A room, the classes of its points and its objects, each in a colour of its own; and what a network says of them.

    Args:
        task: of rooms. row: of its `part`, "train" or "val".
        net: with `find`, see `nets.rooms.RoomUNet`; None = not shown.
        least: score from which a found object is shown.

    Raises:
        S4Error: the task has no rooms.
    """
    if not has_rooms(task):
        raise S4Error(f'{task.name} has no rooms to show: load("rooms") has.')
    source = getattr(task, part)
    cloud, ids = source.read(row), source.objects(row)
    points, at = cloud.points[None], POINTS.bind(cloud.points[None], SIDE)
    rows = {"truth": [at.pictures(points)[0], *_pair(at, task, cloud.label.long(), ids)]}
    if net is not None:
        rows["found"] = [None, *_pair(at, task, *said_of(net, points, least))]
    return grid(list(rows.values()), task, ["points", "classes", "objects"], list(rows), named=True)


@torch.no_grad()
def mended(method: Any, task: Task, row: int) -> Picture:
    """What twist takes a training room for at first, by points and the groups that they make alone; after objects and
    classes have mended each other; and the truth. Points of which nothing is believed are striped.

    Args:
        method: a `Twist`, its network trained. task: of rooms. row: of `task.train`.

    Raises:
        S4Error: a method that mends nothing.
    """
    from ...nets import evaluating

    if not hasattr(method, "corrected"):
        raise S4Error(f"{getattr(method, 'name', type(method).__name__)} mends no labels of rooms: twist does.")
    cloud = task.train.read(row)
    points, at = cloud.points[None], POINTS.bind(cloud.points[None], SIDE)
    with evaluating(method.student):
        read = method.student.read(points)
        label = read.logits.argmax(1)
        groups = method.student.groups(points, label, read.offset)
    found = method.corrected(points)
    stages = {
        "at first": (label[0], ((groups.ids > 0) * PER_CLASS + groups.ids)[0]),
        "mended": (found.label[0], found.ids[0]),
        "truth": (cloud.label.long(), task.train.objects(row)),
    }
    pictures = [_pair(at, task, *stage) for stage in stages.values()]
    return grid(pictures, task, ["classes", "objects"], list(stages), named=True)


@torch.no_grad()
def said_of(net: Any, points: Tensor, least: float = 0.25) -> tuple[Tensor, Tensor]:
    """(N,) long classes of the points of one room (1, N, 6), and (N,) ids of what is found with so high a score."""
    from ...nets import evaluating

    with evaluating(net):
        (found,) = net.find(points)
    shown = (found.scores >= least) * (PER_CLASS * found.labels + 1 + torch.arange(len(found.labels)))
    return found.logits.argmax(0), torch.cat([shown.new_zeros(1), shown])[found.ids]


def _pair(at: Points, task: Task, label: Tensor, ids: Tensor) -> list[np.ndarray]:
    """(h, w, 3) uint8 pictures of the classes and of the objects, white where there is no point."""
    seen = (at.at[0].numpy() >= 0)[..., None]
    classes = colour(at.maps(label[None], VOID)[0].numpy(), task.palette)
    names, number = np.unique(np.where(ids.numpy() >= PER_CLASS, ids.numpy(), 0), return_inverse=True)
    colours = np.where(names[:, None] > 0, 255 * distinct_hues(len(names)), REST).round().astype(np.uint8)
    objects = colours[at.maps(torch.from_numpy(number)[None])[0].numpy()]
    return [np.where(seen, picture, np.uint8(255)) for picture in (classes, objects)]
