"""What an unsure network asks for: images, and how a budget is spent in rounds (ALS4GAN); regions of images (S4AL)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import S4Error, closest

WAYS = ("margin", "entropy")


class Rounds(NamedTuple):
    """How a budget is spent: `first` images drawn blindly, then `count` times the `each` most doubtful ones."""

    first: int
    each: int
    count: int


def rounds_of(budget: int, alpha: float, beta: float) -> Rounds:
    """int(alpha n) images to begin with, ceil(beta of these) in each of ceil(n / each) rounds; one at least.

    Raises:
        S4Error: a share that is not within 0..1.
    """
    if not (0 < alpha <= 1 and 0 < beta <= 1):
        raise S4Error(f"alpha={alpha}, beta={beta}: shares of the budget and of the first images are within 0..1.")
    first = max(1, int(alpha * budget))
    each = math.ceil(beta * first)
    return Rounds(first, each, math.ceil(budget / each))


def doubt(logits: Tensor, by: str, single: bool) -> Tensor:
    """(B,) how unsure a classifier is of images, from its (B, T) logits of tags; the larger the sooner they are asked.

    Args:
        by: "margin", minus what the likeliest tag is ahead of the next; "entropy", in nats.
        single: an image has one tag of several (softmax), else any number of them: then it is the mean over tags of
            the margin and the entropy of there or not there.

    Raises:
        S4Error: unknown `by`.
    """
    if by not in WAYS:
        raise S4Error(f"by={by!r}. {closest(by, WAYS)}")
    p = logits.double().softmax(1) if single else logits.double().sigmoid()
    both = p[:, None] if single else torch.stack([p, 1 - p], 2)  # (B, decisions, outcomes)
    if by == "entropy":
        return -torch.special.xlogy(both, both).sum(2).mean(1)
    top = both.topk(2, dim=2).values
    return (top[..., 1] - top[..., 0]).mean(1)


# ---- regions ----


def cell_means(doubt: Tensor, side: int) -> Tensor:
    """(B, h, w) mean of a map (B, H, W) over the cells of a grid of `side` pixels; the last ones may be smaller."""
    return F.avg_pool2d(doubt[:, None], side, ceil_mode=True, count_include_pad=False)[:, 0]


def cells_asked(doubt: Tensor, side: int, count: int) -> Tensor:
    """(B, H, W) bool: the `count` cells of each image whose mean of a map (B, H, W) is the highest (S4AL)."""
    means = cell_means(doubt, side)
    best = means.flatten(1).topk(min(count, means[0].numel()), dim=1).indices
    chosen = torch.zeros_like(means, dtype=torch.bool).flatten(1).scatter_(1, best, True).view_as(means)
    whole = chosen.repeat_interleave(side, 1).repeat_interleave(side, 2)
    return whole[:, : doubt.shape[1], : doubt.shape[2]]
