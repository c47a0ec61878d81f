"""Agents, pixels that stand for an image, and the order in which another pixel likes them (RankMatch).

B images, N pixels, D features, M agents, k! orderings of k of them.
"""

from __future__ import annotations

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32


@float32
@torch.no_grad()
def agents(features: Tensor, amount: int, first: Tensor) -> Tensor:
    """Pixels of each image that are as different from each other as can be, found greedily.

    Starting at `first`, the pixel is added whose largest |cosine| to those chosen so far is the smallest.

    Args:
        features: (B, N, D). amount: M, at most N. first: (B,) long.

    Returns:
        (B, M) positions in ascending order, all different.
    """
    unit = F.normalize(features, dim=2)
    closest, newest, found = unit.new_zeros(unit.shape[:2]), first[:, None], [first[:, None]]
    for _ in range(amount - 1):
        direction = unit.gather(1, newest[..., None].expand(-1, -1, unit.shape[2]))
        likeness = (unit @ direction.transpose(1, 2))[..., 0].abs()
        closest = torch.maximum(closest, likeness).scatter(1, newest, torch.inf)
        newest = closest.argmin(1, keepdim=True)
        found.append(newest)
    return torch.cat(found, 1).sort(1).values


@float32
def likings(features: Tensor, chosen: Tensor) -> Tensor:
    """(B, N, M): softmax over the agents of each pixel's dot products with the raw features at `chosen` (B, M)."""
    of_agents = features.gather(1, chosen[..., None].expand(-1, -1, features.shape[2]))
    return (features @ of_agents.transpose(1, 2)).softmax(2)


@float32
def rankings(liking: Tensor, top: Tensor, eps: float = 1e-10) -> Tensor:
    """Plackett-Luce probability of every ordering of some agents: the first is drawn by liking, then the next, ...

    Args:
        liking: (..., M). top: (..., k) long, the agents that are ordered.

    Returns:
        (..., k!), in the order of `itertools.permutations`; adds up to 1.
    """
    orders = torch.tensor(list(permutations(range(top.shape[-1])))).to(top.device, non_blocking=True)
    g = liking.gather(-1, top)
    in_order = g.index_select(-1, orders.flatten()).unflatten(-1, orders.shape)  # (..., k!, k)
    left = in_order.flip(-1).cumsum(-1).flip(-1)
    return (in_order / (left + eps)).prod(-1)


@float32
def ranking_kl(teacher: Tensor, student: Tensor, k: int, eps: float = 1e-10) -> Tensor:
    """KL from the student's orderings of the teacher's k best-liked agents to the teacher's.

    The mean is over pixels AND orderings, as released: k! times smaller than the divergence of a pixel.

    Args:
        teacher, student: (..., M) likings; no gradient into the teacher's.
    """
    teacher = teacher.detach()
    top = teacher.topk(min(k, teacher.shape[-1]), -1).indices
    r_w, r_s = rankings(teacher, top), rankings(student, top)
    return (torch.xlogy(r_w, r_w) - r_w * (r_s + eps).log()).mean()
