"""Random choices that a step makes on the device."""

from __future__ import annotations

import torch
from torch import Tensor


def by_coin(masks: Tensor, chance: float = 0.5) -> Tensor:
    """The masks (B, H, W) bool with this chance, otherwise none at all: one throw for the whole batch."""
    return masks & (torch.rand((), device=masks.device) < chance)


def by_weight(weight: Tensor) -> Tensor:
    """(N,) one column of each row of weights (N, M), at least one of them above 0: drawn in proportion to them.

    The draw of `multinomial(1)` without its look at the weights, for which the host would wait for the device.
    """
    return (weight / torch.empty_like(weight).exponential_()).argmax(1)
