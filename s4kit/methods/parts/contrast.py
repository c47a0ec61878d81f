"""Pixel contrast: anchors of a class against its centre and against negatives that are kept in queues.

All shapes are fixed. Pixels are chosen by their rank within a mask (`nth`), not by boolean indexing, and every draw is
an argument, so that recorded draws can be fed in. K classes, N pixels, D features, Q anchors, M negatives per anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .precision import float32


class Draws(NamedTuple):
    """What a step draws, with replacement: `anchors` (K, Q) are ranks among the anchor candidates of each class,
    `negatives` (K, Q * M) are rows of each class's queue."""

    anchors: Tensor
    negatives: Tensor


def rows(map: Tensor) -> Tensor:
    """(B, D, h, w) to (B * h * w, D)."""
    return rearrange(map, "b d h w -> (b h w) d")


def shrink(map: Tensor, size: Sequence[int]) -> Tensor:
    """(B, H, W) labels or masks to (B, h, w) by nearest neighbour; the type is kept."""
    return F.interpolate(map[:, None].float(), tuple(size), mode="nearest")[:, 0].to(map.dtype)


def members(label: Tensor, classes: int) -> Tensor:
    """(N,) long labels to (K, N) bool, who belongs to which class; 255 to none."""
    return label == torch.arange(classes, device=label.device)[:, None]


def ranks(probability: Tensor) -> Tensor:
    """(N, K) probabilities to (K, N): the place of each class in each pixel's order, 0 = likeliest."""
    order = probability.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).T


def nth(mask: Tensor, rank: Tensor) -> Tensor:
    """(K, n) indices of the rank-th True of each row of a (K, N) mask; any index where there is none."""
    order = mask.cumsum(1)
    return torch.searchsorted(order, rank + 1).clamp(max=mask.shape[1] - 1)


def draw(count: Tensor, size: int) -> Tensor:
    """(K,) counts to (K, size) uniform draws from 0 .. count - 1, with replacement; 0 where the count is 0."""
    uniform = torch.rand(len(count), size, device=count.device)
    return torch.minimum((uniform * count[:, None]).long(), (count[:, None] - 1).clamp(min=0))


@float32
def centres(features: Tensor, mask: Tensor) -> Tensor:
    """(K, D) means of (N, D) features over the rows of a (K, N) mask; 0 for an empty row."""
    return mask.to(features.dtype) @ features / mask.sum(1, keepdim=True).clamp(min=1)


@float32
def info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """Mean over the anchors of -log(e^(s+/t) / (e^(s+/t) + sum of e^(s-/t))), s = cosine similarity.

    Args:
        anchor: (Q, D). positive: (D,) or (Q, D). negative: (Q, M, D).
    """
    unit = F.normalize(anchor, dim=-1, eps=1e-8)
    to_positive = (unit * F.normalize(positive, dim=-1, eps=1e-8)).sum(-1, keepdim=True)
    length = torch.linalg.vector_norm(negative, dim=-1).clamp(min=1e-8)  # dividing the products spares a unit copy
    to_negative = torch.einsum("qmd,qd->qm", negative, unit) / length
    logits = torch.cat([to_positive, to_negative], 1) / temperature
    return -logits.log_softmax(1)[:, 0].mean()


@float32
def class_contrast(
    features: Tensor,
    candidates: Tensor,
    centre: Tensor,
    queues: Any,
    present: Tensor,
    queries: int,
    negatives: int,
    temperature: float,
    draws: Draws | None = None,
) -> Tensor:
    """Sum over classes of `info_nce`, divided by the number of classes present.

    A class without candidates or with an empty queue adds nothing but counts in the divisor; with fewer than two
    classes present the term is 0 (with a gradient of 0).

    Args:
        features: (N, D) of the student. candidates: (K, N) bool, its anchors. centre: (K, D), no gradient.
        queues: `count` (K,) and `take(class, index) -> (n, D)`, see `banks.Queues`.
        present: (K,) bool. queries, negatives: Q and M. draws: instead of own ones.
    """
    found = candidates.sum(1)
    draws = draws or Draws(draw(found, queries), draw(queues.count, queries * negatives))
    use = present & (found > 0) & (queues.count > 0)
    anchors = features.index_select(0, nth(candidates, draws.anchors).flatten()).unflatten(0, (len(found), -1))
    total = features.new_zeros(())
    for k, anchor in enumerate(anchors):  # one class at a time: all negatives at once would be 21 times the memory
        negative = queues.take(k, draws.negatives[k]).unflatten(0, (queries, negatives))
        total = total + torch.where(use[k], info_nce(anchor, centre[k], negative, temperature), 0.0)
    classes = present.sum()
    return torch.where(classes > 1, total / classes.clamp(min=1), 0.0)
