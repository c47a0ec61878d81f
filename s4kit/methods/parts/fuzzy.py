"""Several positive classes per pixel: which, the loss that lifts them above the others, how clear they are (FPL)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32

CLARITY = ("none", "linear", "convex", "concave")


@float32
def amount(p: Tensor, threshold: float, most: int) -> Tensor:
    """(B, 1, H, W) long: how many classes of (B, K, H, W) probabilities are positive.

    One less than it takes to reach `threshold` together, at least 1, at most `most` and K - 1.
    """
    most = min(most, p.shape[1] - 1)
    together = p.topk(most, 1).values.cumsum(1)
    return 1 + (together[:, 1:] < threshold).sum(1, keepdim=True)


@float32
def set_loss(logits: Tensor, p: Tensor, number: Tensor) -> Tensor:
    """(B, H, W): log(1 + sum over positives of e^-z * sum over the others of e^z); cross entropy for one positive.

    Args:
        logits: (B, K, H, W) of the student. p: (B, K, H, W), whose `number` (B, 1, H, W) largest are positive.
    """
    order = p.argsort(1, descending=True)
    places = torch.arange(p.shape[1], device=p.device).view(1, -1, 1, 1).expand_as(order)
    positive = torch.empty_like(order).scatter_(1, order, places) < number
    low = torch.where(positive, -logits, -torch.inf).logsumexp(1)
    high = torch.where(positive, -torch.inf, logits).logsumexp(1)
    return F.softplus(low + high)


@float32
def clarity(p: Tensor, number: Tensor, kind: str) -> Tensor:
    """(B, H, W) in [0, 1]: how far the first class outside the set is below the mean of the set and itself.

    With n positives, m = the mean of the n + 1 largest probabilities and q the smallest of these: "none" 1, "linear"
    (m - q) / m, "convex" (m - q) / (m + q), "concave" log(1 + 50 (m - q)) / log(1 + 50 m).
    """
    ordered = p.sort(1, descending=True).values
    q = ordered.gather(1, number)[:, 0]
    m = ordered.cumsum(1).gather(1, number)[:, 0] / (number[:, 0] + 1)
    if kind == "linear":
        value = (m - q) / m
    elif kind == "convex":
        value = (m - q) / (m + q)
    elif kind == "concave":
        value = torch.log1p(50 * (m - q)) / torch.log1p(50 * m)
    else:
        value = torch.ones_like(m)
    return value.clamp(0, 1)


def with_value_of(term: Tensor, reference: Tensor) -> Tensor:
    """A scalar that has the value of `reference` and the direction of the gradient of `term`."""
    ratio = reference.detach() / term.detach().clamp(min=torch.finfo(term.dtype).tiny)
    return term * ratio
