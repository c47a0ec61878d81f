"""Class maps that follow the edges of an image: each pixel takes over what its likest neighbours are (PAMR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nets.segnet import resize
from .precision import float32

AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def neighbours(map: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The map (B, C, H, W) shifted by each of the eight directions and each dilation; the border is repeated."""
    height, width = map.shape[-2:]
    for d in dilations:
        padded = F.pad(map, (d,) * 4, mode="replicate")
        for dy, dx in AROUND:
            yield padded[..., d + d * dy : d + d * dy + height, d + d * dx : d + d * dx + width]


@torch.no_grad()
@float32
def affinity(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """(B, n, H, W): how much a pixel trusts each of its n = 8 len(dilations) neighbours; sums to 1 over them.

    A softmax of the mean over channels of -|difference| / (0.1 deviation), the deviation over the neighbours and, once
    for each dilation, the pixel itself.
    """
    near = torch.stack(list(neighbours(image, dilations)), 2)
    own = image[:, :, None]
    deviation = torch.cat([near, own.expand(-1, -1, len(dilations), -1, -1)], 2).std(2, keepdim=True)
    return (-(own - near).abs() / (1e-8 + 0.1 * deviation)).mean(1).softmax(1)


@torch.no_grad()
@float32
def refined(
    image: Tensor, mask: Tensor, iterations: int = 10, dilations: Sequence[int] = (1, 2, 4, 8, 12, 24)
) -> Tensor:
    """A mask (B, K, h, w), brought to the size of an image (B, 3, H, W) and then, `iterations` times, replaced by what
    the neighbours say (Araslanov and Roth, CVPR 2020, arXiv 2005.08104). Its sum over K stays."""
    mask = resize(mask, image.shape[-2:], align_corners=True)
    trust = affinity(image, dilations)
    for _ in range(iterations):
        mask = sum(trust[:, i, None] * near for i, near in enumerate(neighbours(mask, dilations)))
    return mask
