"""Learned weights of features and of what a memory holds, and a distance that knows them (SemiSeg-Contrastive)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import float32


class Selectors(nn.Module):
    """A small network for each class that says how much a feature of it matters: linear, batch norm, LeakyReLU, linear.

    The norm's statistics are of the class's own rows in this call; none are kept.

    Args:
        classes, dim: K and D.
    """

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dim)
        shapes = {"first": (classes, dim, dim), "offset": (classes, 1, dim), "last": (classes, dim, 1)}
        for name, shape in (*shapes.items(), ("bias", (classes, 1, 1))):
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))
        self.gain, self.shift = nn.Parameter(torch.ones(classes, 1, dim)), nn.Parameter(torch.zeros(classes, 1, dim))

    @float32
    def forward(self, features: Tensor, real: Tensor) -> Tensor:
        """(K, Q) scores of (K, Q, D) features, of which `real` (K, Q) count."""
        x = standardised(features @ self.first + self.offset, real) * self.gain + self.shift
        return (F.leaky_relu(x, 0.2) @ self.last + self.bias)[..., 0]


def standardised(x: Tensor, real: Tensor, eps: float = 1e-5) -> Tensor:
    """(K, Q, D) with mean 0 and variance 1 over the real rows of each class."""
    mask = real[..., None].to(x.dtype)
    number = mask.sum(1, keepdim=True).clamp(min=1)
    apart = x - (x * mask).sum(1, keepdim=True) / number
    return apart / ((apart.square() * mask).sum(1, keepdim=True) / number + eps).sqrt()


@float32
def shares(score: Tensor, real: Tensor) -> Tensor:
    """(K, Q) sigmoid of the scores, divided by its mean over the real ones; 0 on the others."""
    s = score.sigmoid() * real
    return s * real.sum(1, keepdim=True) / s.sum(1, keepdim=True).clamp(min=1e-8)


@float32
def memory_distance(features: Tensor, real: Tensor, memory: Tensor, held: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mean over all K classes of the mean over pairs of a_i b_j (1 - cos(f_i, m_j)); 0 for a class with fewer than two
    features or rows.

    Args:
        features: (K, Q, D). memory: (K, M, D). real: (K, Q), held: (K, M) bool. a: (K, Q), b: (K, M), 0 where not.
    """
    apart = 1 - torch.einsum("kqd,kmd->kqm", F.normalize(features, dim=2), F.normalize(memory, dim=2))
    total = torch.einsum("kqm,kq,km->k", apart, a, b)
    n, m = real.sum(1), held.sum(1)
    return torch.where((n > 1) & (m > 1), total / (n * m).clamp(min=1), 0.0).sum() / len(total)
