"""Where in its class's cluster a feature lies: dense or sparse (DGCL, CVPR 2023), and a contrast that knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .contrast import nth
from .precision import float32


class Chosen(NamedTuple):
    """Some pixels of each class: `index` (K, n) long, `real` (K, n) bool, False where a class has no more."""

    index: Tensor
    real: Tensor


def spread(mask: Tensor, most: int) -> Chosen:
    """All pixels of each row of a (K, N) mask, or `most` of them, evenly from a random start."""
    count = mask.sum(1, keepdim=True)
    step = (count / most).clamp(min=1)
    rank = ((torch.arange(most, device=mask.device) + torch.rand((), device=mask.device)) * step).long()
    return Chosen(nth(mask, rank.clamp(max=mask.shape[1] - 1)), rank < count)


@float32
def density(features: Tensor, memory: Tensor, held: Tensor, scales: Sequence[int]) -> Tensor:
    """(M,) mean over the scales k of the mean of the k largest cosines to the memory, in [-1, 1].

    Args:
        features: (M, D). memory: (N, D), of which the first `held` (0-dim.) count; -inf where that are fewer than the
            largest k.
    """
    alike = F.normalize(features, dim=1) @ F.normalize(memory, dim=1).T
    alike = alike.masked_fill(torch.arange(len(memory), device=memory.device) >= held, -torch.inf)
    nearest = alike.topk(max(scales), dim=1).values
    return torch.stack([nearest[:, :k].mean(1) for k in scales]).mean(0)


@float32
def masked_contrast(
    anchor: Tensor, real: Tensor, positive: Tensor, negative: Tensor, real_negative: Tensor, temperature: float
) -> Tensor:
    """(K,) mean over the real anchors of -log of the positive's share among it and the real negatives.

    Args:
        anchor: (K, Q, D). real: (K, Q) bool. positive: (K, D). negative: (K, M, D), shared by a class's anchors.
            real_negative: (K, M) bool.
    """
    unit, near, far = (F.normalize(t, dim=-1) for t in (anchor, positive, negative))
    to_negative = torch.einsum("kqd,kmd->kqm", unit, far).masked_fill(~real_negative[:, None], -torch.inf)
    logits = torch.cat([torch.einsum("kqd,kd->kq", unit, near)[..., None], to_negative], 2) / temperature
    loss = -logits.log_softmax(2)[..., 0]
    return (loss * real).sum(1) / real.sum(1).clamp(min=1)
