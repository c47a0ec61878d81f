"""Telling where a prediction is wrong, and contrasting where it is not (ELN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32


@float32
def wrongness_loss(logit: Tensor, right: Tensor) -> Tensor:
    """Binary cross entropy of a map (B, H, W) that says where a prediction is right, wrong pixels together weighing as
    much as right ones; the mean over all pixels.

    Args:
        right: (B, H, W) bool.
    """
    right = right.float()
    factor = right.sum() / (1 - right).sum().clamp(min=1)
    loss = F.binary_cross_entropy_with_logits(logit, right, reduction="none")
    return (loss * torch.where(right > 0, 1.0, factor)).mean()


def held_back(loss: Tensor, main: Tensor, multiple: float) -> Tensor:
    """A decoder's loss, a scalar, while it is at least `multiple` times the main one, else 0: it is to stay the worse
    one."""
    return torch.where(loss >= multiple * main.detach(), loss, 0.0)


@float32
def pair_contrast(
    query: Tensor, key: Tensor, label: Tensor, valid: Tensor, classes: int, temperature: float = 0.5
) -> Tensor:
    """Features of valid pixels are drawn to those of their class, over all pairs of query and key at once.

        P_c, N_c = sums of exp(cos / T) between queries of c and valid keys of c, of other classes
        L = mean over the classes present of -log(P_c / (P_c + N_c)) / n_c,   n_c the pixels of c

    Args:
        query: (B, D, h, w), without gradient. key: (B, D, h, w). label: (B, h, w) long. valid: (B, h, w) bool.
    """
    q, k = (F.normalize(f, dim=1).movedim(1, -1).flatten(0, 2) for f in (query.detach(), key))
    member = F.one_hot(label.flatten(), classes).float() * valid.flatten()[:, None]
    likeness = (q @ k.mT / temperature).exp()
    between = member.mT @ likeness @ member  # (C, C), queries by keys
    same, number = between.diagonal(), member.sum(0)
    other = (between.sum(1) - same).clamp(min=1e-8)
    same = same.clamp(min=1e-8)
    loss = -(same / (same + other)).log() / number.clamp(min=1)
    present = number > 0
    return (loss * present).sum() / present.sum().clamp(min=1)
