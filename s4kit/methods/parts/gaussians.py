"""Features that are diagonal Gaussians: a row (2 D,) holds D means, then D variances (PRCL, arXiv 2210.14670)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32
from .processes import over_processes
from .roles import among, tell


@float32
def mutual_likelihood(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """How likely two Gaussians are of the same feature: -1/2 mean over d of (m - m')^2 / (v + v') + log(v + v').

    The means are brought to unit length first. All arguments (..., D) that broadcast.
    """
    apart = F.normalize(mean, dim=-1) - F.normalize(other_mean, dim=-1)
    summed = variance + other_variance
    return -0.5 * (apart.square() / summed + summed.log()).mean(-1)


@float32
def likelihoods(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(Q, 1 + M): `mutual_likelihood` of each anchor with its positive and its negatives; a score of `info_nce`.

    Args:
        anchor: (Q, 2 D). positive: (2 D,) or (Q, 2 D). negative: (Q, M, 2 D).
    """
    own = anchor.chunk(2, -1)
    to_positive = mutual_likelihood(*own, *positive.chunk(2, -1))
    to_negative = mutual_likelihood(*(t[:, None] for t in own), *negative.chunk(2, -1))
    return torch.cat([to_positive[:, None], to_negative], 1)


def means(features: Tensor) -> Tensor:
    """(..., D) of (..., 2 D)."""
    return features.chunk(2, -1)[0]


@float32
@torch.no_grad()
def product(features: Tensor, mask: Tensor) -> Tensor:
    """(K, 2 D): for each class the Gaussian that is the normalised product of those of its pixels, in all processes.

    Precisions add up, so n equal Gaussians have 1/n of the variance, and a pixel of small variance counts more in the
    mean. An empty class has means of 0 and variances of 1.

    Args:
        features: (N, 2 D). mask: (K, N) bool.
    """
    mean, variance = features.chunk(2, -1)
    tell(lambda: {"positive": among(mean, mask)})
    precision = over_processes(mask.to(mean.dtype) @ variance.reciprocal())
    weighted = over_processes(mask.to(mean.dtype) @ (mean / variance))
    precision = torch.where(precision > 0, precision, 1.0)
    return torch.cat([weighted / precision, precision.reciprocal()], 1)
