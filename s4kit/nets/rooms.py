"""A voxel U-Net for rooms: it says of each point its class and the way to the middle of its object; points that meet
are a group, and each group is judged as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.points.clouds import has_rooms
from ..errors import S4Error
from .voxel import VoxelFeatures, filled, options_of, point_head

AHEAD = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]  # half of the 26 neighbours
FAR = 100.0  # metres from the middle of a room that a point may be sent


class Read(NamedTuple):
    """What a network says of the points of rooms.

    Attributes:
        features: (B, D, N). logits: (B, K, N) of the classes. offset: (B, 3, N), metres to the middle of the object.
    """

    features: Tensor
    logits: Tensor
    offset: Tensor


class Groups(NamedTuple):
    """Points that go together.

    Attributes:
        ids: (B, N) long, 0 = of none, else the number of the group, 1..n over all rooms. count: n.
    """

    ids: Tensor
    count: int


class Judged(NamedTuple):
    """What each of n groups is taken for as a whole.

    Attributes:
        kind: (n, 1 + T) logits, no object or one of the T classes of things. quality: (n,) logits of how well it covers
            an object.
    """

    kind: Tensor
    quality: Tensor


class Proposed(NamedTuple):
    """What is found in one room.

    Attributes:
        logits: (K, N) of the points' classes.
        ids: (N,) long, 0 = none, else the number of the object, 1..n.
        labels: (n,) long classes. scores: (n,) in [0, 1].
    """

    logits: Tensor
    ids: Tensor
    labels: Tensor
    scores: Tensor


class RoomUNet(VoxelFeatures):
    """Points (B, N, 6), in metres, to logits (B, K, N) of their classes; `find` gives the objects as well.

    The grid is as large as the room, so a network may be trained on small ones and look at larger ones. The head of the
    classes and that of the ways are those of `VoxelUNet`; the one that judges a group sees the mean and the largest of
    its points' features and its extent, in two hidden layers. In the manner of PointGroup (Jiang et al., CVPR 2020),
    whose grid is sparse and whose groups are judged by a small U-Net of their own.

    Args:
        classes: K. things: those of them that have objects.
        width, depth, norm: see `VoxelFeatures`.
        cell: side of a cell of the grid, in metres.
        hidden: channels of the heads.
        reach: side of the cells, in metres, by which points that meet are grouped, see `grouped`.
        least: points that make a group.
    """

    def __init__(
        self,
        classes: int,
        things: Sequence[int],
        width: int = 8,
        depth: int = 3,
        norm: str = "batch",
        cell: float = 0.1,
        hidden: int = 32,
        reach: float = 0.1,
        least: int = 40,
    ) -> None:
        super().__init__(width, depth, norm)
        self.classes, self.cell, self.reach, self.least, self.whole = classes, cell, reach, least, 2**depth
        self.register_buffer("things", torch.tensor(sorted(things)), persistent=False)
        self.semantic = point_head(width, hidden, classes, norm)
        self.offset = point_head(width, hidden, 3, norm)
        self.judge = nn.Sequential(
            nn.Linear(2 * width + 3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 2 + len(things)),
        )  # fmt: skip

    def cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        places = points[..., :3]
        low = places.amin((0, 1))
        sides = ((places.amax((0, 1)) - low) / self.cell).tolist()
        sides = [-(-(int(side) + 1) // self.whole) * self.whole for side in sides]
        at = 2 * (places - low) / (self.cell * torch.tensor(sides, device=places.device)) - 1
        return filled(points, low, 1 / self.cell, sides), at

    def read(self, points: Tensor) -> Read:
        """What it says of each of (B, N, 6) points, without finding objects."""
        features = self.features(points)
        return Read(features, self.semantic(features).float(), self.offset(features).float())

    def forward(self, points: Tensor) -> Tensor:
        return self.semantic(self.features(points)).float()

    def groups(self, points: Tensor, label: Tensor, offset: Tensor) -> Groups:
        """Points of one thing, by their labels (B, N) long, that come together where their ways (B, 3, N) lead them."""
        kinds = label.where(torch.isin(label, self.things), -1)
        return grouped(points[..., :3] + offset.mT, kinds, self.reach, self.least)

    def judged(self, features: Tensor, points: Tensor, groups: Groups) -> Judged:
        """What the groups of points, of their features (B, D, N), are as a whole."""
        said = self.judge(pooled(features.mT.float(), points[..., :3], groups)).float()
        return Judged(said[:, 1:], said[:, 0])

    def find(self, points: Tensor) -> list[Proposed]:
        """What is in each room: a group is of the class that it is judged to be, among the things; its score is its
        quality times the chance that it is one at all."""
        read = self.read(points)
        groups = self.groups(points, read.logits.argmax(1), read.offset)
        kind, quality = self.judged(read.features, points, groups)
        chance = kind.softmax(1)
        labels, scores = self.things[chance[:, 1:].argmax(1)], quality.sigmoid() * (1 - chance[:, 0])
        own = zip(read.logits, map(alone, groups.ids))
        return [Proposed(logits, ids, labels[at], scores[at]) for logits, (ids, at) in own]


def alone(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The groups of one room numbered for themselves, (N,) 0..n, and (n,) their places among those of all rooms."""
    own, at = ids.unique(return_inverse=True)
    none = int(own[0] == 0)
    return at + 1 - none, own[none:] - 1


def grouped(places: Tensor, kinds: Tensor, reach: float, least: int) -> Groups:
    """Points of one kind in cells that touch, also at a corner.

    Args:
        places: (B, N, 3) metres. kinds: (B, N) long, -1 = in no group. reach: side of a cell in metres.
        least: points that make a group.
    """
    ids, chosen = torch.zeros_like(kinds), (kinds >= 0).nonzero(as_tuple=True)
    if not len(chosen[0]):
        return Groups(ids, 0)
    steps = (places.detach().float().nan_to_num()[chosen].clamp(-FAR, FAR) / reach).floor().long()
    steps = steps - steps.amin(0) + 1
    _, rows, columns = sides = (steps.amax(0) + 2).tolist()
    key = chosen[0] * (int(kinds.max()) + 1) + kinds[chosen]
    for along, side in zip(steps.unbind(1), sides):
        key = key * side + along
    cells, at = key.unique(return_inverse=True)
    pairs = [_touching(cells, (x * rows + y) * columns + z) for x, y, z in AHEAD]
    group = connected(len(cells), *(torch.cat(ends) for ends in zip(*pairs)))[at]
    large = group.bincount(minlength=len(cells)) >= least
    ids[chosen] = (large.cumsum(0) * large)[group]
    return Groups(ids, int(large.sum()))


def _touching(cells: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Places of those sorted cells that have another one a step away, and of that one."""
    there = torch.searchsorted(cells, cells + step).clamp(max=len(cells) - 1)
    near = (cells[there] == cells + step).nonzero()[:, 0]
    return near, there[near]


def connected(count: int, one: Tensor, other: Tensor) -> Tensor:
    """(count,) long, the smallest number that each can be reached from over pairs of them, (E,) and (E,)."""
    root = torch.arange(count, device=one.device)
    while True:
        low = torch.minimum(root[one], root[other])
        joined = root
        for end in (one, other, root[one], root[other]):
            joined = joined.scatter_reduce(0, end, low, "amin")
        joined = joined[joined][joined]
        if torch.equal(joined, root):
            return root
        root = joined


def pooled(features: Tensor, places: Tensor, groups: Groups) -> Tensor:
    """(n, 2 D + 3) mean and largest of the features (B, N, D) of each group, and its extent along the axes."""
    chosen = groups.ids > 0
    at, of = groups.ids[chosen] - 1, features[chosen]
    total = of.new_zeros(groups.count, of.shape[1]).index_add(0, at, of)
    mean = total / at.bincount(minlength=groups.count)[:, None]
    where = at[:, None]

    def largest(values: Tensor) -> Tensor:
        start = values.new_full((groups.count, values.shape[1]), -torch.inf)
        return start.scatter_reduce(0, where.expand_as(values), values, "amax")

    extent = largest(places[chosen].float()) + largest(-places[chosen].float())
    return torch.cat([mean, largest(of), extent], 1)


OPTIONS = ("width", "depth", "norm", "cell", "hidden", "reach", "least")


def room_net(net: str | Callable[..., nn.Module], task: Any) -> RoomUNet:
    """A new network for rooms.

    Args:
        net: "voxel", or with options, "voxel(cell=0.05, width=16)", see `RoomUNet`; or a factory that is called with
            `classes` and `things`.

    Raises:
        S4Error: the task is not about objects of rooms, another network, or an unknown option.
    """
    if not has_rooms(task):
        name = getattr(task, "name", task)
        raise S4Error(f'{name} has no rooms with single objects, from which this learns: load("rooms") has.')
    of = {"classes": task.num_classes, "things": task.evaluation.things}
    if callable(net):
        return net(**of)
    return RoomUNet(**of, **options_of(net, OPTIONS, "cell=0.05, width=16"))
