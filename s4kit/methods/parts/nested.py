"""Parts that are nested: labels of each level, probabilities merged from one level to the next; means over shapes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...data.points.clouds import lifted
from ...data.task import VOID
from .losses import ce_map
from .precision import float32


class Nested(nn.Module):
    """The levels of a task's parts, from coarse to fine, on the device of the method.

    Attributes:
        names: of the levels; of a task whose parts are not nested "parts" alone.
    """

    def __init__(self, task: Any) -> None:
        super().__init__()
        parents = task.parents or {"parts": tuple(range(task.num_classes))}
        self.names, every = list(parents), torch.arange(VOID + 1)
        for name, classes in parents.items():
            self.register_buffer(f"to_{name}", lifted(every, classes), persistent=False)
        for coarse, fine in self.steps:
            up = torch.zeros(max(parents[coarse]) + 1, max(parents[fine]) + 1)
            up[list(parents[coarse]), list(parents[fine])] = 1.0
            self.register_buffer(f"merge_{coarse}", up, persistent=False)

    @property
    def steps(self) -> list[tuple[str, str]]:
        """(coarser, finer) of each two neighbouring levels, the finest pair first."""
        return list(pairwise(self.names))[::-1]

    def labels(self, label: Tensor) -> dict[str, Tensor]:
        """(B, N) long by level, of the finest level's; 255 stays."""
        return {name: getattr(self, f"to_{name}")[label] for name in self.names}

    @float32
    def merged(self, p: Tensor, coarse: str) -> Tensor:
        """(B, K, N) probabilities of a level: sums of those (B, K', N) of the next finer one."""
        return getattr(self, f"merge_{coarse}") @ p


@float32
def shape_means(values: Tensor, counts: Tensor) -> Tensor:
    """(B,) the mean of (B, N) over the points of each shape that count, 0 where none does."""
    counts = counts.to(values.dtype)
    return (values * counts).sum(1) / counts.sum(1).clamp(min=1)


@float32
def per_shape_ce(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Cross entropy, its mean over the points of a shape, and of these the mean over the shapes that have a label.

    Args:
        logits: (B, K, N). label: (B, N) long, 255 = void. valid: (B, N), 0 where a point is cut away.
    """
    known = label != VOID
    means = shape_means(ce_map(logits, label), known * valid)
    labelled = known.any(1).to(means.dtype)
    return (means * labelled).sum() / labelled.sum().clamp(min=1)
