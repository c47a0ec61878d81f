"""AP of the objects of rooms, counted as the ScanNet benchmark does, and mIoU of the points' classes beside it.

By class, over all rooms, for each IoU: an object is found where a detection of its class overlaps it by more than that;
of several the surest counts, the others are wrong. A detection that overlaps none is wrong, unless a larger share of it
than that lies in void or in objects that are too small; floor and walls are not void. A detection without enough points
is left out. The area is that below precision over recall at each score that occurs, from (0, 1) on, each point weighted
by half of the way between its neighbours, nothing smoothed. AP is the mean over the IoU 0.5, 0.55, ... 0.9; AP50 and
AP25 are those at 0.5 and 0.25.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...data.points.clouds import Cloud, RoomEvaluation
from ...data.task import PER_CLASS, VOID, Task
from ...nets.rooms import Proposed
from .. import distributed
from ..device import autocast
from .listed import Listed
from .segmentation import Scores, count

IOUS = (0.25, *(round(0.5 + 0.05 * k, 2) for k in range(9)))


@dataclass(repr=False)
class RoomScores(Listed):
    """AP of one network over a data set.

    Attributes:
        areas: (10, C) AP at an IoU of 0.25, 0.5, 0.55, ... 0.9 of each class; NaN of one without a true object.
        classes: names of the C classes that have objects.
        points: scores of the points' classes.
    """

    areas: Tensor
    classes: tuple[str, ...]
    points: Scores
    unit: ClassVar[str] = "AP %"
    name: ClassVar[str] = "PointAP"

    @property
    def per_class(self) -> Tensor:
        """(C,) AP of each class, in [0, 1]; NaN for one without a true object."""
        return self.areas[1:].mean(0)

    @property
    def headline(self) -> float:
        """AP in [0, 1]."""
        return float(self.per_class.nanmean())

    def at(self, iou: float) -> float:
        """AP at an IoU of 0.25, 0.5, 0.55, ... or 0.9."""
        return float(self.areas[IOUS.index(iou)].nanmean())

    def row(self) -> dict[str, float]:
        """pointap, pointap50, pointap25, points_miou, and pointap_<class> of every class that has objects."""
        per_class = {f"pointap_{name}": v for name, v in zip(self.classes, self.per_class.tolist()) if v == v}
        return self._means() | per_class

    def _means(self) -> dict[str, float]:
        areas = {"pointap": self.headline, "pointap50": self.at(0.5), "pointap25": self.at(0.25)}
        return areas | {"points_miou": self.points.miou}

    def to_dict(self) -> dict[str, Any]:
        """The means of `row`, AP per class in [0, 1] (None without objects), and the scores of the points."""
        per_class = {n: None if v != v else v for n, v in zip(self.classes, self.per_class.tolist())}
        return self._means() | {"per_class": per_class, "points": self.points.to_dict()}

    def _lines(self) -> list[tuple[str, float]]:
        names = ("AP", "AP50", "AP25", "mIoU of points")
        return [*zip(self.classes, self.per_class.tolist()), *zip(names, self._means().values())]


class Overlaps(NamedTuple):
    """One class in one room.

    Attributes:
        shared: (n, m) points that n detections and m true objects have in common.
        found, true: (n,), (m,) points of each. scores: (n,).
        ignored: (n,) points of each detection in void and in objects of the class that are too small.
    """

    shared: np.ndarray
    found: np.ndarray
    true: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray


class RoomTally:
    """The tally of a `RoomEvaluation`: a network gives by `find(points)` one `nets.rooms.Proposed` for each room."""

    name = RoomScores.name

    def __init__(self, task: Task, how: RoomEvaluation, device: torch.device, precision: str) -> None:
        self.task, self.how, self.device, self.precision = task, how, device, precision
        self.rows = {name: row for row, name in enumerate(task.val.ids)}
        self.seen: dict[str, dict[int, Overlaps]] = {}  # by room, by class
        self.confusion = torch.zeros(task.num_classes, task.num_classes, dtype=torch.long, device=device)

    def add(self, net: nn.Module, items: Iterable[Cloud]) -> None:
        """Count the points of each room and hold the proposed objects against its own, a room a forward."""
        for cloud in items:
            points = cloud.points[None].to(self.device)
            with autocast(self.device, self.precision):
                (found,) = net.find(points)
            self.confusion += count(
                found.logits.argmax(0)[None], cloud.label[None].to(self.device).long(), self.task.num_classes
            )
            ids = self.task.val.objects(self.rows[cloud.id])
            self.seen[cloud.id] = overlaps(Proposed(*(t.cpu() for t in found)), ids, self.how)

    def scores(self) -> RoomScores:
        """Over the rooms of all processes; a meeting of all of them."""
        everyone = distributed.gathered(self.seen)
        rooms = [everyone[name] for name in sorted(everyone)]
        areas = [[area([room[c] for room in rooms], iou) for c in self.how.things] for iou in IOUS]
        classes = tuple(self.task.classes[c] for c in self.how.things)
        points = Scores(distributed.summed(self.confusion).cpu(), self.task.classes)
        return RoomScores(torch.tensor(areas, dtype=torch.float64), classes, points)

    @staticmethod
    def class_scores(net: nn.Module, shown: Tensor, how: RoomEvaluation) -> Tensor:
        """Of the points' classes, in one forward."""
        return net(shown).float().softmax(1)


def overlaps(found: Proposed, ids: Tensor, how: RoomEvaluation) -> dict[int, Overlaps]:
    """What detections and true objects (ids (N,), see `data.objects`) have in common, by class."""
    own, truth, total = found.ids.numpy(), ids.numpy(), len(found.labels) + 1
    names, at = np.unique(truth, return_inverse=True)
    table = np.bincount(own * len(names) + at, minlength=total * len(names)).reshape(total, len(names))
    large, sizes, points = table.sum(1)[1:] >= how.least, table.sum(0), table.sum(1)[1:]
    result = {}
    for c in how.things:
        mine, objects = large & (found.labels.numpy() == c), names // PER_CLASS == c
        wanted, left_out = objects & (sizes >= how.least), (objects & (sizes < how.least)) | (names == VOID)
        rows = table[1:][mine]
        scores = found.scores.float().numpy()[mine]
        result[c] = Overlaps(rows[:, wanted], points[mine], sizes[wanted], scores, rows[:, left_out].sum(1))
    return result


def area(rooms: Sequence[Overlaps], iou: float) -> float:
    """AP of one class at one IoU; NaN where there is no true object."""
    right, scores, total = [], [], 0
    for room in rooms:
        over = room.shared > iou * (room.found[:, None] + room.true - room.shared)
        best = np.zeros(len(room.found), bool)
        for detections in over.T:
            if (hits := np.flatnonzero(detections & ~best)).size:
                best[hits[room.scores[hits].argmax()]] = True
        counts = over.any(1) | (room.ignored <= iou * room.found)
        total += len(room.true)
        right.append(best[counts])
        scores.append(room.scores[counts])
    if not total:
        return float("nan")
    return _under_curve(np.concatenate(right), np.concatenate(scores), total)


def _under_curve(right: np.ndarray, scores: np.ndarray, total: int) -> float:
    """Area below precision over recall of detections; those that are right find one of `total` objects each."""
    if not len(right):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of the detections of one score
    hits = np.cumsum(right[order])[last]
    precision, recall = np.append(1.0, hits / (last + 1)), np.append(0.0, hits / total)
    steps = np.diff(recall, prepend=recall[0], append=recall[-1])
    return float((precision * (steps[:-1] + steps[1:]) / 2).sum())
