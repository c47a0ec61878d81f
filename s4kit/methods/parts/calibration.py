"""How far each class's confidence can be trusted, and how well it is learned, counted on held-out labelled pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data.task import VOID
from ...errors import S4Error
from .precision import float32
from .processes import over_processes


def check(thresholds: Sequence[float] | None, class_iou: Sequence[float] | None, classes: int) -> None:
    """Raises S4Error: one of the two is missing, or they do not fit the number of classes."""
    if (thresholds is None) != (class_iou is None):
        raise S4Error("Give both thresholds and class_iou, or neither to have them measured.")
    for name, values in (("thresholds", thresholds), ("class_iou", class_iou)):
        if values is not None and len(values) != classes:
            raise S4Error(f"{name} has {len(values)} values for {classes} classes; give one for each class.")


@float32
@torch.no_grad()
def count(p: Tensor, label: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Counts over all processes.

    Args:
        p: (B, C, H, W) probabilities. label: (B, H, W) long, 255 = not counted. levels: (J,) of confidence.

    Returns:
        (2, C, J) long: right, and all, of the pixels predicted as c with at least this confidence;
        (3, C) long: pixels predicted as c that are c; predicted as c; that are c.
    """
    classes, known = p.shape[1], (label != VOID).flatten()
    confidence, predicted = (t.flatten() for t in p.max(1))
    truth = label.flatten().clamp(max=classes - 1)
    right = known & (truth == predicted)

    def by_class(index: Tensor, which: Tensor) -> Tensor:
        return torch.zeros(classes, dtype=torch.long, device=p.device).scatter_add_(0, index, which.long())

    kept = [[by_class(predicted, which & (confidence >= t)) for t in levels.unbind()] for which in (right, known)]
    regions = [by_class(predicted, right), by_class(predicted, known), by_class(truth, known)]
    return over_processes(torch.stack([torch.stack(k, 1) for k in kept])), over_processes(torch.stack(regions))


def lowest_level(right: Tensor, total: Tensor, levels: Tensor, target: float) -> Tensor:
    """(C,): the smallest level at which right / total (C, J) reaches `target`; the last level where none does."""
    reached = (total > 0) & (right >= target * total)
    first = reached.int().argmax(1)
    return torch.where(reached.any(1), levels[first], levels[-1])


def repeats(iou: Tensor, factor: float, first: int) -> Tensor:
    """(C,) long: ceil(factor (mean - IoU)) where positive, for the classes from `first` on; 0 for an unknown IoU."""
    iou = iou.double()
    iou = torch.where(torch.arange(len(iou), device=iou.device) < first, torch.nan, iou)
    more = (factor * (iou.nanmean() - iou)).nan_to_num(0.0)
    return (more - 1e-6).ceil().clamp(min=0).long()  # equal figures must not be lifted by a rounding error
