"""mIoU: a few images, their scores and one confusion matrix in memory, counted on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID, Evaluation, Sample, Task
from .. import ahead, distributed
from ..device import autocast
from ..windows import predict
from .listed import Listed


@dataclass(repr=False)
class Scores(Listed):
    """IoU and accuracy of one network over a data set, from the summed confusion matrix.

    Attributes:
        confusion: (C, C) long, rows are the truth, columns the prediction.
        classes: names of the classes.
    """

    confusion: Tensor
    classes: tuple[str, ...]
    unit: ClassVar[str] = "IoU %"
    name: ClassVar[str] = "mIoU"

    @property
    def iou(self) -> Tensor:
        """(C,) intersection over union per class, in [0, 1]; NaN for a class that neither truth nor prediction has."""
        hit = self.confusion.diag().double()
        union = self.confusion.sum(0) + self.confusion.sum(1) - self.confusion.diag()
        return torch.where(union > 0, hit / union.clamp(min=1), torch.nan)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction, in [0, 1]."""
        return float(self.iou.nanmean())

    @property
    def headline(self) -> float:
        """The score that runs are ranked by, in [0, 1]."""
        return self.miou

    @property
    def accuracy(self) -> float:
        """Share of right pixels among those that are not void."""
        return float(self.confusion.diag().sum() / self.confusion.sum().clamp(min=1))

    def row(self) -> dict[str, float]:
        """miou, accuracy and iou_<class> of every class that occurs."""
        per_class = {f"iou_{c}": v for c, v in zip(self.classes, self.iou.tolist()) if v == v}
        return {"miou": self.miou, "accuracy": self.accuracy} | per_class

    def to_dict(self) -> dict[str, Any]:
        """The mean IoU, the pixel accuracy and the IoU per class, in [0, 1]; None of a class that is nowhere."""
        iou = {name: None if value != value else value for name, value in zip(self.classes, self.iou.tolist())}
        return {"miou": self.miou, "accuracy": self.accuracy, "iou": iou}

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.classes, "accuracy"))
        rows = [
            f"{name:<{width}}  {'   —' if value != value else f'{100 * value:5.1f}'}"
            for name, value in zip(self.classes, self.iou.tolist())
        ]
        return "\n".join(
            [*rows, f"{'mIoU':<{width}}  {100 * self.miou:5.1f}", f"{'accuracy':<{width}}  {100 * self.accuracy:5.1f}"]
        )

    def _lines(self) -> list[tuple[str, float]]:
        return [*zip(self.classes, self.iou.tolist()), ("mIoU", self.miou), ("accuracy", self.accuracy)]


class Confusion:
    """The tally of an `Evaluation`.

    On a GPU images and windows of one size are seen together as far as the memory allows; the batch norms do not look
    at the batch here, so the scores are those of one at a time up to rounding.
    """

    name = Scores.name

    def __init__(self, task: Task, how: Evaluation, device: torch.device, precision: str) -> None:
        self.how, self.device, self.precision, self.classes = how, device, precision, task.classes
        self.confusion = torch.zeros(task.num_classes, task.num_classes, dtype=torch.long, device=device)
        self.at_once = ahead.at_once(device)

    def add(self, net: nn.Module, items: Iterable[Sample]) -> None:
        """Count the pixels of each image, as the evaluation says; images of one size may go through the network
        together."""
        for group in ahead.alike(items, self._together()):
            self.confusion += self._counts(net, group)

    def scores(self) -> Scores:
        """Over the images of all processes; a meeting of all of them."""
        return Scores(distributed.summed(self.confusion).cpu(), self.classes)

    @staticmethod
    def class_scores(net: nn.Module, shown: Tensor, how: Evaluation) -> Tensor:
        """(B, K, H, W) of images (B, 3, H, W) in [0, 1], see `predict`."""
        return predict(net, shown, how)

    def _together(self) -> int:
        """How many images a forward takes; of those that are seen through windows, one."""
        return 1 if self.how.mode == "sliding" else self.at_once

    def _counts(self, net: nn.Module, group: Sequence[Sample]) -> Tensor:
        """(C, C) counts of images of one size; where they do not fit into the memory, of fewer at a time."""
        counts, images = torch.zeros_like(self.confusion), self._together()
        try:
            for first in range(0, len(group), images):
                part = group[first : first + images]
                with autocast(self.device, self.precision):
                    seen = torch.cat([to_image(sample, self.device) for sample in part])
                    scores = predict(net, seen, self.how, self.at_once)
                for prediction, sample in zip(scores.max(1).indices, part):  # as `argmax`, which takes longer on a CPU
                    counts += count(prediction, _upload(sample.label, self.device).long(), len(self.classes))
            return counts
        except torch.OutOfMemoryError:
            if self.at_once == 1:
                raise
        torch.cuda.empty_cache()  # behind the `except`: the error holds what was computed
        self.at_once //= 2
        return self._counts(net, group)


def count(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """(C, C) confusion counts of (H, W) class maps on their device; void pixels of the label are left out."""
    known = label != VOID
    index = torch.where(known, label * classes + prediction, classes * classes)
    counts = torch.zeros(classes * classes + 1, dtype=torch.long, device=index.device)
    counts.scatter_add_(0, index.flatten(), torch.ones_like(index.flatten()))
    return counts[:-1].view(classes, classes)


def to_image(sample: Sample, device: torch.device) -> Tensor:
    """A sample as a (1, 3, H, W) float image in [0, 1] on the device."""
    image = _upload(sample.image, device)[None].float().div_(255)
    return image.contiguous(memory_format=torch.channels_last)


def _upload(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without waiting for it: while it computes, the next image is decoded."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
