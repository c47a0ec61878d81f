"""Connected regions of a mask and windows inside them, with fixed shapes and without a look from the host."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def components(mask: Tensor) -> Tensor:
    """Which connected region (8 neighbours) a pixel belongs to; exact for every mask.

    The pixels of a 2x2 block touch each other, so the blocks start as roots. In a round every root joins another one:
    the largest that it touches, if that is larger than itself, else any that it touches; then all are led to the root
    at the end of their path. A path rises, but for single steps down to a root that rises as high again: so it can only
    circle between two, and the larger one of these stays a root. A root that touches another thus ends in a tree of two
    or more, and of n roots of a region at most n / 2 are left. This bounds the rounds by log2 of the blocks (19 for
    1024x2048), and the jumps along a path, which double in length, by log2 of the roots that can still be there.

    Args:
        mask: (B, H, W) bool, at most 2^24 blocks an image.

    Returns:
        (B, H, W) long: 0 outside, else 1 + the place (row * W + column) of the last pixel of the region.
    """
    height, width = mask.shape[-2:]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    own = torch.arange(rows * columns + 1, device=mask.device).expand(len(mask), -1)  # block b is number b + 1
    root, left = own, rows * columns
    while left > 1:
        number = _spread(root, mask)
        seen = F.max_pool2d(_touched(number, mask), 2, ceil_mode=True).flatten(1)
        at = root[:, 1:].where(seen > 0, own[:, 1:])  # many threads at one address are slow: who sees none stays home
        joins = torch.zeros_like(root).scatter_reduce_(1, at, seen.long(), "amax")
        joins = joins.where(joins > 0, own)
        root_still = (joins.gather(1, joins) == own) & (joins < own)
        path = own.where(root_still, joins)
        for _ in range((left - 2).bit_length()):
            path = path.gather(1, path)
        root, left = path.gather(1, root), left // 2
    number = _spread(root, mask).long().flatten(1)
    place = torch.arange(1, height * width + 1, device=mask.device) * mask.flatten(1)
    return torch.zeros_like(root).scatter_reduce_(1, number, place, "amax").gather(1, number).view(mask.shape)


def _spread(root: Tensor, mask: Tensor) -> Tensor:
    """(B, H, W) the numbers (B, 1 + blocks) at the pixels of their blocks, 0 outside; exact up to 2^24 in float32."""
    height, width = mask.shape[-2:]
    blocks = root[:, 1:].float().view(len(mask), (height + 1) // 2, (width + 1) // 2)
    return blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width].where(mask, 0)


def _touched(number: Tensor, mask: Tensor) -> Tensor:
    """(B, H, W) another number in a pixel's neighbourhood: the largest if it is larger, else the smallest; or 0."""
    largest, smallest = _around(number), -_around(-number.masked_fill(~mask, torch.inf))
    other = largest.where(largest > number, smallest.where(smallest < number, 0))
    return other.where(mask, 0)


def _around(number: Tensor) -> Tensor:
    """The largest in the 3x3 neighbourhood; five times as fast on a CPU as `max_pool2d`."""
    n = F.pad(number, (1, 1, 1, 1), value=-torch.inf)
    n = torch.maximum(torch.maximum(n[:, :-2], n[:, 1:-1]), n[:, 2:])
    return torch.maximum(torch.maximum(n[..., :-2], n[..., 1:-1]), n[..., 2:])


class Regions(NamedTuple):
    """One row per possible region number n = 0 .. H * W: `top`, `left`, `bottom`, `right` (B, n) long, the first and
    last row and column, and `edge` (B, n), how many of its pixels touch the outside (4 neighbours); 0 = no region.
    `number` (B, H * W) says which region a pixel belongs to, see `components`."""

    number: Tensor
    top: Tensor
    left: Tensor
    bottom: Tensor
    right: Tensor
    edge: Tensor


def regions(mask: Tensor) -> Regions:
    """Extents of the connected regions of a (B, H, W) bool mask."""
    batch, height, width = mask.shape
    number = components(mask).flatten(1)
    row, column = (
        line.expand(height, width).flatten().expand(batch, -1)
        for line in (torch.arange(height, device=mask.device)[:, None], torch.arange(width, device=mask.device))
    )
    none = number.new_zeros(batch, height * width + 1)
    top, left = (none.scatter_reduce(1, number, t, "amin", include_self=False) for t in (row, column))
    bottom, right = (none.scatter_reduce(1, number, t, "amax", include_self=False) for t in (row, column))
    outside = F.pad(~mask, (1, 1, 1, 1), value=True)
    touches = outside[:, 2:, 1:-1] | outside[:, :-2, 1:-1] | outside[:, 1:-1, 2:] | outside[:, 1:-1, :-2]
    edge = none.scatter_add(1, number, (touches & mask).flatten(1).long())
    return Regions(number, top, left, bottom, right, edge)


def windows(mask: Tensor, uniform: Tensor, share: float, min_edge: float) -> Tensor:
    """One window inside the bounding box of every large enough region of a mask (guided cut-out of CCT).

    Args:
        mask: (B, H, W) bool.
        uniform: (B, H * W + 1, 2) draws in [0, 1) by region number: the place of the window along row and column.
        share: sides of the window as a share of the box's.
        min_edge: regions with no more edge pixels than this get none.

    Returns:
        (B, H, W) bool, True inside a window.
    """
    height, width = mask.shape[-2:]
    found = regions(mask)
    large = (found.edge > min_edge).long()

    def span(first: Tensor, last: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        extent = last - first
        start = first + (u * ((extent * (1 - share)).long() + 1)).long()
        return start, start + (extent * share).long()

    top, bottom = span(found.top, found.bottom, uniform[..., 0])
    left, right = span(found.left, found.right, uniform[..., 1])
    corners = large.new_zeros(len(mask), (height + 1) * (width + 1))  # +1 and -1 at the corners: sums fill the window
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        corners = corners.scatter_add(1, y * (width + 1) + x, sign * large)
    return corners.view(-1, height + 1, width + 1).cumsum(1).cumsum(2)[:, :height, :width] > 0
