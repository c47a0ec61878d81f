"""How far an image's labels can be trusted as a whole: by how stable they were while their network learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def class_iou(one: Tensor, other: Tensor, classes: int) -> Tensor:
    """(B, C) float32 intersection over union of two label maps (B, H, W), class by class; NaN where neither has it."""
    names = torch.arange(classes, device=one.device)
    a, b = (labels.flatten(1)[:, None] == names[:, None] for labels in (one, other))
    both, any_ = (a & b).sum(2).float(), (a | b).sum(2).float()
    return torch.where(any_ > 0, both / any_.clamp(min=1), torch.nan)


def stability(earlier: Sequence[Tensor], last: Tensor, classes: int) -> Tensor:
    """(B,) in [0, 1]: the mean over earlier label maps (B, H, W) of their mean IoU with the last ones (ST++)."""
    return torch.stack([class_iou(labels, last, classes).nanmean(1) for labels in earlier]).mean(0)
