"""Connected regions of a mask and windows inside them, with fixed shapes and without a look from the host."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def components(mask: Tensor, rounds: int = 24) -> Tensor:
    """Which connected region (8 neighbours) a pixel belongs to.

    Every pixel takes the largest number in its neighbourhood and then the number of the pixel that this number stands
    for, so that numbers travel in jumps. Twenty-four rounds join all but very long winding regions, which stay in
    pieces.

    Args:
        mask: (B, H, W) bool.

    Returns:
        (B, H, W) long: 0 outside, else 1 + the place (row * W + column) of a pixel of the region, equal in all of it.
    """
    batch, height, width = mask.shape
    inside = mask.to(torch.float32)  # whole numbers are exact up to 16 million pixels
    place = torch.arange(1, height * width + 1, device=mask.device, dtype=torch.float32).view(1, height, width)
    number = place * inside
    for _ in range(rounds):
        number = F.max_pool2d(number[:, None], 3, 1, 1)[:, 0] * inside
        flat = number.flatten(1)
        padded = F.pad(flat, (1, 0))  # number 0 stands for itself
        number = padded.gather(1, flat.long()).view(batch, height, width)
    return number.long()


class Regions(NamedTuple):
    """One row per possible region number n = 0 .. H * W: `top`, `left`, `bottom`, `right` (B, n) long, the first and
    last row and column, and `edge` (B, n), how many of its pixels touch the outside (4 neighbours); 0 = no region."""

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
    return Regions(top, left, bottom, right, edge)


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
