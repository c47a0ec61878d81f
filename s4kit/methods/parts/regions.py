"""Regions: masks with classes, how far two sets of them are apart, and which belongs to which (MaskFormer, RC2L).

B images, N predicted masks, T target masks, P pixels. Targets are binary; which of them are there at all is a mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32

FOCAL = 20.0  # MaskFormer's weight of the focal loss, beside 1 of the dice loss


@float32
def dice(a: Tensor, b: Tensor) -> Tensor:
    """(B, N, T) dice coefficients 2 sum ab / (sum a + sum b) of masks in [0, 1], (B, N, P) and (B, T, P)."""
    both = 2 * a @ b.mT
    return both / (a.sum(2)[:, :, None] + b.sum(2)[:, None]).clamp(min=1e-6)


def focal_map(logits: Tensor, positive: bool) -> Tensor:
    """Sigmoid focal loss of each pixel (alpha 0.25, gamma 2) if it belongs to the mask, or if it does not."""
    sign, alpha = (1, 0.25) if positive else (-1, 0.75)
    return alpha * (-sign * logits).sigmoid().square() * F.softplus(-sign * logits)


@float32
@torch.no_grad()
def costs(classes: Tensor, masks: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
    """(B, T, N) cost of a prediction for a target: -probability of its class, 20 focal, 1 - dice.

    Args:
        classes: (B, N, K + 1), masks: (B, N, P), logits. wanted: (B, T) long classes. targets: (B, T, P).
    """
    p = classes.softmax(2).gather(2, wanted[:, None].expand(-1, classes.shape[1], -1))  # (B, N, T)
    pixels = masks.shape[2]
    focal = (focal_map(masks, True) @ targets.mT + focal_map(masks, False) @ (1 - targets).mT) / pixels
    return (-p + FOCAL * focal + 1 - smooth_dice(masks.sigmoid(), targets)).mT


def smooth_dice(a: Tensor, b: Tensor) -> Tensor:
    """(B, N, T): `dice` with one pixel more in numerator and denominator."""
    return (2 * a @ b.mT + 1) / (a.sum(2)[:, :, None] + b.sum(2)[:, None] + 1)


@torch.no_grad()
def match(cost: Tensor, there: Tensor) -> Tensor:
    """(B, T) long, a prediction of its own for each target: the cheapest pair of all first, then the cheapest of those
    that are left.

    Not the assignment of the least sum (Hungarian), which would have to ask the device; what it gives for a target that
    is not there is left over by the others.

    Args:
        cost: (B, T, N), T <= N. there: (B, T) bool.
    """
    batch, targets, number = cost.shape
    left = cost.float().masked_fill(~there[:, :, None], 1e6).flatten(1)
    found, image = (
        torch.zeros(batch, targets, dtype=torch.long, device=cost.device),
        torch.arange(batch, device=cost.device),
    )
    rows, columns = (torch.arange(n, device=cost.device) for n in (targets, number))
    for _ in range(targets):
        best = left.argmin(1)
        t, n = best // number, best % number
        found = found.index_put((image, t), n)
        taken = (rows == t[:, None])[:, :, None] | (columns == n[:, None])[:, None]
        left = left.masked_fill(taken.flatten(1), torch.inf)
    return found


@float32
def class_loss(classes: Tensor, wanted: Tensor, matched: Tensor, there: Tensor, counts: Tensor) -> Tensor:
    """Cross entropy of every query with its target's class, or with "no object", which weighs a tenth.

    Args:
        classes: (B, N, K + 1). wanted, matched: (B, T). there: (B, T) bool. counts: (B,) bool, images that count.
    """
    batch, number, k = classes.shape
    label = torch.full((batch, number + 1), k - 1, device=classes.device)
    label = label.scatter(1, matched.where(there, number), wanted)[:, :number]
    weight = torch.where(label == k - 1, 0.1, 1.0) * counts[:, None]
    each = F.cross_entropy(classes.mT, label, reduction="none")
    return (weight * each).sum() / weight.sum().clamp(min=1e-6)


@float32
def mask_loss(masks: Tensor, targets: Tensor, there: Tensor) -> Tensor:
    """Mean over the targets that are there of 20 focal + 1 - dice; masks (B, T, P) are logits of the matched ones."""
    focal = torch.where(targets > 0, focal_map(masks, True), focal_map(masks, False)).mean(2)
    p = masks.sigmoid()
    overlap = (2 * (p * targets).sum(2) + 1) / (p.sum(2) + targets.sum(2) + 1)
    return ((FOCAL * focal + 1 - overlap) * there).sum() / there.sum().clamp(min=1)


@float32
def masked_nce(score: Tensor, negative: Tensor, there: Tensor) -> Tensor:
    """Mean over the rows that are there of -log(e^s+ / (e^s+ + sum of e^s over its negatives)).

    Args:
        score: (..., T, T), row i's own partner is column i. negative: (..., T, T) bool, columns that are
            negatives of a row. there: (..., T) bool.
    """
    own = torch.eye(score.shape[-1], dtype=torch.bool, device=score.device)
    kept = own | (negative & there[..., None, :])
    loss = score.masked_fill(~kept, -torch.inf).logsumexp(-1) - score.diagonal(dim1=-2, dim2=-1)
    return (loss * there).sum() / there.sum().clamp(min=1)
