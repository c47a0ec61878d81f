"""What an unsure classifier asks for: how doubtful an image is, and how a budget is spent in rounds (ALS4GAN)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
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
