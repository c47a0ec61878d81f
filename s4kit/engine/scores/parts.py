"""IoU of the parts of point sets: one confusion matrix for each level of the parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.points.clouds import Cloud, PartEvaluation, lifted
from ...data.task import Task
from .. import ahead, distributed
from ..device import autocast
from .segmentation import Scores, count


@dataclass(repr=False)
class PartScores(Scores):
    """Scores of the finest level, over all points.

    Attributes:
        coarser: those of the other levels by name, from the coarsest on.
    """

    coarser: dict[str, Scores]
    name: ClassVar[str] = "PartIoU"

    def row(self) -> dict[str, float]:
        """partiou, of the finest level; partiou_<level> of the others; accuracy and iou_<part> of the finest."""
        own = super().row()
        levels = {f"partiou_{level}": scores.miou for level, scores in self.coarser.items()}
        return {"partiou": own.pop("miou")} | levels | own

    def to_dict(self) -> dict[str, Any]:
        """As those of the finest level, with those of the coarser ones by name in "levels"."""
        return super().to_dict() | {"levels": {level: scores.to_dict() for level, scores in self.coarser.items()}}

    def __str__(self) -> str:
        above = [f"{level}: mIoU {100 * scores.miou:.1f}" for level, scores in self.coarser.items()]
        return "\n".join([super().__str__(), *above])


class PartTally:
    """The tally of a `PartEvaluation`.

    A network that has `levels(points)`, logits (B, K, N) by level, is scored at each by its own; of one that has not,
    the finest parts' predictions are taken for those that they belong to.
    """

    name = PartScores.name

    def __init__(self, task: Task, how: PartEvaluation, device: torch.device, precision: str) -> None:
        self.device, self.precision, self.classes = device, precision, task.classes
        finest = {"": tuple(range(task.num_classes))}  # points whose parts are not nested
        self.parents, self.levels = task.parents or finest, task.levels or {"": task.classes}
        self.confusion = {
            level: torch.zeros(len(names), len(names), dtype=torch.long, device=device)
            for level, names in self.levels.items()
        }

    def add(self, net: nn.Module, items: Iterable[Cloud]) -> None:
        """Count the points of each cloud at every level; clouds of one size go through the network together."""
        for group in ahead.alike(items, ahead.at_once(self.device), lambda cloud: cloud.points.shape):
            points = torch.stack([cloud.points for cloud in group]).to(self.device)
            truth = torch.stack([cloud.label for cloud in group]).to(self.device).long()
            for level, said in self._said(net, points).items():
                self.confusion[level] += count(said, lifted(truth, self.parents[level]), len(self.levels[level]))

    def _said(self, net: nn.Module, points: Tensor) -> dict[str, Tensor]:
        """(B, N) long predictions by level."""
        with autocast(self.device, self.precision):
            if hasattr(net, "levels"):
                return {level: logits.argmax(1) for level, logits in net.levels(points).items()}
            finest = net(points).argmax(1)
        return {level: lifted(finest, parents) for level, parents in self.parents.items()}

    def scores(self) -> PartScores:
        """Over the clouds of all processes; a meeting of all of them."""
        *above, (_, finest) = (
            (level, distributed.summed(confusion).cpu()) for level, confusion in self.confusion.items()
        )
        return PartScores(finest, self.classes, {level: Scores(sums, self.levels[level]) for level, sums in above})

    @staticmethod
    def class_scores(net: nn.Module, shown: Tensor, how: PartEvaluation) -> Tensor:
        """Of the finest level, in one forward."""
        return net(shown).float().softmax(1)
