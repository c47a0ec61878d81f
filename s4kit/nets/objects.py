"""What a detector finds in an image, and the maps that it can be painted into."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..data.task import PER_CLASS

INSIDE = 0.5  # probability from which a pixel is of the mask


class Objects(NamedTuple):
    """The objects of one image, by falling score.

    Attributes:
        boxes: (n, 4) left, top, right, bottom in pixels.
        labels: (n,) long classes, from 1 on. scores: (n,) in [0, 1].
        masks: (n, H, W) in [0, 1], the probability that a pixel is of the object.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor

    def __getitem__(self, rows: Tensor) -> Objects:
        """Those of the objects that `rows` chooses."""
        return Objects(*(values[rows] for values in (self.boxes, self.labels, self.scores, self.masks)))


class Painted(NamedTuple):
    """Objects as maps of an image: of several that cover a pixel the one with the highest score has it.

    Attributes:
        probabilities: (C, H, W): its class has score * mask probability, the background the rest.
        ids: (H, W) long, 1000 * class + number, the surest object is number 1; 0 = none.
        score: (H, W) of the object, 0 where there is none.
    """

    probabilities: Tensor
    ids: Tensor
    score: Tensor


def paint(found: Objects, classes: int, inside: float = INSIDE) -> Painted:
    """The maps of what was found.

    Args:
        classes: C, the background among them. inside: mask probability from which a pixel is of the object.
    """
    size, number = found.masks.shape[-2:], len(found.scores)
    none = found.masks.new_zeros(size)
    if not number:
        return Painted(torch.cat([none[None] + 1, none.expand(classes - 1, *size)]), none.long(), none)
    at = found.masks > inside
    covered, top = at.any(0), at.int().argmax(0)  # the first that covers a pixel is the surest
    label, score = found.labels[top] * covered, found.scores[top] * covered
    own = found.masks.gather(0, top[None]) * score
    p = none.expand(classes, *size).scatter(0, label[None], own)
    p[0] = 1 - p[1:].sum(0)
    return Painted(p, (PER_CLASS * label + top + 1) * covered, score)
