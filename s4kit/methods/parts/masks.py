"""Mixing masks that a prediction decides: True = keep the image's own pixels, False = take the partner's.

The draws are arguments (uniforms), so that recorded ones can be fed in; `draw_*` makes them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def class_mask(label: Tensor, uniform: Tensor) -> Tensor:
    """Pixels of half of the classes of each image (ClassMix, arXiv 2007.07936): of n classes floor(n / 2).

    Args:
        label: (B, H, W) long; labels of C and more (void) belong to no class.
        uniform: (B, C) draws in [0, 1); the classes with the smallest are chosen.

    Returns:
        (B, H, W) bool.
    """
    batch, classes = uniform.shape
    index = label.flatten(1).clamp(max=classes)
    present = torch.zeros(batch, classes + 1, dtype=torch.bool, device=label.device).scatter_(1, index, True)
    present = present[:, :classes]
    place = torch.where(present, uniform, 2.0).argsort(1).argsort(1)
    chosen = present & (place < present.sum(1, keepdim=True) // 2)
    none = torch.zeros_like(chosen[:, :1])
    return torch.cat([chosen, none], 1).gather(1, index).view_as(label)


def draw_class_mask(label: Tensor, classes: int) -> Tensor:
    """`class_mask` with fresh draws."""
    return class_mask(label, torch.rand(len(label), classes, device=label.device))
