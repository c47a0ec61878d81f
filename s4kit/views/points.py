"""The stream of points: rigid copies of the same points, drawn on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..data.points.clouds import Cloud, has_points, has_rooms
from ..data.seeding import generator
from ..data.task import OBJECTS, VOID, Task
from ..errors import S4Error
from .looks import POINTS, Look
from .plan import Still, ViewPlan, Views
from .sampling import pick


@dataclass(frozen=True)
class Rigid:
    """How a copy is moved: scale * (turn x + shift). Normals are turned alone.

    Attributes:
        degrees: about each axis, a whole number of them up to this in either direction.
        scale: of the whole, 1 - scale to 1 + scale.
        shift: along each axis, up to this in either direction.
    """

    degrees: int = 10
    scale: float = 0.25
    shift: float = 0.25

    def moved(self, rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
        """(N, 6) float32 copy of points (N, 6)."""
        turn = np.eye(3)
        for axis, angle in enumerate(np.radians(rng.integers(-self.degrees, self.degrees + 1, 3))):
            turn = _about(axis, angle) @ turn
        shift = rng.uniform(-self.shift, self.shift, 3)
        places = (points[:, :3] @ turn.T + shift) * (1 + rng.uniform(-self.scale, self.scale))
        return np.concatenate([places, points[:, 3:] @ turn.T], 1).astype(np.float32)


@dataclass(frozen=True)
class Upright:
    """How a room is moved, its floor staying below: mirrored or not, turned by some quarters and a little, scaled.

    Attributes:
        degrees: beside the quarters, up to this in either direction. scale: see `Rigid`.
    """

    degrees: float = 5.0
    scale: float = 0.1

    def moved(self, rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
        """(N, 6) float32 copy of points (N, 6)."""
        mirrored = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0])
        turn = _about(1, np.radians(90 * rng.integers(4) + rng.uniform(-self.degrees, self.degrees))) @ mirrored
        places = points[:, :3] @ turn.T * (1 + rng.uniform(-self.scale, self.scale))
        return np.concatenate([places, points[:, 3:] @ turn.T], 1).astype(np.float32)


def _about(axis: int, angle: float) -> np.ndarray:
    one, other = (k for k in range(3) if k != axis)
    turn, sine = np.eye(3), np.sin(angle) * (-1 if axis == 1 else 1)
    turn[one, one] = turn[other, other] = np.cos(angle)
    turn[one, other], turn[other, one] = -sine, sine
    return turn


@dataclass
class HostPoints:
    """One stream before the device."""

    copies: list[Tensor]  # k x (B, N, 6) float32
    label: Tensor  # (B, N) uint8
    index: Tensor  # (B,) int64
    labelled: Tensor  # (B,) bool
    maps: dict[str, Tensor] = field(default_factory=dict)  # (B, N) uint8, of objects int32, by name

    def pin_memory(self) -> HostPoints:
        """A copy in page-locked memory, from which the transfer to a GPU need not be waited for."""
        rest = (t.pin_memory() for t in (self.label, self.index, self.labelled))
        maps = {name: t.pin_memory() for name, t in self.maps.items()}
        return HostPoints([copy.pin_memory() for copy in self.copies], *rest, maps)


@dataclass(frozen=True)
class PointStream:
    """One independent, seeded draw per step from one list of point sets, and moved copies of each.

    `weak` (B, N, 6) is the first copy, `strong` are the others: the same points in the same order. `valid` (B, N) is 0
    where a point has left the cube [-1, 1]^3 in any of them, if there is one.

    Attributes:
        source: "labelled", "unlabelled" or "all".
        copies: how many.
        rigid: how each is moved.
        batch: items per labelled item.
        maps: names of maps that a stage has kept of the items, (N,); "instance", of the objects, is known of labelled
            ones.
        cube: whether the items lie in a cube; rooms do not.
        of, reveal: None: nothing is known of points that goes in pairs or stands for a label.
    """

    source: str
    copies: int = 2
    rigid: Rigid | Upright = field(default_factory=Rigid)
    batch: float = 1.0
    maps: tuple[str, ...] = ()
    cube: bool = True
    of: None = None
    reveal: None = None
    look: ClassVar[Look] = POINTS

    def check(self, task: Task, name: str) -> None:
        """Raises S4Error where the task has no points, or where objects are asked for and it has no rooms."""
        if not has_points(task):
            raise S4Error(f'The stream {name!r} draws points, and {task.name} has none: it needs load("shapes").')
        if OBJECTS in self.maps and not has_rooms(task):
            raise S4Error(f'The stream {name!r} draws rooms with objects, not {task.name}: it needs load("rooms").')

    def draw(self, task: Task, name: str, plan: ViewPlan, seed: int, stage: int, positions: range) -> HostPoints:
        """The points at the given positions; labels are shown for rows of the labelled list alone."""
        known, source, hosts = task.shown(self.source), task.source(self.source), []
        for position in positions:
            row = pick(task, self, name, seed, stage, position)
            cloud, rng = source.read(row, label=row in known), generator(seed, "view", name, stage, position)
            copies = [self.rigid.moved(rng, cloud.points.numpy()) for _ in range(self.copies)]
            hosts.append(_host(cloud, row, self._kept(task, self.maps, row, cloud, row in known), copies))
        return self.join(hosts)

    def whole(self, task: Task, row: int) -> HostPoints:
        """One set of points (1, N, 6) as it is stored; its label 255 everywhere where it is hidden."""
        shown = row in task.labelled_rows
        cloud = task.train.read(row, label=shown)
        return _host(cloud, row, self._kept(task, self.maps, row, cloud, shown))

    def still(self, task: Task, part: str, row: int, whole: bool = False, reveals: tuple[str, ...] = ()) -> Still:
        """One set of points as it is stored, `whole` or not, its label hidden and given as the truth."""
        cloud, own = _shown(task, part, row), part == "train"
        names = task.kept.names() if task.kept and own else ()
        hidden = Cloud(cloud.points, None, cloud.id)
        return Still(_host(hidden, row if own else -1, self._kept(task, names, row, cloud)), _label(cloud)[None])

    def join(self, hosts: Sequence[HostPoints]) -> HostPoints:
        """One batch of several sets of one size."""
        copies = [torch.cat(each) for each in zip(*(host.copies for host in hosts))]
        rows = zip(*((host.label, host.index, host.labelled) for host in hosts))
        maps = {name: torch.cat([host.maps[name] for host in hosts]) for name in hosts[0].maps}
        return HostPoints(copies, *map(torch.cat, rows), maps)

    def render(self, host: HostPoints, device: torch.device) -> Views:
        """The views on the device: (B, N, 6) in place of images, (B, N) in place of maps, valid inside the cube."""

        def to(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        weak, *strong = map(to, host.copies)
        inside = torch.stack([in_cube(copy) for copy in (weak, *strong)]).all(0)
        inside = inside if self.cube else torch.ones_like(inside)
        return Views(
            weak=weak,
            strong=strong,
            masks=[],
            valid=inside.float(),
            label=to(host.label).long(),
            index=to(host.index),
            labelled=to(host.labelled),
            maps={name: to(values).long() for name, values in host.maps.items()},
        )

    @staticmethod
    def _kept(task: Task, names: Sequence[str], row: int, cloud: Cloud, shown: bool = False) -> dict[str, np.ndarray]:
        return {name: task.map_of(name, row, (len(cloud.points),), shown) for name in names}


def in_cube(points: Tensor) -> Tensor:
    """(B, N) bool, the points (B, N, 6) that lie in [-1, 1]^3."""
    return (points[..., :3].abs() <= 1).all(-1)


def _host(
    cloud: Cloud, row: int, maps: dict[str, np.ndarray], copies: Sequence[np.ndarray | Tensor] = ()
) -> HostPoints:
    """One item as a batch of one, as it is or in these copies."""
    moved = [torch.as_tensor(copy)[None] for copy in copies or (cloud.points,)]
    kept = {name: torch.from_numpy(values)[None] for name, values in maps.items()}
    shown = torch.tensor([cloud.label is not None])
    return HostPoints(moved, _label(cloud)[None], torch.tensor([row]), shown, kept)


def _label(cloud: Cloud) -> Tensor:
    return cloud.label if cloud.label is not None else torch.full((len(cloud.points),), VOID, dtype=torch.uint8)


def _shown(task: Task, part: str, row: int) -> Cloud:
    """An item with its truth for people to see; without it where there is none, or its file is broken."""
    source = getattr(task, part)
    try:
        return source.read(row)
    except S4Error:
        return source.read(row, label=False)
