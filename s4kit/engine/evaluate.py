"""Scoring: whole images at original resolution, or a sliding window; one image and one confusion matrix in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.task import VOID, Evaluation, Sample, Task
from ..nets import evaluating
from .device import autocast, pick_device


@dataclass(repr=False)
class Scores:
    """Scores of one network over a data set, from the summed confusion matrix.

    Attributes:
        confusion: (C, C) long, rows are the truth, columns the prediction.
        classes: names of the classes.
    """

    confusion: Tensor
    classes: tuple[str, ...]

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
    def accuracy(self) -> float:
        """Share of right pixels among those that are not void."""
        return float(self.confusion.diag().sum() / self.confusion.sum().clamp(min=1))

    def to_dict(self) -> dict[str, Any]:
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

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        cells = "".join(
            f"<tr><td style='text-align:left'>{escape(name)}</td><td>{'—' if v != v else f'{100 * v:.1f}'}</td></tr>"
            for name, v in [*zip(self.classes, self.iou.tolist()), ("mIoU", self.miou), ("accuracy", self.accuracy)]
        )
        return f"<table><tr><th style='text-align:left'>class</th><th>IoU %</th></tr>{cells}</table>"


def whole(net: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Class probabilities (1, C, H, W) of one image (1, 3, H, W) in a single forward."""
    return net(image).float().softmax(1)


def sliding(
    net: Callable[[Tensor], Tensor],
    image: Tensor,
    window: int,
    stride: float = 2 / 3,
    border: str = "cut",
    combine: str = "probabilities",
) -> Tensor:
    """Scores (1, C, H, W) summed over overlapping windows.

    Args:
        net: image -> logits of the same size.
        image: (1, 3, H, W) in [0, 1].
        window: side of the square window in pixels.
        stride: step as a share of the window. "cut" rounds it down, "shift" rounds it up.
        border: "cut": windows start at every multiple of the step inside the image, the last ones
                are smaller (UniMatch).
            "shift": the last window is moved back to fit; smaller images are padded with black,
                centred (CPS, UniMatch V2).
        combine: sum softmax "probabilities", or "logits" (CPS).
    """
    height, width = image.shape[-2:]
    image, (top, left) = _pad(image, window) if border == "shift" else (image, (0, 0))
    step = max(1, int(window * stride + 1e-9)) if border == "cut" else max(1, -int(-window * stride // 1))
    total = None
    for y in _starts(image.shape[-2], window, step, border):
        for x in _starts(image.shape[-1], window, step, border):
            logits = net(image[..., y : y + window, x : x + window]).float()
            score = logits.softmax(1) if combine == "probabilities" else logits
            if total is None:
                total = score.new_zeros(1, score.shape[1], *image.shape[-2:])
            total[..., y : y + window, x : x + window] += score
    return total[..., top : top + height, left : left + width]


def _starts(side: int, window: int, step: int, border: str) -> list[int]:
    if border == "cut":
        return list(range(0, side, step))
    return [*range(0, max(0, side - window), step), max(0, side - window)]


def _pad(image: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    missing = [max(0, window - side) for side in image.shape[-2:]]
    top, left = (m // 2 for m in missing)
    return F.pad(image, (left, missing[1] - left, top, missing[0] - top)), (top, left)


def predict(net: nn.Module, image: Tensor, how: Evaluation) -> Tensor:
    """Scores (1, C, H, W) of one image (1, 3, H, W) in [0, 1] by a task's protocol."""
    if how.mode == "sliding":
        return sliding(net, image, how.window, how.stride)
    return whole(net, image)


def count(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """(C, C) confusion counts of (H, W) class maps on their device; void pixels of the label are left out."""
    known = label != VOID
    index = torch.where(known, label * classes + prediction, classes * classes)
    counts = torch.zeros(classes * classes + 1, dtype=torch.long, device=index.device)
    counts.scatter_add_(0, index.flatten(), torch.ones_like(index.flatten()))
    return counts[:-1].view(classes, classes)


def to_image(sample: Sample, device: torch.device) -> Tensor:
    """A sample as a (1, 3, H, W) float image in [0, 1] on the device."""
    image = sample.image.to(device, non_blocking=True)[None].float().div_(255)
    return image.contiguous(memory_format=torch.channels_last)


def evaluate(
    net: nn.Module,
    task: Task,
    how: Evaluation | None = None,
    device: torch.device | str | None = None,
    precision: str = "float32",
) -> Scores:
    """Score a network on `task.val`, image by image.

    Args:
        net: image (B, 3, H, W) in [0, 1] -> logits of the same size.
        how: the protocol; default the task's own.
        device: default: where the network is.
        precision: "float32", "bf16" or "fp16" for the forwards.
    """
    how = how or task.evaluation
    device = pick_device(device) if device is not None else next(net.parameters(), torch.empty(0)).device
    confusion = torch.zeros(task.num_classes, task.num_classes, dtype=torch.long, device=device)
    with evaluating(net):
        for row in range(len(task.val)):
            sample = task.val.read(row)
            image = to_image(sample, device)
            with autocast(device, precision):
                scores = predict(net, image, how)
            label = sample.label.to(device, non_blocking=True).long()
            confusion += count(scores.argmax(1)[0], label, task.num_classes)
    return Scores(confusion.cpu(), task.classes)
