"""Scoring by a protocol, on the device: a few images, their scores and one confusion matrix in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.task import VOID, Evaluation, Sample, Task
from ..errors import S4Error
from ..nets import evaluating
from . import ahead, distributed
from .device import autocast, pick_device

IMAGENET = (0.485, 0.456, 0.406)


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


def predict(net: Callable[[Tensor], Tensor], image: Tensor, how: Evaluation, at_once: int = 1) -> Tensor:
    """Scores (B, C, H, W), their argmax the prediction, of images (B, 3, H, W) in [0, 1] by a protocol.

    Args:
        net: image -> logits of the same size; its `finish`, if it has one, see `Method.predictors`, is the last step.
        at_once: windows of one size that the network sees in a forward.
    """
    size, total = image.shape[-2:], None
    for scale in how.scales:
        sides = [_side(side, scale * (how.short / min(size) if how.short else 1), how) for side in size]
        scores = scored(net, _resize(image, sides, how), how, at_once)
        scores = _resize(scores, size, how)
        total = scores if total is None else total.add_(scores)
    finish = getattr(net, "finish", None)
    return total if finish is None else finish(image, total)


def _side(side: int, scale: float, how: Evaluation) -> int:
    """A side of the image that the network sees; halves are rounded as the official codes do."""
    if how.mode in ("resize", "enlarge"):
        times = scale * side / how.multiple
        return max(1, math.ceil(times) if how.mode == "enlarge" else int(times + 0.5)) * how.multiple
    return max(1, int(scale * side) if how.floor else round(scale * side))


def _resize(maps: Tensor, size: Sequence[int], how: Evaluation) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=how.corners)


def scored(net: Callable[[Tensor], Tensor], image: Tensor, how: Evaluation, at_once: int = 1) -> Tensor:
    """Scores (B, C, H, W) of images at the size that they have, whole or through a sliding window."""
    if how.mode != "sliding":
        return forward(net, image, how)
    options = {name: getattr(how, name) for name in ("border", "combine", "flip", "overlap", "pad")}
    return sliding(net, image, how.window, how.stride, at_once=at_once, **options)


def forward(net: Callable[[Tensor], Tensor], image: Tensor, how: Evaluation) -> Tensor:
    """Scores (B, C, H, W) of one forward, or of two with the mirrored image: float32, whatever the autocast."""
    scores = net(image).float()
    scores = scores.softmax(1) if how.combine == "probabilities" else scores
    if how.flip:
        mirrored = net(image.flip(-1)).float()
        mirrored = mirrored.softmax(1) if how.combine == "probabilities" else mirrored
        scores = scores + mirrored.flip(-1)
    return scores


def whole(net: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Class probabilities (1, C, H, W) of one image (1, 3, H, W) in a single forward, `finish` behind it."""
    return predict(net, image, Evaluation())


def sliding(
    net: Callable[[Tensor], Tensor],
    image: Tensor,
    window: int,
    stride: float = 2 / 3,
    border: str = "cut",
    at_once: int = 1,
    **other: Any,
) -> Tensor:
    """Scores (B, C, H, W) of images through overlapping windows.

    Args:
        net: image -> logits of the same size.
        image: (B, 3, H, W) in [0, 1].
        at_once: windows of one size in a forward.
        window, stride, border, other: see `Evaluation`. "cut" is UniMatch's way, "shift" that of CPS, U2PL, AEL and
            UniMatch V2.

    Raises:
        S4Error: the window has no side.
    """
    how = Evaluation("sliding", window, stride, border, **other)
    if window < 1:
        raise S4Error("A sliding window needs a side in pixels: Evaluation('sliding', window=801).")
    height, width = image.shape[-2:]
    image, (top, left) = _padded(image, net, how) if border == "shift" else (image, (0, 0))
    step = max(1, int(window * stride + 1e-9)) if border == "cut" else max(1, -int(-window * stride // 1))
    total, times = None, image.new_zeros(image.shape[-2:])
    starts = [_starts(side, window, step, border) for side in image.shape[-2:]]
    for places in _alike([(y, x) for y in starts[0] for x in starts[1]], image.shape[-2:], window, at_once):
        parts = [image[place] for place in places]
        for place, scores in zip(places, forward(net, torch.cat(parts), how).split(len(image))):
            if total is None:
                total = scores.new_zeros(len(image), scores.shape[1], *image.shape[-2:])
            total[place] += scores
            times[place] += 1
    total = total.div_(times) if how.overlap == "mean" else total
    return total[..., top : top + height, left : left + width]


def _alike(corners: Sequence[tuple[int, int]], size: Sequence[int], window: int, at_once: int) -> list[list[tuple]]:
    """Windows of one size together, up to `at_once`; where it is 1 they keep their order."""
    groups: dict[tuple[int, int], list[list[tuple]]] = {}
    found = []
    for y, x in corners:
        shape = min(window, size[0] - y), min(window, size[1] - x)
        if shape not in groups or len(groups[shape][-1]) == at_once:
            groups.setdefault(shape, []).append([])
            found.append(groups[shape][-1])
        groups[shape][-1].append((..., slice(y, y + window), slice(x, x + window)))
    return found


def _starts(side: int, window: int, step: int, border: str) -> list[int]:
    if border == "cut":
        return list(range(0, side, step))
    return [*range(0, max(0, side - window), step), max(0, side - window)]


def _padded(image: Tensor, net: Any, how: Evaluation) -> tuple[Tensor, tuple[int, int]]:
    """The image in the middle of a canvas of at least one window, and where its corner lies there."""
    size = image.shape[-2:]
    missing = [max(0, how.window - side) for side in size]
    top, left = (m // 2 for m in missing)
    if not any(missing):
        return image, (0, 0)
    canvas = image.new_zeros(*image.shape[:2], *(side + m for side, m in zip(size, missing)))
    if how.pad == "mean" or (how.pad == "fitting" and max(size) <= how.window):
        canvas += mean_colour(net, image)
    canvas[..., top : top + size[0], left : left + size[1]] = image
    return canvas, (top, left)


def mean_colour(net: Any, image: Tensor) -> Tensor:
    """(1, 3, 1, 1): the colour that the network's normalisation turns into 0; ImageNet's mean where it has none."""
    for module in net.modules() if isinstance(net, nn.Module) else ():
        if isinstance(getattr(module, "mean", None), Tensor):
            return module.mean.to(image)
    return image.new_tensor(IMAGENET).view(1, 3, 1, 1)


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


def evaluate(
    net: nn.Module,
    task: Task,
    how: Evaluation | None = None,
    device: torch.device | str | None = None,
    precision: str = "float32",
) -> Scores:
    """Score a network on `task.val`.

    On a GPU images are decoded ahead, and images and windows of one size seen together as far as the memory allows;
    the batch norms do not look at the batch here, so the scores are those of one at a time up to rounding. Several
    processes share the images out, each image to one of them, and all get the sum; so all of them must call.

    Args:
        net: image (B, 3, H, W) in [0, 1] -> logits of the same size.
        how: the protocol; default the task's own.
        device: default: where the network is.
        precision: "float32", "bf16" or "fp16" for the forwards.
    """
    how = how or task.evaluation
    device = pick_device(device) if device is not None else next(net.parameters(), torch.empty(0)).device
    confusion = torch.zeros(task.num_classes, task.num_classes, dtype=torch.long, device=device)
    rows, most = range(distributed.rank(), len(task.val), distributed.world()), ahead.at_once(device)
    with evaluating(net):
        for group in ahead.alike(ahead.samples(task.val, rows, device), 1 if how.mode == "sliding" else most):
            counts, most = _counted(net, group, how, device, precision, task.num_classes, most)
            confusion += counts
    return Scores(distributed.summed(confusion).cpu(), task.classes)


def _counted(
    net: nn.Module,
    group: Sequence[Sample],
    how: Evaluation,
    device: torch.device,
    precision: str,
    classes: int,
    at_once: int,
) -> tuple[Tensor, int]:
    """(C, C) counts of images of one size, and how many images or windows fitted into a forward."""
    counts = torch.zeros(classes, classes, dtype=torch.long, device=device)
    images = 1 if how.mode == "sliding" else at_once
    try:
        for first in range(0, len(group), images):
            part = group[first : first + images]
            with autocast(device, precision):
                scores = predict(net, torch.cat([to_image(sample, device) for sample in part]), how, at_once)
            for prediction, sample in zip(scores.argmax(1), part):
                counts += count(prediction, _upload(sample.label, device).long(), classes)
        return counts, at_once
    except torch.OutOfMemoryError:
        if at_once == 1:
            raise
    torch.cuda.empty_cache()  # behind the `except`: the error holds what was computed
    return _counted(net, group, how, device, precision, classes, at_once // 2)
