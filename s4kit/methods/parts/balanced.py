"""Clusters of equal size: k-means whose assignment is an optimal transport with equal shares (Sinkhorn)."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import float32

SHARPNESS = 0.02  # of the transport, as a share of the mean cost: smaller is harder, and slower to balance


@float32
def costs(points: Tensor, centres: Tensor) -> Tensor:
    """(n, K) squared distances between points (n, D) and centres (K, D)."""
    return points.square().sum(1)[:, None] - 2 * points @ centres.mT + centres.square().sum(1)


@float32
def prices(cost: Tensor, rounds: int = 50) -> Tensor:
    """(K,) what each centre charges, so that equally many points choose each of them by cost + price."""
    mean, price = cost.mean().clamp(min=1e-12), cost.new_zeros(cost.shape[1])
    wanted = len(cost) / cost.shape[1]
    for number in range(rounds):  # from a soft choice, whose prices are soon found, to a hard one
        scale = mean * max(SHARPNESS, 0.85**number)
        share = (-(cost + price) / scale).softmax(1).sum(0)
        price = price + scale * (share.clamp(min=1e-6) / wanted).log()
    return price


@float32
def equal_clusters(points: Tensor, k: int, generator: torch.Generator, rounds: int = 10) -> tuple[Tensor, Tensor]:
    """Centres (K, D) and prices (K,) of k clusters of nearly equal size of points (n, D); a point belongs to the centre
    of the least cost + price. With fewer points than clusters some centres stand on the same point."""
    first = torch.randperm(len(points), generator=generator)
    centres = points[first[torch.arange(k) % len(points)]]
    price = points.new_zeros(k)
    for _ in range(rounds if k > 1 else 1):
        cost = costs(points, centres)
        price = prices(cost) if k > 1 else price
        mine = torch.nn.functional.one_hot((cost + price).argmin(1), k).float()
        total = mine.sum(0)[:, None]
        centres = torch.where(total > 0, mine.mT @ points / total.clamp(min=1), centres)
    return centres, prices(costs(points, centres)) if k > 1 else price
