"""Cross entropy that corrects itself: the surer a network is, the more it is judged by the reverse (SimpleBaseline)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .losses import ce_map
from .precision import float32

FLOOR = 1e-4  # what the reverse cross entropy takes for the probability of a class that is not the label


@float32
def reverse_ce_map(logits: Tensor, label: Tensor) -> Tensor:
    """(B, H, W) reverse cross entropy, -sum of p log(label as probabilities) = -log `FLOOR` (1 - p of the label); 0
    where the label is 255 (Wang et al., ICCV 2019)."""
    known = label < logits.shape[1]
    p = logits.softmax(1).gather(1, label.where(known, 0)[:, None])[:, 0]
    return known * -math.log(FLOOR) * (1 - p)


@float32
def trust(logits: Tensor, switch: float = 0.8) -> Tensor:
    """(B, H, W) weight of the reverse term: the network's confidence, 1 above the switch; without gradient."""
    confidence = logits.detach().softmax(1).amax(1)
    return torch.where(confidence > switch, 1.0, confidence)


@float32
def corrected_map(logits: Tensor, label: Tensor, weight: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """(B, H, W) alpha (1 - w) CE + beta w RCE; 0 where the label is 255."""
    return alpha * (1 - weight) * ce_map(logits, label) + beta * weight * reverse_ce_map(logits, label)
