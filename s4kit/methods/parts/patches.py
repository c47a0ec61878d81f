"""Patches of an image, one around every fourth pixel: which classes are in them, and which of these to doubt (MPMC)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32

SIDE, STEP = 39, 4  # pixels of a patch along an axis, and from one to the next; the first is centred on pixel 0


def onehot(label: Tensor, classes: int) -> Tensor:
    """(B, H, W) long to (B, C, H, W) float; 255 belongs to no class."""
    return (label[:, None] == torch.arange(classes, device=label.device).view(1, -1, 1, 1)).float()


def present(label: Tensor, classes: int) -> Tensor:
    """(B, C, h, w): 1 where the patch has a pixel of the class; labels (B, H, W) with 255, h = ceil(H / 4)."""
    return _largest(onehot(label, classes), STEP)


def occupancy(label: Tensor, classes: int, side: int = SIDE) -> Tensor:
    """(B, C, h, w) share of the patch's pixels inside the image that are of the class."""
    h, w = (-(-n // STEP) for n in label.shape[-2:])
    options = {"count_include_pad": False}
    shares = F.avg_pool2d(onehot(label, classes), (side, 1), (STEP, 1), (SIDE // 2, 0), **options)
    return F.avg_pool2d(shares, (1, side), (1, STEP), (0, SIDE // 2), **options)[..., :h, :w]


@float32
def patch_bce(logits: Tensor, multi: Tensor, share: Tensor) -> Tensor:
    """Binary cross entropy of (B, C, h, w) logits with 0 and 1, each weighted by the softmax over the classes of the
    class's share of its patch; patches without any class, of void alone, do not count."""
    weight = share.softmax(1) * multi.amax(1, keepdim=True)
    total = (weight * F.binary_cross_entropy_with_logits(logits, multi, reduction="none")).sum()
    return total / weight.sum().clamp(min=1e-6)


@float32
def doubtful(logits: Tensor, multi: Tensor, share: float | Tensor) -> Tensor:
    """(P, C) bool: of the patches said to hold a class, those whose classifier disagrees most.

    Of n such patches they are the ceil(n share) - 1 with the largest cross entropies, so with a small share none.

    Args:
        logits, multi: (P, C). share: of all classes, or (C,).
    """
    said = multi > 0
    loss = F.binary_cross_entropy_with_logits(logits, multi, reduction="none").masked_fill(~said, -torch.inf)
    k = (said.sum(0) * share).ceil().long().clamp(1, len(loss))
    least = loss.sort(0, descending=True).values.gather(0, k[None] - 1)
    return said & (loss > least)


def inside(chosen: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) bool: pixels that lie in one of the patches chosen, (B, C, h, w) bool."""
    centres = torch.zeros(*chosen.shape[:2], *size, device=chosen.device)
    centres[..., ::STEP, ::STEP] = chosen.float()
    return _largest(centres, 1) > 0


def _largest(map: Tensor, step: int) -> Tensor:
    """The largest value in every patch: the pooling of a square is two of lines."""
    lines = F.max_pool2d(map, (SIDE, 1), (step, 1), (SIDE // 2, 0))
    return F.max_pool2d(lines, (1, SIDE), (1, step), (0, SIDE // 2))
