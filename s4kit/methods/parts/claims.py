"""Classes that claim pixels by soft masks, and masks that say which classes an image has (SLRNet)."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import float32


@float32
def chosen(m: Tensor, factors: Tensor, low: float) -> Tensor:
    """(B, K, H, W) bool: a class is where its probability m is above its share (`factors`, (K,)) of its largest one in
    the image, and above `low`; nothing is where two classes are."""
    g = m > (m.amax((2, 3), keepdim=True) * factors[:, None, None]).clamp(min=low)
    return g & (g.sum(1, keepdim=True) == 1)


@float32
def balance(g: Tensor) -> Tensor:
    """(B, H, W) weight of each pixel with a class, (B, K, H, W) bool: the share of the image's others, so that classes
    count alike; 0 for pixels without."""
    g = g.float()
    number = g.sum((2, 3))
    total = number.sum(1, keepdim=True)
    return torch.einsum("bkhw,bk->bhw", g, (total - number) / (1 + total))


@float32
def image_scores(z: Tensor, m: Tensor) -> Tensor:
    """(B, K): how surely a class is in the image: its logits averaged where its mask m is, and a penalty on a small
    mask. Both (B, K, h, w)."""
    z, m = z.flatten(2), m.flatten(2)
    size = m.mean(2)
    return (z * m).sum(2) / (1 + m.sum(2)) + (1 - size) ** 3 * (0.01 + size).log()


def strongest(coding: Tensor) -> Tensor:
    """A coding (B, K, h, w) with all but the largest entry of each pixel at 0."""
    return coding.where(coding == coding.amax(1, keepdim=True), 0.0)
