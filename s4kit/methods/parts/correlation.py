"""Similarities between positions, and what spreads along them: logits (pixels) and labels (regions).

Positions of a feature map are counted row by row, N = h * w.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...nets.segnet import resize
from ..base import PseudoLabels
from .precision import float32


@float32
def similarity(left: Tensor, right: Tensor) -> Tensor:
    """(B, N, N) from two maps (B, K, h, w): entry (i, j) is the softmax over j of left_i . right_j / sqrt(K)."""
    products = left.flatten(2).transpose(1, 2) @ right.flatten(2)
    return (products / left.shape[1] ** 0.5).softmax(2)


@float32
def propagate(logits: Tensor, similar: Tensor) -> Tensor:
    """(B, K, h, w) logits to o_j = sum_i z_i P(i, j), weighted by the columns of (B, N, N) similarities."""
    return (logits.flatten(2) @ similar).view_as(logits)


@float32
def shapes(
    similar: Tensor, places: Tensor, grid: tuple[int, int], size: tuple[int, int], align_corners: bool
) -> Tensor:
    """(B, M, H, W) bool: which pixels are like the position `places` (M,) says; classes play no part in it.

    The rows of (B, N, N) similarities on the `grid` (h, w), enlarged to `size`, stretched to 0..1 each, above 0.5.
    """
    rows = similar.index_select(1, places).unflatten(2, grid)
    large = resize(rows, size, align_corners)
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    return (large - low) / (high - low).clamp(min=torch.finfo(large.dtype).tiny) > 0.5


@float32
def spread(target: PseudoLabels, regions: Tensor, where: Tensor, tau: Tensor | float, classes: int) -> PseudoLabels:
    """Give whole regions the label that their trusted pixels agree on, one region after the other.

    A region R is a shape within `where`; its trusted pixels R+ are the ones that `target` accepts. If |R+| / |R| >= tau
    and one label holds more than the share tau of R+, all of R gets that label and is accepted. A later region sees
    the labels that earlier ones wrote, but trusts the pixels of the start only.

    Args:
        target: labels (B, H, W), accepted where weight > 0 on valid pixels.
        regions: (B, M, H, W) bool. where: (B, H, W) bool, pixels that may change.
        tau: the share. classes: number of classes K.

    Returns:
        New pseudo-labels; only label and weight differ, the weight never falls.
    """
    label, weight = target.label, target.weight
    trusted = (weight > 0) & (target.valid > 0)
    for shape in regions.unbind(1):
        region = shape & where
        sure = (region & trusted).flatten(1).to(weight.dtype)
        votes = sure.new_zeros(len(sure), classes).scatter_add(1, label.flatten(1), sure)
        (most, winner), many = votes.max(1), sure.sum(1)
        area = region.flatten(1).sum(1)
        agreed = (many > 0) & (many >= tau * area) & (most > tau * many)
        change = region & agreed[:, None, None]
        label = torch.where(change, winner[:, None, None], label)
        weight = torch.where(change, weight.clamp(min=1), weight)
    return replace(target, label=label, weight=weight)


def places(amount: int, positions: int, device: torch.device, at_random: bool) -> Tensor:
    """(amount,) positions, drawn with repetition; evenly spread where chance has no place (labels to look at)."""
    if at_random:
        return torch.randint(positions, (amount,), device=device)
    return torch.linspace(0, positions - 1, amount, device=device).long()
