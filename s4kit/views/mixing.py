"""Pasting: one function for images, labels, logits, confidences and whole pseudo-labels."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def paste(mask: Tensor, inside: T, outside: T) -> T:
    """`inside` where the mask is True, `outside` elsewhere.

    Args:
        mask: (B, H, W) bool.
        inside, outside: two tensors (B, H, W) or (B, C, H, W), or two objects with a `zip_with(fn, other)` that
            applies a function to all their maps (PseudoLabels), so that label, confidence, weight and validity move
            together.
    """
    if not isinstance(inside, Tensor):
        return inside.zip_with(lambda a, b: paste(mask, a, b), outside)
    return torch.where(mask if inside.dim() == mask.dim() else mask.unsqueeze(1), inside, outside)
