"""How likely features are under a normalising flow, and which way leads to unlikely ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32

Flow = Callable[[Tensor], tuple[Tensor, Tensor]]


@float32
def component_log_prob(z: Tensor, means: Tensor) -> Tensor:
    """(N, K) log density of latents (N, D) under unit Gaussians around means (K, D).

    Squared distances by |z|^2 - 2 z m + |m|^2, which needs no (N, K, D); from the centre of the means, since what all
    have in common would only be cancelled.
    """
    centre = means.mean(0)
    z, m = z - centre, means - centre
    apart = z.square().sum(1, keepdim=True) - 2 * z @ m.mT + m.square().sum(1)
    return -(apart + z.shape[1] * math.log(2 * math.pi)) / 2


@float32
def log_prob(z: Tensor, means: Tensor, label: Tensor | None = None) -> Tensor:
    """(N,) log density of latents: of the own class's Gaussian, or of the even mixture where there is no label.

    Args:
        label: (N,) long in [0, K), or -1 for no label; None = nobody has one.
    """
    each = component_log_prob(z, means)
    mixture = each.logsumexp(1) - math.log(len(means))
    if label is None:
        return mixture
    own = each.gather(1, label.clamp(min=0)[:, None])[:, 0]
    return torch.where(label >= 0, own, mixture)


@float32
def nll(flow: Flow, means: Tensor, x: Tensor, label: Tensor | None = None) -> Tensor:
    """(N,) negative log density of vectors (N, D) under a flow to such latents."""
    z, logdet = flow(x)
    return -(log_prob(z, means, label) + logdet)


@float32
def density_descent(
    embed: Callable[[Tensor], Tensor], flow: Flow, means: Tensor, features: Tensor, kept: Tensor, length: float
) -> Tensor:
    """The change of features that makes their embedding less likely, of the same length at every place it reaches.

    Args:
        embed: features (B, F, h, w) to what the flow models, (B, D, h', w').
        features: a constant here.
        kept: (B, H, W) bool, whose likelihood counts; brought to (h', w') by nearest neighbour.
        length: L2 norm over the channels of each place.

    Returns:
        Like `features`, without gradient; 0 where no counting place is in reach.
    """
    noise = torch.zeros_like(features, requires_grad=True)
    with torch.enable_grad():
        g = embed(features.detach() + noise)
        counts = F.interpolate(kept[:, None].to(g.dtype), g.shape[-2:], mode="nearest").flatten()
        unlikely = nll(flow, means, g.movedim(1, -1).flatten(0, 2))
        mean = (unlikely * counts).sum() / counts.sum().clamp(min=1)
    return length * F.normalize(torch.autograd.grad(mean, noise)[0], dim=1)


def some_places(counts: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Up to `number` random ones of the places (N,) that count: (their indices, bool: whether each one counts)."""
    score = torch.rand_like(counts, dtype=torch.float32) * (counts > 0) + (counts > 0)
    index = score.topk(min(number, len(counts))).indices
    return index, counts[index] > 0
