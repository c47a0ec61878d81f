"""Objects that a detector finds, as pseudo-labels of pixels, so that all that shows pixels shows them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.task import PER_CLASS, VOID
from ...nets.objects import Objects, paint
from ...views import Views
from ..base import PseudoLabels


def painted(found: list[Objects], classes: int) -> Tensor:
    """(B, C, H, W) class probabilities of what was found: an object's class has its score times its mask."""
    return torch.stack([paint(one, classes).probabilities for one in found])


def shown(found: list[Objects], thresholds: Tensor, view: Views) -> PseudoLabels:
    """The objects whose score is above their class's threshold (C,), on background; where only others are, the pixel
    is rejected."""
    classes = len(thresholds)
    every = [paint(one, classes) for one in found]
    kept = [paint(one[one.scores > thresholds[one.labels]], classes) for one in found]
    ids, score, any_score = (
        torch.stack(maps) for maps in zip(*((k.ids, k.score, e.score) for k, e in zip(kept, every)))
    )
    inside = ids > 0
    weight = (inside | (any_score == 0)).float()
    return PseudoLabels(ids // PER_CLASS, torch.where(inside, score, 1 - any_score), weight, view.valid, ids=ids)


def kept_objects(ids: Tensor, view: Views) -> PseudoLabels:
    """Kept objects (B, H, W), all of them trusted, background as well; void is not trained on."""
    known = (ids != VOID).float()
    objects = ids.where(ids >= PER_CLASS, 0)
    return PseudoLabels(objects // PER_CLASS, known, known, view.valid, ids=objects)
