"""Graphs between the pixels of an image: along the likeness of their features, and of their predictions (MLLC)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32


@float32
def balanced_graph(weight: Tensor) -> Tensor:
    """D^-1/2 W D^-1/2 of non-negative weights (B, n, n), D the sums of the rows; an isolated pixel stays isolated."""
    root = weight.sum(2).clamp(min=1e-12).rsqrt()
    return root[:, :, None] * weight * root[:, None, :]


@torch.no_grad()
@float32
def semantic_graph(features: Tensor, neighbours: int) -> Tensor:
    """(B, n, n) graph of the n = h w pixels by the cosines of their features (B, D, h, w).

    Each pixel has its nearest `neighbours` and itself, none of them opposed; the graph is made symmetric and balanced.
    """
    f = F.normalize(features.flatten(2), dim=1)
    likeness = (f.mT @ f).clamp(min=0)
    least = likeness.topk(min(neighbours + 1, likeness.shape[2]), dim=2).values[:, :, -1:]
    near = torch.where(likeness >= least, likeness, 0.0)
    return balanced_graph(near + near.mT)


@torch.no_grad()
@float32
def class_graph(corrected: Tensor, before: Tensor) -> Tensor:
    """(B, n, n) graph of the pixels by the cosines of their probabilities, between pixels of one class.

    Args:
        corrected: (B, C, h, w) logits whose probabilities are compared. before: (B, C, h, w), by whose argmax two
            pixels are of one class.
    """
    p, label = F.normalize(corrected.softmax(1).flatten(2), dim=1), before.argmax(1).flatten(1)
    return balanced_graph((p.mT @ p) * (label[:, :, None] == label[:, None, :]))


@float32
def spread(graph: Tensor, maps: Tensor) -> Tensor:
    """What each pixel of (B, C, h, w) maps gets along a graph (B, n, n)."""
    return (maps.flatten(2) @ graph.mT).view_as(maps)


@float32
def settled_pixels(logits: Tensor, seen: Tensor, level: float) -> Tensor:
    """(B, h, w) bool: pixels whose probability reaches `level`, or a share of it that is the less the rarer their class
    has been so far.

    Args:
        seen: (C,) how many sure pixels each class has had; all settled where there were none at all.
    """
    confidence, label = logits.softmax(1).max(1)
    share = seen.float() / seen.max().clamp(min=1e-12)
    return (confidence >= level) | (confidence >= level * share[label])
